"""Whatever ends a proof, and wherever: nothing that it made stays, at once or after `invoke destroy`."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gpunodes.aws import Clients
from gpunodes.cleanup import leftovers
from tests.gpunodes.fakes import target
from tests.offline.api_proxy import ApiProxy, before_the_api
from tests.offline.conftest import REPOSITORY, Cloud, parse, run_invoke

RUNS = REPOSITORY / ".gpunodes" / "runs"
COMMAND = [sys.executable, "-m", "invoke", "test-instance", "--offline", "--no-tag", "--ami"]
# What Terraform calls first once it has the order to remove everything; our own first call is TerminateInstances.
FIRST_OF_DESTROY = "DeleteRolePolicy"


@pytest.fixture(scope="module")
def image(cloud: Cloud) -> str:
    """An image that may be proven and is no more than the base; what is wrong with it is found after the launch."""
    instance = cloud.launch()
    cloud.connect(instance)
    image_id = cloud.ec2.create_image(InstanceId=instance["InstanceId"], Name="cheapest")["ImageId"]
    cloud.terminate_all()
    return str(image_id)


@pytest.fixture
def proxy(cloud: Cloud) -> Iterator[ApiProxy]:
    with before_the_api(cloud.layout) as api:
        yield api


@dataclass
class Proof:
    """A proof that goes on, and what becomes of it."""

    process: subprocess.Popen[str]
    known: set[Path]
    errors: str = ""
    done: list[str] = field(default_factory=list)

    @property
    def run_id(self) -> str:
        [folder] = set(RUNS.iterdir()) - self.known
        return folder.name

    @property
    def state(self) -> Path:
        return RUNS / self.run_id / "terraform" / "terraform.tfstate"

    def wait(self, seconds: float = 120) -> int:
        _, self.errors = self.process.communicate(timeout=seconds)
        return self.process.returncode

    def at(self, actions: Mapping[str, Callable[[], object]]) -> Callable[[str], None]:
        """What the proxy may do at some calls: the action of each, the first time that it is made."""

        def act(name: str) -> None:
            if name in actions and name not in self.done:
                self.done.append(name)
                actions[name]()

        return act

    def kill_terraform(self) -> None:
        for process_id in terraforms(self.process.pid):
            os.kill(process_id, signal.SIGKILL)

    @property
    def sentence(self) -> str:
        """The one that it ended with."""
        [line] = [line for line in self.errors.splitlines() if line.startswith("error: ")]
        assert "Traceback" not in self.errors
        return line


@pytest.fixture
def proof(proxy: ApiProxy, image: str) -> Iterator[Proof]:
    """A proof through the proxy."""
    RUNS.mkdir(parents=True, exist_ok=True)
    known = set(RUNS.iterdir())
    process = subprocess.Popen(
        [*COMMAND, image],
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield Proof(process, known)
    proxy.is_cut = False
    if process.poll() is None:
        process.kill()
        process.communicate()


def terraforms(parent_id: int) -> list[int]:
    """Processes of Terraform that a process started."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().split(b"\0")
            started_by = int((path / "stat").read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        if started_by == parent_id and Path(words[0].decode()).name == "terraform":
            found.append(int(path.name))
    return found


def left(cloud: Cloud, run_id: str) -> list[str]:
    """What carries the run's id, of every kind, asked of the API itself; and what its folder should not have."""
    clients = Clients(target(cloud.facts.endpoint_url))
    found = [f"{resource.kind} {resource.id}" for resource in leftovers.of_run(clients, run_id)]
    return found + [str(path) for path in (RUNS / run_id).glob("ssh_key*")]


def destroy(*options: str) -> dict[str, Any]:
    result = run_invoke("destroy", "--offline", "--json", *options)
    assert result.returncode == 0, result.stderr
    return parse(result.stdout)


def test_a_terraform_that_is_killed_in_apply_and_in_destroy_leaves_nothing(
    cloud: Cloud, proxy: ApiProxy, proof: Proof
) -> None:
    locks: list[bool] = []

    def kill() -> None:
        proof.kill_terraform()
        locks.append((proof.state.parent / ".terraform.tfstate.lock.info").exists())

    proxy.after = proof.at({"RunInstances": kill, FIRST_OF_DESTROY: kill})
    assert proof.wait() == 3, proof.errors

    assert proof.done == ["RunInstances", FIRST_OF_DESTROY]
    assert locks == [True, True]
    assert "`terraform apply` was ended by SIGKILL" in proof.sentence
    assert "`terraform destroy` was ended by SIGKILL" in proof.errors
    assert "removing what carries the run's id through the API instead" in proof.errors
    assert "invoke destroy" not in proof.errors
    assert left(cloud, proof.run_id) == []
    assert destroy("--all")["run_ids"] == []


def test_a_state_that_is_torn_keeps_nothing(cloud: Cloud, proxy: ApiProxy, proof: Proof) -> None:
    def tear() -> None:
        proof.kill_terraform()
        proof.state.write_text('{"version": 4, "resources": [{"mode": "man')

    proxy.after = proof.at({"RunInstances": tear})
    assert proof.wait() == 3, proof.errors

    assert proof.done == ["RunInstances"]
    assert "`terraform apply` was ended by SIGKILL" in proof.sentence
    assert left(cloud, proof.run_id) == []
    assert destroy("--all")["run_ids"] == []


@pytest.mark.parametrize(
    ("call", "number"), [("RunInstances", signal.SIGINT), ("CreateRole", signal.SIGTERM)], ids=["twice", "terminated"]
)
def test_a_signal_in_apply_and_another_in_the_clean_up_leave_nothing(
    cloud: Cloud, proxy: ApiProxy, proof: Proof, call: str, number: signal.Signals
) -> None:
    def send() -> None:
        proof.process.send_signal(number)

    proxy.after = proof.at({call: send, "DeleteRole": send})
    assert proof.wait() == 130, proof.errors
    assert proof.done == [call, "DeleteRole"]

    assert proof.sentence == "error: Stopped as asked; what this run made is removed."
    assert left(cloud, proof.run_id) == []


def test_a_terminal_that_is_closed_in_apply_leaves_nothing(cloud: Cloud, proxy: ApiProxy, image: str) -> None:
    RUNS.mkdir(parents=True, exist_ok=True)
    known = set(RUNS.iterdir())
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        ["setsid", "--ctty", *COMMAND, image], cwd=REPOSITORY, stdin=theirs, stdout=theirs, stderr=theirs, text=True
    )
    os.close(theirs)
    proof, is_over = Proof(process, known), threading.Event()
    proxy.after = proof.at({"RunInstances": is_over.set})
    try:
        _be_a_terminal(ours, is_over)
        assert process.wait(120) == 130
    finally:
        process.kill()

    assert proof.done == ["RunInstances"]
    assert left(cloud, proof.run_id) == []


def _be_a_terminal(ours: int, is_over: threading.Event) -> None:
    """Take what is printed, until it is over."""
    deadline = time.monotonic() + 120
    while not is_over.is_set() and time.monotonic() < deadline:
        if select.select([ours], [], [], 0.1)[0]:
            with suppress(OSError):
                os.read(ours, 65536)
    os.close(ours)


def test_what_a_network_that_is_lost_in_apply_left_is_destroyed_later(
    cloud: Cloud, proxy: ApiProxy, proof: Proof
) -> None:
    def cut() -> None:
        proxy.is_cut = True

    proxy.after = proof.at({"RunInstances": cut})
    assert proof.wait() == 3, proof.errors
    assert f"run `invoke destroy --offline --run {proof.run_id}`" in proof.sentence
    proxy.is_cut = False
    assert any(name.startswith("instance ") for name in left(cloud, proof.run_id))

    asked = run_invoke("destroy", "--offline")
    assert asked.returncode == 2
    assert f"Something is left of {proof.run_id}; name one with --run, or all with --all." in asked.stderr
    assert destroy("--all")["run_ids"] == [proof.run_id]
    assert left(cloud, proof.run_id) == []


def test_what_a_network_that_is_lost_in_destroy_left_is_destroyed_later(
    cloud: Cloud, proxy: ApiProxy, proof: Proof
) -> None:
    def cut() -> None:
        proxy.is_cut = True

    proxy.after = proof.at({"CreateInstanceProfile": proof.kill_terraform})
    proxy.before = proof.at({FIRST_OF_DESTROY: cut})
    assert proof.wait() == 3, proof.errors
    assert proof.done == ["CreateInstanceProfile", FIRST_OF_DESTROY]
    assert f"run `invoke destroy --offline --run {proof.run_id}`" in proof.sentence
    proxy.is_cut = False
    assert left(cloud, proof.run_id) != []

    assert destroy("--run", proof.run_id)["run_ids"] == [proof.run_id]
    assert left(cloud, proof.run_id) == []


def test_after_kill_9_in_apply_destroy_leaves_nothing(cloud: Cloud, proxy: ApiProxy, proof: Proof) -> None:
    proxy.after = proof.at({"RunInstances": proof.process.kill})
    assert proof.wait() == -signal.SIGKILL

    assert destroy("--run", proof.run_id)["run_ids"] == [proof.run_id]
    assert left(cloud, proof.run_id) == []


@pytest.mark.usefixtures("proxy")
def test_after_kill_9_while_it_is_connected_reap_leaves_nothing(cloud: Cloud, proof: Proof) -> None:
    assert proof.process.stderr is not None
    assert any("connect by SSH" in line for line in proof.process.stderr)
    proof.process.kill()
    assert proof.wait() == -signal.SIGKILL

    reaped = run_invoke("reap", "--offline", "--apply", "--run", proof.run_id)
    assert reaped.returncode == 0, reaped.stderr
    assert left(cloud, proof.run_id) == []
    assert destroy("--all")["run_ids"] == []
