from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpunodes.aws import Clients
from gpunodes.errors import AwsError, InterruptedRunError, UsageError
from gpunodes.proof import matrix_policy
from gpunodes.proof.matrix import prove_matrix
from gpunodes.proof.matrix_verdict import Matrix
from gpunodes.recipe import ami
from gpunodes.settings import Settings
from tests.gpunodes.fakes import FakeClock, RecordingProgress
from tests.gpunodes.proof.matrix_processes import FakeProcesses, Script

TYPES = "g4dn.xlarge,g5.xlarge"


def make_image(clients: Clients, state: str = "candidate") -> str:
    instance = clients.ec2.run_instances(ImageId="ami-12345678", MinCount=1, MaxCount=1)["Instances"][0]
    image_id: str = clients.ec2.create_image(InstanceId=instance["InstanceId"], Name="ours")["ImageId"]
    clients.ec2.create_tags(Resources=[image_id], Tags=[{"Key": "gpunodes:state", "Value": state}])
    return image_id


class Trial:
    """A matrix whose processes do as they are told."""

    def __init__(self, clients: Clients, folder: Path, scripts: dict[str, Any], state: str = "candidate") -> None:
        self.clients, self.settings = clients, Settings(work_folder=folder)
        self.image_id = make_image(clients, state)
        self.folder = folder / "evidence" / self.image_id
        self.clock, self.progress = FakeClock(), RecordingProgress()
        self.processes = FakeProcesses(self.clock, scripts, self.folder)
        self.wait: Callable[[float], None] = self.clock.wait

    def run(self, types: str = TYPES, ami_id: str | None = None, **options: Any) -> Matrix:
        return prove_matrix(
            self.clients.target, self.settings, self.progress, matrix_policy.read(types, **options), ami_id=ami_id,
            start_process=self.processes, clock=self.clock, wait=self.wait,
        )  # fmt: skip

    @property
    def tags(self) -> dict[str, str]:
        return ami.tags_of(ami.describe(self.clients, self.image_id))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_image_that_passed_everywhere_is_proven_by_the_document_of_the_matrix(
    clients: Clients, tmp_path: Path
) -> None:
    trial = Trial(clients, tmp_path, {"g4dn.xlarge": Script(), "g5.xlarge": Script()})

    matrix = trial.run()

    assert (matrix.result, matrix.exit_code, matrix.state, matrix.ami_id) == ("passed", 0, "proven", trial.image_id)
    assert matrix.evidence == trial.folder / f"matrix-{matrix.run_id}.json"
    assert trial.tags["gpunodes:state"] == "proven"
    assert trial.tags["gpunodes:proof-run"] == matrix.run_id
    assert trial.tags["gpunodes:proof-sha256"] == digest(matrix.evidence)
    document = json.loads(matrix.evidence.read_text())
    assert document["schema"] == "gpunodes-matrix/1"
    assert [entry["evidence_sha256"] for entry in document["entries"]] == [
        digest(trial.folder / entry["evidence"]) for entry in document["entries"]
    ]
    assert trial.progress.events[0] == "begin prove on 2 instance types"
    assert trial.progress.events[-1].endswith("done")


def test_one_type_that_failed_makes_the_image_failed_whoever_ends_last(clients: Clients, tmp_path: Path) -> None:
    scripts = {"g4dn.xlarge": Script.fails("3 of 4 GPUs", 5), "g5.xlarge": Script(90)}
    trial = Trial(clients, tmp_path, scripts, state="proven")

    matrix = trial.run()

    assert (matrix.result, matrix.exit_code, matrix.state) == ("failed", 1, "failed")
    failed = matrix.verdicts[0]
    assert failed.evidence is not None
    assert trial.tags["gpunodes:state"] == "failed"
    assert trial.tags["gpunodes:failed-reason"] == "g4dn.xlarge: 3 of 4 GPUs"
    assert trial.tags["gpunodes:proof-run"] == failed.run_id
    assert trial.tags["gpunodes:proof-sha256"] == digest(failed.evidence)
    assert all("--no-tag" in words for words in trial.processes.arguments)


def test_a_proof_that_was_too_late_fails_the_image_by_the_matrix(clients: Clients, tmp_path: Path) -> None:
    trial = Trial(clients, tmp_path, {"g5.xlarge": Script(900)})

    matrix = trial.run("g5.xlarge", time_ceiling_seconds="60")

    assert trial.tags["gpunodes:state"] == "failed"
    assert trial.tags["gpunodes:proof-sha256"] == digest(matrix.evidence)


def test_a_proof_that_could_not_be_made_says_nothing_of_the_image(clients: Clients, tmp_path: Path) -> None:
    trial = Trial(clients, tmp_path, {"g4dn.xlarge": Script(), "g5.xlarge": Script.errs("SSH is away.")})
    before = trial.tags

    matrix = trial.run()

    assert (matrix.result, matrix.exit_code, matrix.state) == ("error", 3, "")
    assert trial.tags == before


def test_the_newest_candidate_is_looked_up_once_for_all(clients: Clients, tmp_path: Path) -> None:
    trial = Trial(clients, tmp_path, {"g4dn.xlarge": Script(), "g5.xlarge": Script()})
    make_image(clients, "failed")

    trial.run()

    assert [words[words.index("--ami") + 1] for words in trial.processes.arguments] == [trial.image_id] * 2


@pytest.mark.parametrize(
    ("types", "options", "complaint"),
    [
        ("g4dn.xlarge,g5.xlage", {}, "did you mean `g5.xlarge`?"),
        ("g4dn.xlarge,t3.micro", {}, "t3.micro has no GPU"),
        ("g4dn.xlarge", {"ami_id": "ami-0000000000000000f"}, "There is no image ami-0000000000000000f"),
    ],
)
def test_bad_input_starts_nothing(
    clients: Clients, tmp_path: Path, types: str, options: dict[str, Any], complaint: str
) -> None:
    trial = Trial(clients, tmp_path, {"g4dn.xlarge": Script()})

    with pytest.raises(UsageError) as refused:
        trial.run(types, **options)

    assert complaint in str(refused.value)
    assert trial.processes.started == []
    assert not (tmp_path / "runs").exists()


def test_a_matrix_above_the_cost_ceiling_starts_nothing(
    clients: Clients, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpunodes.plan.cost._on_demand", lambda *_: 10.0)
    trial = Trial(clients, tmp_path, {})

    with pytest.raises(UsageError, match=r"The matrix may cost 20\.00 USD"):
        trial.run(cost_ceiling_usd="19")

    assert trial.processes.started == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_end_every_proof_once_however_often_they_come(
    clients: Clients, tmp_path: Path, number: signal.Signals
) -> None:
    before = signal.signal(number, signal.default_int_handler)  # also where the tests run under nohup
    trial = Trial(clients, tmp_path, {"g4dn.xlarge": Script(500), "g5.xlarge": Script.fails(seconds=5)})

    def wait(seconds: float) -> None:
        trial.clock.wait(seconds)
        if trial.clock() > 110:
            os.kill(os.getpid(), number)

    trial.wait = wait
    try:
        with pytest.raises(InterruptedRunError) as stopped:
            trial.run()
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)

    assert stopped.value.exit_code == 130
    assert str(stopped.value).startswith("Stopped as asked; what the proofs made is removed; what each came to is in ")
    assert [len(process.asked_to_end_at) for process in trial.processes.started] == [1, 0]
    [document] = trial.folder.glob("matrix-*.json")
    results = [entry["result"] for entry in json.loads(document.read_text())["entries"]]
    assert results == ["error", "failed"]
    assert trial.tags["gpunodes:state"] == "failed"  # a check that failed counts, however the matrix ended


def test_a_signal_that_is_ignored_stays_so(clients: Clients, tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    trial = Trial(clients, tmp_path, {"g5.xlarge": Script(5)})

    def wait(seconds: float) -> None:
        trial.clock.wait(seconds)
        os.kill(os.getpid(), signal.SIGHUP)

    trial.wait = wait
    try:
        assert trial.run("g5.xlarge").result == "passed"
    finally:
        signal.signal(signal.SIGHUP, before)


def test_what_an_unwilling_proof_left_is_in_the_last_sentence(clients: Clients, tmp_path: Path) -> None:
    trial = Trial(clients, tmp_path, {"g5.xlarge": Script(9999, clean_up_seconds=None)})

    def wait(seconds: float) -> None:
        trial.clock.wait(seconds)
        os.kill(os.getpid(), signal.SIGTERM)

    trial.wait = wait
    with pytest.raises(InterruptedRunError, match=r"`invoke destroy --run 20300101-000000-0000` removes it"):
        trial.run("g5.xlarge")


def test_an_image_that_went_away_meanwhile_cannot_be_tagged(clients: Clients, tmp_path: Path) -> None:
    trial = Trial(clients, tmp_path, {"g5.xlarge": Script()})

    def wait(seconds: float) -> None:
        if trial.clock() == 100:
            clients.ec2.deregister_image(ImageId=trial.image_id)
        trial.clock.wait(seconds)

    trial.wait = wait
    with pytest.raises(AwsError, match=r"cannot be tagged: (There is no image|Image ami-)"):
        trial.run("g5.xlarge")
