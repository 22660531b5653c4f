"""One bake of a channel at a time, whatever machines they run on: a lock in one SSM parameter.

SSM has no conditional write, but it gives every write of a parameter a version number of its own. So each write names
the version that its writer had read (`after`), and counts only if its own version is the next one. Of two writers that
read the same version one gets the next number and has the lock; the other's write does not count, whoever looks at it
and whatever becomes of its writer. The state of the lock is that of the newest write that counts. The parameter is made
once and never deleted, for its versions would begin again.
"""

from __future__ import annotations

import getpass
import json
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import botocore.exceptions

from gpunodes.aws import Clients, aws_errors
from gpunodes.errors import AwsError, GpunodesError, PreflightError, UsageError
from gpunodes.operation import runs

_CHANNEL = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_NOT_PLAIN = re.compile(r"[^\w.@:/+=,-]", re.ASCII)
_MOST_CHARACTERS = 200  # of each name: a standard parameter holds 4 KiB
_MOST_TRIES = 20
_FREE_BY_HAND = """'{"free": true}'"""


@dataclass(frozen=True)
class LockOwner:
    """Who has a lock.

    Attributes:
        run_id: of the bake; no two bakes have the same.
        who: the user's name, for people.
        host: the machine's name, for people.
    """

    run_id: str
    who: str
    host: str

    @classmethod
    def of(cls, run: runs.Run) -> LockOwner:
        """This user on this machine."""
        try:
            who = getpass.getuser()
        except (KeyError, OSError):  # a container's user may have no name
            who = "somebody"
        return cls(run.run_id, who, socket.gethostname())


@dataclass(frozen=True)
class LockState:
    """What a lock says.

    Attributes:
        version: of the parameter when it was read; 0 where there is none.
        owner: None where the lock is free.
        taken_at: UTC.
        expires_at: UTC; afterwards anybody may take the lock.
    """

    version: int
    owner: LockOwner | None = None
    taken_at: datetime | None = None
    expires_at: datetime | None = None


def _never(_run_id: str) -> bool:
    return False


@dataclass(frozen=True)
class ChannelLock:
    """The lock of a channel, as one bake sees it.

    Attributes:
        clients: of the target (SSM GetParameter, PutParameter, AddTagsToResource).
        channel: such as `stable`.
        owner: this bake.
        expires_at: UTC; this bake is surely over by then.
        say: told when somebody else's lock is taken over.
        has_ended: whether a run that holds the lock is known to be over, so that nobody needs to wait for it.
        clock: UTC.
    """

    clients: Clients
    channel: str
    owner: LockOwner
    expires_at: datetime
    say: Callable[[str], None]
    has_ended: Callable[[str], bool] = _never
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    @property
    def name(self) -> str:
        """The parameter's."""
        return f"/gpunodes/{self.channel}/lock"

    def acquire(self) -> None:
        """Take the lock; taking it twice is no error.

        Raises:
            UsageError: the channel's name cannot be part of a parameter's.
            PreflightError: another bake has it.
            AwsError: SSM refused, or too many bakes want it at the same time.
        """
        if not _CHANNEL.fullmatch(self.channel):
            raise UsageError(
                f"`{self.channel}` cannot be a channel; use up to 64 letters, digits, dots, hyphens and underscores."
            )
        for _ in range(_MOST_TRIES):
            state = self.read()
            if self._is_ours(state):
                return
            self._require_free(state)
            if self._write(state, self._taken(self.expires_at)):
                return
        raise self._contended()

    def extend(self, life: timedelta) -> None:
        """Keep the lock for so long from now on; what another run has taken over meanwhile is not taken back.

        Raises:
            GpunodesError: it is not ours any more.
            AwsError: SSM refused, or too many bakes want it at the same time.
        """
        for _ in range(_MOST_TRIES):
            state = self.read()
            if not self._is_ours(state):
                raise GpunodesError(
                    f"This run took so long that another one has channel `{self.channel}` now; nothing was promoted,"
                    " run it again."
                )
            if self._write(state, self._taken(self.clock() + life)):
                return
        raise self._contended()

    def release(self) -> None:
        """Free the lock if it is ours; one that was never ours, or is no more, is left alone.

        Raises:
            AwsError: SSM refused, or too many bakes want it at the same time.
        """
        for _ in range(_MOST_TRIES):
            state = self.read()
            if not self._is_ours(state) or self._write(state, {"free": True}):
                return
        raise self._contended()

    def is_held(self) -> bool:
        """Whether the lock is ours now; a bake that outlived its lock may have lost it to another."""
        return self._is_ours(self.read())

    def read(self) -> LockState:
        """What the lock says now: the newest write that counts.

        Raises:
            PreflightError: somebody wrote something else there.
            AwsError: SSM refused.
        """
        with aws_errors(f"reading the lock of channel {self.channel}"):
            newest = self._get(self.name)
            found, version = newest, int(newest["Version"]) if newest else 0
            while found is not None:
                content, before = self._parsed(found["Value"]), int(found["Version"]) - 1
                if content.get("after", before) == before:
                    return _state(version, content)
                found = self._get(f"{self.name}:{before}") if before else None
                if before and found is None:  # SSM keeps the newest hundred
                    raise self._unreadable()
        return LockState(version)

    def _is_ours(self, state: LockState) -> bool:
        return state.owner is not None and state.owner.run_id == self.owner.run_id

    def _require_free(self, state: LockState) -> None:
        if state.owner is None or state.expires_at is None:
            return
        owner, channel = state.owner, f"Channel `{self.channel}`"
        until = f"{state.expires_at:%H:%M} UTC"
        if self.has_ended(owner.run_id):
            self.say(f"{channel} was locked by run {owner.run_id}, which was killed; taking the lock over")
        elif state.expires_at <= self.clock():
            self.say(
                f"{channel} was locked by run {owner.run_id} ({owner.who}@{owner.host}) until {until}, which is over;"
                " taking the lock over"
            )
        else:
            raise PreflightError(
                f"{channel} is being baked by run {owner.run_id} ({owner.who}@{owner.host}) until {until} at the"
                " latest; wait for it, or bake another channel."
            )

    def _taken(self, expires_at: datetime) -> dict[str, Any]:
        return {
            "run_id": self.owner.run_id,
            "who": _plain(self.owner.who),
            "host": _plain(self.owner.host),
            "taken_at": _text(self.clock()),
            "expires_at": _text(expires_at),
        }

    def _write(self, state: LockState, content: dict[str, Any]) -> bool:
        """Write after what was read; whether it counts."""
        value = json.dumps({**content, "after": state.version})
        place: dict[str, Any] = {"Name": self.name, "Value": value, "Type": "String"}
        with aws_errors(f"writing the lock of channel {self.channel}"):
            try:
                if state.version == 0:
                    tags = [{"Key": "gpunodes", "Value": "true"}]
                    answer = self.clients.ssm.put_parameter(**place, Overwrite=False, Tags=tags)
                else:
                    answer = self.clients.ssm.put_parameter(**place, Overwrite=True)
            except botocore.exceptions.ClientError as error:
                if error.response["Error"]["Code"] in {"ParameterAlreadyExists", "TooManyUpdates"}:
                    return False  # somebody was first
                raise
        return int(answer["Version"]) == state.version + 1

    def _get(self, name: str) -> Any:
        """A version of the parameter; None where it is not there."""
        try:
            return self.clients.ssm.get_parameter(Name=name)["Parameter"]
        except botocore.exceptions.ClientError as error:
            if error.response["Error"]["Code"] in {"ParameterNotFound", "ParameterVersionNotFound"}:
                return None
            raise

    def _parsed(self, value: str) -> dict[str, Any]:
        try:
            content = json.loads(value)
            _state(0, content)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise self._unreadable() from error
        return dict(content)

    def _unreadable(self) -> PreflightError:
        return PreflightError(
            f"The lock of channel `{self.channel}` cannot be read; if nobody bakes it, put {_FREE_BY_HAND} into the"
            f" SSM parameter {self.name}."
        )

    def _contended(self) -> AwsError:
        return AwsError(f"Too many bakes want the lock of channel `{self.channel}` at once; repeat in a minute.")


def _state(version: int, content: dict[str, Any]) -> LockState:
    if content.get("free"):
        return LockState(version)
    owner = LockOwner(content["run_id"], content["who"], content["host"])
    return LockState(version, owner, _time(content["taken_at"]), _time(content["expires_at"]))


def _plain(name: str) -> str:
    """A name without what SSM or JSON would have to escape (`{{` refers to another parameter there)."""
    return _NOT_PLAIN.sub("_", name)[:_MOST_CHARACTERS]


def _text(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _time(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
