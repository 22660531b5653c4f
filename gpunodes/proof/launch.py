"""A test instance: made by Terraform from an image, reached by SSH, destroyed with all that belongs to its run."""

from __future__ import annotations

import shlex
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from gpunodes.aws import Clients
from gpunodes.cleanup import leftovers
from gpunodes.cleanup.resource_kinds import KINDS
from gpunodes.connection.instance_connect import InstanceConnect
from gpunodes.connection.key_pair import KeyPair
from gpunodes.errors import AwsError, PreflightError, ToolError
from gpunodes.operation import runs
from gpunodes.operation.runs import Run
from gpunodes.operation.steps import Progress
from gpunodes.proof import capacity, terraform
from gpunodes.proof.remote import Remote
from gpunodes.settings import KEY_PAIR, REPOSITORY, Settings
from gpunodes.target import Target

STACK_FOLDER = REPOSITORY / "terraform" / "stacks" / "test-instance"
_SSH_SECONDS = 180.0
_POLL_SECONDS = 0.5
_BOOT_ID = "cat /proc/sys/kernel/random/boot_id"


@dataclass(frozen=True)
class Wish:
    """How somebody wants a proof to be made.

    Attributes:
        spot: on a spot instance.
        zone: availability zone; empty for any, and for that of the subnet where one is set.
        keep: leave the instance running when all is done.
        tag: let the verdict become the image's tag.
    """

    spot: bool = False
    zone: str = ""
    keep: bool = False
    tag: bool = True


@dataclass
class TestInstance:
    """The instance of one run.

    Attributes:
        target: where it runs.
        settings: folders.
        run: names and tags everything.
        clients: of the target.
        progress: told what Terraform does.
        ssh_username: user of the image that may sudo.
        started_at: UTC, just before the launch; no datapoint of it is older.
        outputs: Terraform's, empty before the launch.
        destroyed: once it is, the kinds of things that AWS was asked for, and what was left of them.
    """

    __test__ = False  # for pytest, which would take the name for a test

    target: Target
    settings: Settings
    run: Run
    clients: Clients
    progress: Progress
    ssh_username: str = ""
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    outputs: dict[str, Any] = field(default_factory=dict)
    destroyed: dict[str, Any] = field(default_factory=dict)
    _public_key: str = ""
    _remote: Remote | None = None

    @property
    def instance_id(self) -> str:
        """EC2's id; empty before the launch."""
        return str(self.outputs.get("instance_id", ""))

    @property
    def remote(self) -> Remote:
        """The open connection.

        Raises:
            ToolError: there is none yet.
        """
        if self._remote is None:
            raise ToolError("The instance was asked before it was connected; run the steps in their order.")
        return self._remote

    @property
    def _key_pair(self) -> KeyPair:
        return KeyPair.of(self.run)

    @property
    def _is_imported(self) -> bool:
        return self.settings.ssh_key == KEY_PAIR

    def make_key(self) -> None:
        """Make the run's SSH key; import it into EC2 where no other way leads to the instance."""
        pair = self._key_pair
        self._public_key = pair.import_into(self.clients, self.run) if self._is_imported else pair.make()

    def delete_key(self) -> None:
        """Delete it."""
        if self._is_imported:
            self._key_pair.delete_from(self.clients)
        else:
            self._key_pair.forget()

    def leave_key(self) -> None:
        """Let the run's key in for good: for a person who logs in to an instance that is kept.

        Raises:
            ToolError: the connection broke.
        """
        key, file = shlex.quote(self._public_key), "~/.ssh/authorized_keys"
        self.remote.run(f"umask 077; mkdir -p ~/.ssh; grep -qsF {key} {file} || echo {key} >>{file}")

    def launch(self, ami_id: str, instance_type: str, wish: Wish) -> None:
        """Apply the stack.

        Args:
            ami_id: the image.
            instance_type: of the instance.
            wish: how it is launched.

        Raises:
            ToolError: Terraform failed, or AWS has no capacity.
        """
        self.started_at = datetime.now(UTC)
        stack = stack_of(self.target, self.settings, self.run, self.progress)
        variables = {
            "region": self.target.region,
            "run_id": self.run.run_id,
            "ami_id": ami_id,
            "instance_type": instance_type,
            "key_name": self._key_pair.name if self._is_imported else None,
            "subnet_id": self.target.subnet_id or None,
            "availability_zone": wish.zone or None,
            "spot": wish.spot,
            "tags": runs.tags(self.run) if wish.keep else runs.temporary_tags(self.run),
        }
        try:
            self.outputs = stack.apply(variables)
        except ToolError as error:
            if not capacity.is_lacking(str(error)):
                raise
            raise ToolError(capacity.sentence(instance_type, str(error), stack.log)) from error

    def destroy(self) -> None:
        """Destroy it and whatever else carries the run's id, and ask AWS whether anything is left.

        Raises:
            AwsError: something is, or AWS does not say.
        """
        left = destroy_run(self.target, self.settings, self.clients, self.run, self.progress)
        self.destroyed = {"verified": not left, "asked": [kind.name for kind in KINDS], "left": left}
        require_nothing_left(self.run, left)

    def connect(self) -> None:
        """Wait until SSH lets us in and cloud-init has finished.

        Raises:
            ToolError: it does not within three minutes.
            AwsError: the run's key may not be pushed to it.
        """
        self._remote = Remote(
            self.outputs["private_ip"],
            self.ssh_username,
            self._key_pair.private_key,
            self._proxy_command,
            None if self._is_imported else self._instance_connect().admit,
        )
        self._remote.connect(_SSH_SECONDS)
        self.progress.detail("waiting for cloud-init")
        self._remote.run("cloud-init status --wait >/dev/null || true")

    def _instance_connect(self) -> InstanceConnect:
        api = self.clients.client("ec2-instance-connect")
        return InstanceConnect(api, self.instance_id, self.ssh_username, self._public_key)

    def beside(self, outputs: dict[str, Any]) -> TestInstance:
        """Another instance of the same run, not connected yet."""
        return replace(self, outputs=outputs, destroyed={}, _remote=None)

    def reboot(self) -> None:
        """Boot again and connect again.

        Raises:
            ToolError: it does not come back within three minutes.
        """
        # It answers until it goes down: only another boot id says that it has been down.
        before = self.remote.run(_BOOT_ID)
        with suppress(ToolError):  # the connection breaks while the command still runs
            self.remote.run("sudo systemctl reboot")
        deadline = time.monotonic() + _SSH_SECONDS
        while self._boot_id() in {"", before}:
            if time.monotonic() > deadline:
                raise ToolError("The instance did not come back from a reboot; look at its console output.")
            time.sleep(_POLL_SECONDS)
        self.progress.detail("waiting for cloud-init")
        self.remote.run("cloud-init status --wait >/dev/null || true")

    def _boot_id(self) -> str:
        """Empty where the instance does not answer."""
        try:
            return self.remote.run(_BOOT_ID)
        except ToolError:
            self.remote.close()
            return ""

    @property
    def ssh_command(self) -> str:
        """What a person types to log in."""
        proxy = f'-o ProxyCommand="{self._proxy_command}" ' if self._proxy_command else ""
        return f"ssh {proxy}-i {self._key_pair.private_key} {self.ssh_username}@{self.outputs['private_ip']}"

    @property
    def _proxy_command(self) -> str:
        return self.target.ssh_proxy_command.format(instance_id=self.instance_id, region=self.target.region)

    def disconnect(self) -> None:
        """Close the connection."""
        if self._remote is not None:
            self._remote.close()


def check_connection_tools(target: Target) -> None:
    """What the target's SSH connection needs on this machine.

    Raises:
        PreflightError: a program is missing.
    """
    if not target.ssh_proxy_command:
        return
    for tool in ("aws", "session-manager-plugin"):
        if shutil.which(tool) is None:
            raise PreflightError(
                f"`{tool}` is not installed; test instances have no ingress and are reached through it."
            )


def stack_of(target: Target, settings: Settings, run: Run, progress: Progress) -> terraform.Stack:
    """The test instance's stack of a run."""
    environment = {**target.environment, **terraform.cli_environment(settings.cache_folder / "terraform")}
    return terraform.Stack(STACK_FOLDER, run.folder / "terraform", environment, progress.detail)


def destroy_run(target: Target, settings: Settings, clients: Clients, run: Run, progress: Progress) -> list[str]:
    """Destroy what a run made; returns what AWS still has of it then.

    Terraform goes first, for it knows the order. Whatever it cannot do is done through the API, by the run's id: its
    state may be torn, or miss what was made when it was killed.

    Raises:
        AwsError: a call was refused, or an instance does not end.
    """
    leftovers.terminate_instances(clients, run.run_id)  # it shuts down while Terraform looks around
    stack = stack_of(target, settings, run, progress)
    try:
        stack.destroy()
    except ToolError as error:
        progress.say(f"{str(error).rstrip('.')}; removing what carries the run's id through the API instead")
    leftovers.remove_all(clients, run.run_id)
    KeyPair.of(run).forget()
    progress.detail("asking AWS what is left")
    left = [f"{found.kind} {found.id}" for found in leftovers.of_run(clients, run.run_id)]
    if not left:
        stack.forget()
    return left


def require_nothing_left(run: Run, left: list[str]) -> None:
    """That AWS has nothing of a run any more.

    Raises:
        AwsError: it has.
    """
    if left:
        raise AwsError(f"Destroyed, but AWS still has {', '.join(left)} of run {run.run_id}; try again.")


def destroy_command(target: Target, run_id: str) -> str:
    """What a person types to remove what a run left."""
    return f"invoke destroy {'--offline ' if target.name == 'offline' else ''}--run {run_id}"
