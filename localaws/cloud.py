"""The face of the offline cloud: up, down, status, env."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from localaws import base_image, preflight
from localaws.cgroups import ControlGroups
from localaws.commands import Process, start_daemon, wait
from localaws.errors import AlreadyUpError, LocalAwsError, NotUpError
from localaws.layout import (
    ACCESS_KEY_ID,
    HOST_LINK,
    REGION,
    SECRET_ACCESS_KEY,
    SUBNET_CIDR,
    Layout,
)

_START_SECONDS = 60.0
_STOP_SECONDS = 40.0


@dataclass(frozen=True)
class Facts:
    """What a client needs to know of the cloud that is up.

    Attributes:
        process_id: of the daemon.
        endpoint_url: the API for every service, on loopback.
        base_image_id: the AMI to bake from.
        subnet_id: the only subnet whose instances get machines.
        downloads_url: where instances find the CloudWatch agent's package.
        downloads_key_fingerprint: of the key that signed it.
    """

    process_id: int
    endpoint_url: str
    base_image_id: str
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


def base_image_id() -> str:
    """The AMI id of the base image: made of its digest, so a changed base has another id."""
    return f"ami-{base_image.digest()[:17]}"


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
    if _is_locked(layout):
        raise AlreadyUpError("The offline cloud is up already; look with `invoke offline.status`.")
    _clean_up(layout)
    preflight.check(layout)
    base_image.ensure(layout.cache, say)
    layout.run.mkdir(parents=True)
    daemon = _start(layout)
    try:
        return _wait_until_ready(layout, daemon)
    except BaseException:
        if daemon.poll() is None:
            daemon.terminate()
            wait(daemon, _STOP_SECONDS)
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
    _clean_up(layout)
    return was_up


def facts(layout: Layout) -> Facts:
    """What the running cloud's clients need.

    Raises:
        NotUpError: it is not up.
    """
    if not _is_locked(layout) or not layout.daemon_facts.exists():
        raise NotUpError("The offline cloud is not up; start it with `invoke offline.up`.")
    return Facts(**json.loads(layout.daemon_facts.read_text()))


def machines(layout: Layout) -> list[dict[str, str]]:
    """The instances' machines: `instance_id`, `image_id`, `instance_type`, `address`, `state`."""
    path = layout.run / "machines.json"
    rows: list[dict[str, str]] = json.loads(path.read_text()) if path.exists() else []
    return rows


def environment(facts_: Facts) -> dict[str, str]:
    """Environment variables that lead any AWS client to this cloud and nowhere else."""
    return {
        "AWS_ENDPOINT_URL": facts_.endpoint_url,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
        "AWS_SESSION_TOKEN": "",
        "AWS_PROFILE": "",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def write_facts(layout: Layout, facts_: Facts) -> None:
    """Called by the daemon when every part answers."""
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
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _start(layout: Layout) -> Process:
    with layout.lock.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AlreadyUpError("The offline cloud is being started by somebody else; wait for it.") from error
        os.set_inheritable(lock.fileno(), True)
        return start_daemon(
            ["unshare", "--mount", "--propagation=private", sys.executable, "-m", "localaws.daemon"],
            log=layout.daemon_log,
            cwd=Path(__file__).parents[1],
            env={"LOCALAWS_STATE": str(layout.state)},
            kept_open=(lock.fileno(),),
        )


def _wait_until_ready(layout: Layout, daemon: Process) -> Facts:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if layout.daemon_facts.exists():
            return facts(layout)
        if daemon.poll() is not None:
            break
        time.sleep(0.05)
    lines = layout.daemon_log.read_text(errors="replace").strip().splitlines() or ["it printed nothing"]
    raise LocalAwsError(f"The offline cloud did not start: {lines[-1]}")


def _end_daemon(layout: Layout) -> None:
    process_id = _lock_owner(layout)
    if process_id is None:
        return
    os.kill(process_id, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    while _is_locked(layout):
        if time.monotonic() > deadline:
            raise LocalAwsError(f"The offline cloud does not stop; end process {process_id} and try again.")
        time.sleep(0.05)


def _lock_owner(layout: Layout) -> int | None:
    if layout.daemon_facts.exists():
        return Facts(**json.loads(layout.daemon_facts.read_text())).process_id
    return None


def _clean_up(layout: Layout) -> None:
    """Remove what a daemon left, killed or not: mounts and namespaces died with it, groups and files remain."""
    groups = ControlGroups(layout.control_group)
    for process_id in groups.process_ids():
        os.kill(process_id, signal.SIGKILL)
    groups.remove()
    if layout.run.exists():
        shutil.rmtree(layout.run)
