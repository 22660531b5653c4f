"""The face of the offline cloud: up, down, status, env."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from localaws import base_image, preflight
from localaws.cgroups import ControlGroups
from localaws.commands import start_daemon
from localaws.errors import AlreadyUpError, LocalAwsError, NothingToPublishError, NotUpError
from localaws.layout import (
    ACCESS_KEY_ID,
    HOST_LINK,
    REGION,
    SECRET_ACCESS_KEY,
    SUBNET_CIDR,
    Layout,
)

_PROFILE = "localaws"  # in profile.conf
_NOT_PROXIED = f"127.0.0.1,localhost,{SUBNET_CIDR}"
_START_SECONDS = 60.0
_STOP_SECONDS = 40.0


@dataclass(frozen=True)
class Facts:
    """What a client needs to know of the cloud that is up.

    Attributes:
        process_id: of the daemon.
        endpoint_url: the API for every service, on loopback.
        base_image_id: the AMI to bake from: the latest release that is published.
        base_parameter: the SSM parameter that names it.
        next_base_image_id: the release that is not published yet; empty once it is.
        subnet_id: the only subnet whose instances get machines.
        downloads_url: where instances find the CloudWatch agent's package.
        downloads_key_fingerprint: of the key that signed it.
    """

    process_id: int
    endpoint_url: str
    base_image_id: str
    base_parameter: str
    next_base_image_id: str
    subnet_id: str
    downloads_url: str
    downloads_key_fingerprint: str

    def parts(self) -> list[tuple[str, str]]:
        """Each part and where it is, for people."""
        return [
            ("API (moto)", f"{self.endpoint_url}  region {REGION}"),
            ("instances", f"{SUBNET_CIDR}  subnet {self.subnet_id}, reached through {HOST_LINK}"),
            ("metadata service", "http://169.254.169.254  version 2, seen by instances only"),
            (
                "downloads",
                f"{self.downloads_url}  CloudWatch agent stand-in, key …{self.downloads_key_fingerprint[-8:]}",
            ),
            ("base image", f"{self.base_image_id}  Debian 12 with a simulated NVIDIA driver"),
        ]


def up(layout: Layout, say: Callable[[str], None]) -> Facts:
    """Start the offline cloud, after a crash too.

    Args:
        layout: the state folder.
        say: told in a sentence what takes longer.

    Raises:
        AlreadyUpError: it is up.
        PreflightError: root, a tool, disk, a port or the network is missing; nothing was changed.
        LocalAwsError: a part did not start; what it printed is in the message.
    """
    preflight.check_root()
    with _locked(layout) as lock:
        _clean_up(layout)
        preflight.check(layout)
        base_image.ensure(layout.cache, say)
        layout.run.mkdir(parents=True)
        _start(layout, lock)
    try:
        return _wait_until_ready(layout)
    except BaseException:
        _end_daemon(layout)
        _clean_up(layout)
        raise


def down(layout: Layout) -> bool:
    """Stop the offline cloud and remove everything but the cache; False where it was not up.

    Raises:
        LocalAwsError: the daemon does not end.
    """
    preflight.check_root()
    was_up = _is_locked(layout)
    if was_up:
        _end_daemon(layout)
    with _locked(layout):
        _clean_up(layout)
    return was_up


def facts(layout: Layout) -> Facts:
    """What the running cloud's clients need.

    Raises:
        NotUpError: it is not up.
        PreflightError: this is not root.
    """
    preflight.check_root()
    if not _is_locked(layout) or not layout.daemon_facts.exists():
        raise NotUpError("The offline cloud is not up; start it with `invoke offline.up`.")
    return read_facts(layout)


def read_facts(layout: Layout) -> Facts:
    """The same, where it is known that it is up."""
    return Facts(**json.loads(layout.daemon_facts.read_text()))


def publish_base(layout: Layout) -> Facts:
    """Let the next release of the base image be the latest, as its publisher would.

    Raises:
        NotUpError: the cloud is not up.
        NothingToPublishError: the newest is published already.
    """
    known = facts(layout)
    if not known.next_base_image_id:
        raise NothingToPublishError(
            f"{known.base_image_id} is the newest base image there is; start again with `invoke offline.down`."
        )
    newer = replace(known, base_image_id=known.next_base_image_id, next_base_image_id="")
    write_facts(layout, newer)
    return newer


def machines(layout: Layout) -> list[dict[str, str]]:
    """The instances' machines: `instance_id`, `image_id`, `instance_type`, `address`, `state`."""
    path = layout.run / "machines.json"
    rows: list[dict[str, str]] = json.loads(path.read_text()) if path.exists() else []
    return rows


def environment(facts_: Facts) -> dict[str, str]:
    """Environment variables that lead any AWS client to this cloud and nowhere else."""
    # The endpoint of one service would win over that of all.
    per_service = {name: facts_.endpoint_url for name in os.environ if name.startswith("AWS_ENDPOINT_URL_")}
    return {
        **per_service,
        "AWS_ENDPOINT_URL": facts_.endpoint_url,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
        "AWS_SESSION_TOKEN": "",
        # The API is on this machine: no proxy may see what goes there.
        "NO_PROXY": _NOT_PROXIED,
        "no_proxy": _NOT_PROXIED,
        # boto3 takes neither an empty name nor one that its file does not have.
        "AWS_PROFILE": _PROFILE,
        "AWS_DEFAULT_PROFILE": _PROFILE,
        "AWS_CONFIG_FILE": str(Path(__file__).with_name("profile.conf")),
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "false",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def write_facts(layout: Layout, facts_: Facts) -> None:
    """Called by the daemon when every part answers, and where a base image is published."""
    write_json(layout.daemon_facts, asdict(facts_))


def write_json(path: Path, document: Any) -> None:
    """Write so that a reader sees the old document or the new one, never half of it."""
    unfinished = path.with_suffix(".new")
    unfinished.write_text(json.dumps(document, indent=2))
    unfinished.rename(path)


def _is_locked(layout: Layout) -> bool:
    """Whether a daemon lives: it inherited the lock and holds it until its last breath."""
    if not layout.lock.exists():
        return False
    with layout.lock.open("r") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two who look do not take each other for a daemon
        except BlockingIOError:
            return True
    return False


@contextmanager
def _locked(layout: Layout) -> Iterator[int]:
    """Hold the lock, from before anything is changed: a second `up` must not clean up what the first one makes."""
    layout.state.mkdir(parents=True, exist_ok=True)
    layout.state.chmod(0o700)  # it holds setuid programs of other systems: nobody but root may reach them
    with layout.lock.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            message = "The offline cloud is up already, or being started; look with `invoke offline.status`."
            raise AlreadyUpError(message) from error
        yield lock.fileno()


def _start(layout: Layout, lock: int) -> None:
    """Start the daemon, which inherits the lock.

    It is the first process of a PID namespace: when it ends, however it ends, the kernel kills every machine with it.
    """
    namespaces = ["--mount", "--propagation=private", "--pid", "--fork", "--kill-child=KILL"]
    start_daemon(
        ["unshare", *namespaces, sys.executable, "-m", "localaws.daemon"],
        log=layout.daemon_log,
        cwd=Path(__file__).parents[1],
        env={"LOCALAWS_STATE": str(layout.state)},
        kept_open=(lock,),
    )


def _wait_until_ready(layout: Layout) -> Facts:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if layout.daemon_facts.exists():
            return facts(layout)
        if not _is_locked(layout):
            break
        time.sleep(0.05)
    lines = layout.daemon_log.read_text(errors="replace").strip().splitlines() or ["it printed nothing"]
    raise LocalAwsError(f"The offline cloud did not start: {lines[-1]}")


def _end_daemon(layout: Layout) -> None:
    """Ask the daemon to end, and wait until it has; its last act is to let go of the lock."""
    deadline = time.monotonic() + _STOP_SECONDS
    asked = False
    while _is_locked(layout):
        if not asked and layout.daemon_process_id.exists():
            with suppress(ProcessLookupError):  # it is ending already
                os.kill(int(layout.daemon_process_id.read_text()), signal.SIGTERM)
            asked = True
        if time.monotonic() > deadline:
            raise LocalAwsError(f"The offline cloud does not stop; end its process, see {layout.daemon_log}.")
        time.sleep(0.05)


def _clean_up(layout: Layout) -> None:
    """Remove what a daemon left, killed or not: mounts and namespaces died with it, groups and files remain."""
    groups = ControlGroups(layout.control_group)
    groups.kill()
    groups.remove()
    if layout.run.exists():
        shutil.rmtree(layout.run)
