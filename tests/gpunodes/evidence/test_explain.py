from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, cast

import pytest

from gpunodes.aws import Clients
from gpunodes.errors import AwsError, UsageError
from gpunodes.evidence import evidence, explain, explain_report
from gpunodes.settings import Settings
from tests.gpunodes import fakes, image_records
from tests.gpunodes.image_records import AMI


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(work_folder=tmp_path)


class AnsweringEc2:
    """EC2 that answers with what it was given."""

    def __init__(self, image: dict[str, Any], snapshots: list[dict[str, Any]]) -> None:
        self.image = {"ImageId": AMI, "State": "available", "BlockDeviceMappings": []} | image
        self.snapshots = snapshots

    @property
    def ec2(self) -> AnsweringEc2:
        return self

    def describe_images(self, **_arguments: Any) -> dict[str, Any]:
        return {"Images": [self.image]}

    def describe_snapshots(self, **_arguments: Any) -> dict[str, Any]:
        return {"Snapshots": self.snapshots}


def of_api(image: dict[str, Any], snapshots: list[dict[str, Any]] | None = None) -> Clients:
    return cast("Clients", AnsweringEc2(image, snapshots or []))


OURS = [{"Key": "gpunodes", "Value": "true"}, {"Key": "gpunodes:state", "Value": "candidate"}]


def test_sealed_image_is_explained_from_its_evidence(clients: Clients, settings: Settings) -> None:
    record = image_records.sealed_with_evidence(clients, settings, "one")
    image_records.write_proof(settings, record.ami_id)

    explanation = explain.explain(clients, settings, record.ami_id)

    assert (explanation.is_ours, explanation.state, explanation.name) == (True, "candidate", "one")
    assert explanation.reason == "asked for by a person"
    assert explanation.record == record
    assert [proof.result for proof in explanation.proofs] == ["passed"]
    assert explanation.digest.outcome == "matches"
    assert explanation.evidence == evidence.image_folder(settings, record.ami_id)
    assert (explanation.problems, explanation.not_known) == ((), ())


def test_what_aws_says_is_part_of_it(clients: Clients, settings: Settings) -> None:
    image_id = image_records.sealed_image(clients, "one")

    aws = explain.explain(clients, settings, image_id).aws

    assert (aws.state, aws.is_public) == ("available", False)
    assert [snapshot.snapshot_id for snapshot in aws.snapshots] == image_records.snapshots_of(clients, image_id)
    assert all(snapshot.has_tags_of_image for snapshot in aws.snapshots)
    assert aws.missing_snapshots == ()


def test_attributes_that_moto_does_not_have_are_read(settings: Settings) -> None:
    image = {
        "Tags": OURS, "State": "disabled", "ImdsSupport": "v2.0", "DeprecationTime": "2031-01-01T00:00:00.000Z",
        "DeregistrationProtection": "enabled-without-cooldown", "LastLaunchedTime": "2030-05-01T00:00:00Z",
    }  # fmt: skip

    aws = explain.explain(of_api(image), settings, AMI).aws

    assert aws.state == "disabled"
    assert aws.requires_imdsv2
    assert aws.deprecation_time == "2031-01-01T00:00:00.000Z"
    assert aws.deregistration_protection == "enabled-without-cooldown"
    assert aws.last_launched_time == "2030-05-01T00:00:00Z"


def test_another_machine_says_what_the_tags_say_and_where_the_evidence_lies(
    clients: Clients, settings: Settings
) -> None:
    image_id = image_records.sealed_image(clients, "one", flavor="debian-12", evidence_sha256="a" * 64)

    explanation = explain.explain(clients, settings, image_id)

    where = f"the machine of run run-1 has its evidence in .gpunodes/evidence/{image_id}"
    assert explanation.record is None
    assert explanation.tags["gpunodes:flavor"] == "debian-12"
    assert explanation.reason == "baked by run run-1"
    assert explanation.digest == explain.DigestCheck("not checked", "image.json is not on this machine", "a" * 64)
    assert explanation.not_known == (
        f"What is in it is not known here: {where}; copy that folder to {evidence.image_folder(settings, image_id)}.",
        f"No proof of it is known here; `invoke test-instance --ami {image_id}` makes one.",
    )


def test_reason_in_a_tag_is_the_reason(clients: Clients, settings: Settings) -> None:
    image_id = image_records.sealed_image(clients, "one", reason="the base image changed")

    assert explain.explain(clients, settings, image_id).reason == "the base image changed"


def test_record_that_was_changed_is_found_by_its_digest(clients: Clients, settings: Settings) -> None:
    record = image_records.sealed_with_evidence(clients, settings, "one")
    path = evidence.image_folder(settings, record.ami_id) / "image.json"
    path.write_text(path.read_text().replace("580.105.08", "999.0"))

    explanation = explain.explain(clients, settings, record.ami_id)

    assert explanation.digest.outcome == "differs"
    assert explanation.digest.tagged == evidence.seal_digest(record)[1] != explanation.digest.local
    assert explanation.problems == (
        f"The image.json here is not the one that {record.ami_id} was sealed with; restore it from a copy.",
    )


def test_image_without_a_digest_tag_is_not_vouched_for(clients: Clients, settings: Settings) -> None:
    image_id = image_records.sealed_image(clients, "one")
    image_records.write(settings, ami_id=image_id)

    digest = explain.explain(clients, settings, image_id).digest

    assert digest.outcome == "not checked"
    assert digest.text == "the image has no tag gpunodes:evidence-sha256, so nothing vouches for it"


@pytest.mark.parametrize(("file", "words"), [("image.json", "is damaged"), ("sbom.cdx.json", "is not the file whose")])
def test_damaged_evidence_is_a_problem_and_the_rest_is_explained(
    clients: Clients, settings: Settings, file: str, words: str
) -> None:
    record = image_records.sealed_with_evidence(clients, settings, "one")
    (evidence.image_folder(settings, record.ami_id) / file).write_text("{")

    explanation = explain.explain(clients, settings, record.ami_id)

    assert words in explanation.problems[0]
    assert explanation.state == "candidate"


def test_unknown_image_is_a_usage_error(clients: Clients, settings: Settings) -> None:
    with pytest.raises(UsageError, match=f"There is no image {AMI} in this region; give the id of one"):
        explain.explain(clients, settings, AMI)


def test_image_that_is_gone_is_an_error_that_names_what_is_kept_of_it(clients: Clients, settings: Settings) -> None:
    image_records.write(settings)

    with pytest.raises(UsageError, match=rf"in this region any more; read what is kept of it in .*{AMI}\.$"):
        explain.explain(clients, settings, AMI)


@pytest.mark.parametrize("ami_id", ["", "i-0123456789abcdef0", "ami-../../secret", "ami-0/../../secret", "AMI-1"])
def test_what_is_no_ami_id_is_a_usage_error(clients: Clients, settings: Settings, ami_id: str) -> None:
    with pytest.raises(UsageError, match="is no AMI id; those look like"):
        explain.explain(clients, settings, ami_id)


def test_image_of_somebody_else_is_said_to_be(clients: Clients, settings: Settings) -> None:
    explanation = explain.explain(clients, settings, fakes.base_image(clients))

    assert not explanation.is_ours
    assert explanation.name == "base"
    assert explanation.record is None
    assert explanation.not_known == ()


def test_image_that_was_not_sealed_is_a_problem(settings: Settings) -> None:
    explanation = explain.explain(of_api({"Tags": OURS[:1]}), settings, AMI)

    assert explanation.state is None
    assert explanation.problems == (
        "It was not sealed: its bake did not get to its end, and `invoke reap` removes it.",
    )


def test_public_image_is_a_problem(settings: Settings) -> None:
    problems = explain.explain(of_api({"Tags": OURS, "Public": True}), settings, AMI).problems

    assert problems == ("It is public: everybody can launch it; make it private.",)


def test_snapshots_that_are_gone_or_have_other_tags_are_problems(settings: Settings) -> None:
    image = {
        "Tags": OURS,
        "BlockDeviceMappings": [{"Ebs": {"SnapshotId": "snap-1"}}, {"Ebs": {"SnapshotId": "snap-2"}}, {}],
    }
    here = {"SnapshotId": "snap-1", "VolumeSize": 8, "Encrypted": True, "Tags": OURS[:1]}

    explanation = explain.explain(of_api(image, [here]), settings, AMI)

    assert explanation.aws.missing_snapshots == ("snap-2",)
    assert explanation.problems == (
        "Its snapshot snap-2 is gone, so it cannot be launched.",
        "Its snapshot snap-1 does not carry the image's tags: somebody changed them.",
    )


def test_api_that_does_not_answer_is_an_aws_error(settings: Settings) -> None:
    with pytest.raises(AwsError, match=f"did not answer while looking up {AMI}"):
        explain.explain(Clients(fakes.target("http://127.0.0.1:9")), settings, AMI)


def printed(explanation: explain.Explanation, capsys: pytest.CaptureFixture[str]) -> str:
    explain_report.print_explanation(explanation)
    output = capsys.readouterr()
    assert output.out == ""
    return output.err


def test_people_read_what_it_is_what_is_in_it_and_that_the_record_is_genuine(
    clients: Clients, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    record = image_records.sealed_with_evidence(clients, settings, "one")
    image_records.write_proof(settings, record.ami_id, boots=False)

    text = printed(explain.explain(clients, settings, record.ami_id), capsys)

    assert text.splitlines()[1] == f"candidate  {record.ami_id}  one"
    for words in (
        "asked for by a person", "2 January 2030, 03:04 UTC", "ami-0aaaaaaaaaaaaaaaa  debian-12-gpu",
        "ffffffffffffffff, commit cccccccccccc\n", "580.105.08", "not found", "3 in sbom.cdx.json",
        "IMDSv2 only, encrypted", "11.5 s, 10.0 s of it in Packer", "unknown (nothing costs money offline)",
        "failed 1 of 2 checks on g4dn.xlarge", "✗ failed on g4dn.xlarge, 2 January 2030, 04:00 UTC, run proof-1: boots",
        "✓ image.json is the file that the image's tag names", "note: the base is deprecated in 30 days",
        "note: this API has no deregistration protection",
    ):  # fmt: skip
        assert words in text
    assert "problem:" not in text


def test_people_read_what_is_wrong_and_what_is_not_known(
    clients: Clients, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    record = image_records.sealed_with_evidence(clients, settings, "one")
    folder = evidence.image_folder(settings, record.ami_id)
    (folder / "image.json").write_text("{")

    text = printed(explain.explain(clients, settings, record.ami_id), capsys)
    shutil.rmtree(folder)
    text_elsewhere = printed(explain.explain(clients, settings, record.ami_id), capsys)

    assert "✗ image.json is not the file that the image's tag names" in text
    assert "problem: The image.json here is not the one" in text
    assert "  run id            run-1" in text_elsewhere
    assert "not known: What is in it is not known here" in text_elsewhere


def test_people_read_that_gpunodes_did_not_make_it(
    clients: Clients, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    image_id = fakes.base_image(clients)

    text = printed(explain.explain(clients, settings, image_id), capsys)

    assert text.splitlines()[1] == f"not made by gpunodes  {image_id}"
    assert "the only account that sees its tags" in text
    assert "digest" not in text


def test_markup_in_a_tag_is_text(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    tags = [*OURS, {"Key": "gpunodes:flavor", "Value": "[bold]x[/nonsense]"}]

    assert "[bold]x[/nonsense]" in printed(explain.explain(of_api({"Tags": tags}), settings, AMI), capsys)


def test_document_is_json_with_a_result(clients: Clients, settings: Settings) -> None:
    record = image_records.sealed_with_evidence(clients, settings, "one")

    document = explain_report.explanation_document(explain.explain(clients, settings, record.ami_id))

    read = json.loads(json.dumps(document, default=str))
    assert read["result"] == "explained"
    assert read["record"]["base"]["image_id"] == "ami-0aaaaaaaaaaaaaaaa"
    assert read["digest"]["outcome"] == "matches"
    other = explain.explain(clients, settings, fakes.base_image(clients))
    assert explain_report.explanation_document(other)["result"] == "not made by gpunodes"
