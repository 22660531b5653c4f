from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gpunodes.aws import Clients
from gpunodes.errors import AwsError, ToolError
from gpunodes.operation.steps import Step
from gpunodes.proof import check, proof
from gpunodes.proof.launch import Wish
from gpunodes.proof.proof_steps import ProofSteps
from gpunodes.recipe import ami
from gpunodes.settings import Settings
from tests.gpunodes.fakes import INSTANCE_ID, RecordingProgress, base_image

Do = Callable[[ProofSteps], object]


class Trial:
    """Proofs whose steps are the test's, of an image of ours."""

    def __init__(self, clients: Clients, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        instance = clients.ec2.run_instances(ImageId=base_image(clients), MinCount=1, MaxCount=1)["Instances"][0]
        self.image_id = str(clients.ec2.create_image(InstanceId=instance["InstanceId"], Name="ours")["ImageId"])
        tags = [{"Key": "gpunodes:state", "Value": ami.STATE_CANDIDATE}]
        clients.ec2.create_tags(Resources=[self.image_id], Tags=tags)
        self.clients, self.settings, self._monkeypatch = clients, Settings(work_folder=folder), monkeypatch
        self.evidence = folder / "evidence" / self.image_id

    def prove(self, *steps: Do, keep: bool = False) -> proof.Verdict:
        def made(work: ProofSteps) -> list[Step]:
            return [Step(f"step {number}", lambda do=do: do(work)) for number, do in enumerate((self.begin, *steps))]  # type: ignore[misc]

        self._monkeypatch.setattr(proof, "_steps", made)
        return proof.prove(self.clients.target, self.settings, RecordingProgress(), wish=Wish(keep=keep))

    def begin(self, work: ProofSteps) -> None:
        work.image = ami.describe(self.clients, self.image_id)
        work.checks.append(check.check("image_is_recorded", True, "it is"))

    def launch(self, work: ProofSteps) -> None:
        work.instance.outputs = {"instance_id": INSTANCE_ID, "private_ip": "198.51.100.9"}

    def take_away(self, _work: ProofSteps) -> None:
        self.clients.ec2.deregister_image(ImageId=self.image_id)

    @property
    def documents(self) -> list[dict[str, object]]:
        return [json.loads(path.read_text()) for path in self.evidence.glob("proof-*.json")]


@pytest.fixture
def trial(clients: Clients, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trial:
    return Trial(clients, tmp_path, monkeypatch)


def fail(_work: ProofSteps) -> None:
    raise ToolError("Terraform failed.")


def test_an_image_that_is_there_to_the_end_is_tagged(trial: Trial) -> None:
    verdict = trial.prove(trial.launch)

    assert (verdict.result, verdict.state) == ("passed", "proven")
    assert [made.check_id for made in verdict.checks] == ["image_is_recorded", "image_is_still_there"]


def test_a_step_that_fails_is_the_error_where_the_image_is_there(trial: Trial) -> None:
    with pytest.raises(ToolError, match=r"^Terraform failed\.$"):
        trial.prove(trial.launch, fail)

    assert trial.documents == []


def test_a_launch_that_fails_since_the_image_is_gone_says_that(trial: Trial) -> None:
    with pytest.raises(AwsError) as lost:
        trial.prove(trial.take_away, fail)

    assert str(lost.value) == (
        f"Image {trial.image_id} was taken away (deregistered or disabled) while it was being proven; bake another with"
        " `invoke build-ami`, or name one with --ami."
    )
    assert trial.documents == []


@pytest.mark.parametrize("steps", [(fail,), ()], ids=["a step fails", "no step fails"])
def test_what_was_seen_of_an_image_that_is_gone_is_kept_and_is_no_pass(trial: Trial, steps: tuple[Do, ...]) -> None:
    with pytest.raises(AwsError, match=r"was taken away .*; what was seen of it is in .*/proof-.*\.json; bake another"):
        trial.prove(trial.launch, trial.take_away, *steps)

    [document] = trial.documents
    assert document["result"] == "failed"
    assert f"{trial.image_id} is deregistered" in str(document["reason"])


def test_an_instance_that_is_kept_is_told_with_what_removes_it(trial: Trial) -> None:
    with pytest.raises(
        AwsError, match=r"the instance was kept, and `invoke destroy --run [0-9a-f-]+` removes it; bake"
    ):
        trial.prove(trial.launch, trial.take_away, keep=True)
