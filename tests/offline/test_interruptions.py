"""Whatever ends a bake, and wherever: nothing that it made stays, at once or after `invoke reap`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gpunodes.operation import journal
from tests.offline.api_proxy import ApiProxy, before_the_api
from tests.offline.conftest import REPOSITORY, RUNS, Cloud, left, parse, run_invoke, wait_until

# One call of each step of a bake: the lock, the key, the way in, Packer's own, the seal.
CALLS = [
    "PutParameter",
    "ImportKeyPair",
    "CreateSecurityGroup",
    "RunInstances",
    "StopInstances",
    "CreateImage",
    "DescribeSnapshotAttribute",
]


@pytest.fixture
def proxy(cloud: Cloud) -> Iterator[ApiProxy]:
    with before_the_api(cloud.layout) as api:
        yield api


@dataclass
class Bake:
    """A bake that goes on, and what becomes of it."""

    process: subprocess.Popen[str]
    known: set[Path]
    errors: str = ""
    done: list[str] = field(default_factory=list)

    @property
    def run_id(self) -> str:
        [folder] = set(RUNS.iterdir()) - self.known
        return folder.name

    def wait(self, seconds: float = 240) -> int:
        _, self.errors = self.process.communicate(timeout=seconds)
        return self.process.returncode

    def once(self, call: str, action: Callable[[], None]) -> Callable[[str], None]:
        """What the proxy may do after a call: the action, the first time that it is this one."""

        def act(name: str) -> None:
            if name == call and not self.done:
                self.done.append(call)
                action()

        return act


@pytest.fixture
def bake(proxy: ApiProxy) -> Iterator[Bake]:
    """A bake through the proxy; it waits at its first call until the test lets it go on."""
    RUNS.mkdir(parents=True, exist_ok=True)
    known = set(RUNS.iterdir())
    process = subprocess.Popen(
        [sys.executable, "-m", "invoke", "build-ami", "--offline"],
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield Bake(process, known)
    proxy.is_cut = proxy.is_expired = False
    if process.poll() is None:
        process.kill()
        process.communicate()


def reap(run_id: str) -> dict[str, Any]:
    result = run_invoke("reap", "--offline", "--apply", "--json", "--run", run_id)
    assert result.returncode == 0, result.stderr
    return parse(result.stdout)


def story(run_id: str) -> str:
    return "\n".join(journal.story(journal.read(RUNS / run_id)))


@pytest.mark.parametrize("call", CALLS)
def test_after_kill_9_at_every_step_reap_leaves_nothing(cloud: Cloud, proxy: ApiProxy, bake: Bake, call: str) -> None:
    proxy.after = bake.once(call, bake.process.kill)
    assert bake.wait() == -signal.SIGKILL
    assert bake.done == [call]

    run_id = bake.run_id
    reap(run_id)
    # Packer notices that nobody listens any more at its next line, and may still be making something until then.
    wait_until(lambda: not _packers(run_id), 120, lambda: _packers(run_id))
    reap(run_id)

    assert left(cloud, run_id) == {}
    assert "killed there" in story(run_id)
    assert reap(run_id)["leftovers"] == []


@pytest.mark.parametrize(
    ("call", "number"),
    [
        ("ImportKeyPair", signal.SIGINT),
        ("RunInstances", signal.SIGINT),
        ("RunInstances", signal.SIGTERM),
        ("CreateImage", signal.SIGINT),
        ("DescribeSnapshotAttribute", signal.SIGTERM),
    ],
)
def test_a_signal_at_every_step_leaves_nothing_at_once(
    cloud: Cloud, proxy: ApiProxy, bake: Bake, call: str, number: signal.Signals
) -> None:
    proxy.after = bake.once(call, lambda: bake.process.send_signal(number))
    assert bake.wait() == 130, bake.errors
    assert bake.done == [call]

    assert "Stopped as asked" in bake.errors
    assert "Traceback" not in bake.errors
    assert left(cloud, bake.run_id) == {}
    assert "interrupted" in story(bake.run_id)


@pytest.mark.parametrize("call", ["RunInstances", "CreateImage"])
def test_a_packer_that_crashes_leaves_nothing_at_once(cloud: Cloud, proxy: ApiProxy, bake: Bake, call: str) -> None:
    proxy.after = bake.once(call, lambda: _kill(_packers(bake.run_id)))
    assert bake.wait() == 3, bake.errors
    assert bake.done == [call]

    assert "Packer crashed" in bake.errors
    assert "Traceback" not in bake.errors
    assert left(cloud, bake.run_id) == {}


@pytest.mark.parametrize("trouble", ["is_cut", "is_expired"])
def test_what_a_lost_network_or_login_left_is_reaped(cloud: Cloud, proxy: ApiProxy, bake: Bake, trouble: str) -> None:
    proxy.after = bake.once("CreateImage", lambda: _once_packer_is_done(proxy, trouble))
    assert bake.wait() == 3, bake.errors
    assert "Traceback" not in bake.errors
    assert f"invoke reap --offline --run {bake.run_id} --apply" in bake.errors
    assert left(cloud, bake.run_id) != {}

    setattr(proxy, trouble, False)
    reap(bake.run_id)
    assert left(cloud, bake.run_id) == {}


def _once_packer_is_done(proxy: ApiProxy, trouble: str) -> None:
    """Packer 1.6.6 itself waits for minutes where nobody answers it; here it is our own calls that matter."""

    def begin(name: str) -> None:
        if name == "DescribeSnapshotAttribute":
            setattr(proxy, trouble, True)

    proxy.before = begin


def _packers(run_id: str) -> list[int]:
    """Processes of the Packer of a run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if Path(words[0]).name.startswith("packer") and any(run_id in word for word in words):
            found.append(int(path.parent.name))
    return found


def _kill(process_ids: list[int]) -> None:
    for process_id in process_ids:
        os.kill(process_id, signal.SIGKILL)
