from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from gpunodes.errors import UsageError
from gpunodes.evidence import evidence
from gpunodes.evidence.image_record import PackageList
from gpunodes.settings import Settings
from tests.gpunodes import fakes, image_records
from tests.gpunodes.image_records import AMI, OTHER_AMI, PACKAGES


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(work_folder=tmp_path)


def folder(settings: Settings) -> Path:
    return evidence.image_folder(settings, AMI)


def test_evidence_of_an_image_is_record_packages_page_and_packers_log(settings: Settings) -> None:
    run = fakes.run(settings.work_folder / "run")
    (run.folder / "packer.log").write_text("baked")

    image_records.write(settings)

    files = sorted(path.name for path in folder(settings).iterdir())
    assert files == ["image.html", "image.json", "packer.log", "sbom.cdx.json"]
    assert (folder(settings) / "packer.log").read_text() == "baked"


def test_digest_for_the_tag_is_that_of_the_file_as_sha256sum_prints_it(settings: Settings) -> None:
    record = image_records.write(settings)

    key, digest = evidence.seal_digest(record)

    assert key == "gpunodes:evidence-sha256"
    assert digest == hashlib.sha256((folder(settings) / "image.json").read_bytes()).hexdigest()
    assert evidence.read_digest(settings, AMI) == digest


def test_record_names_its_packages_by_digest(settings: Settings) -> None:
    record = image_records.write(settings)

    data = (folder(settings) / record.packages.file).read_bytes()
    assert record.packages.sha256 == hashlib.sha256(data).hexdigest()
    assert record.packages.count == len(PACKAGES)
    assert evidence.read_packages(settings, record) == sorted(PACKAGES)


def test_record_is_read_back(settings: Settings) -> None:
    record = image_records.write(settings)

    assert evidence.read_record(settings, AMI) == record


def test_image_that_was_baked_elsewhere_has_no_record_here(settings: Settings) -> None:
    assert evidence.read_record(settings, OTHER_AMI) is None
    assert evidence.read_proofs(settings, OTHER_AMI) == []


def test_record_of_another_image_is_not_taken_for_this_ones(settings: Settings) -> None:
    image_records.write(settings)
    folder(settings).rename(evidence.image_folder(settings, OTHER_AMI))

    with pytest.raises(UsageError, match=f"is the record of {AMI}; restore that of {OTHER_AMI}"):
        evidence.read_record(settings, OTHER_AMI)


@pytest.mark.parametrize("content", [None, b"{}"])
def test_package_list_that_is_missing_or_another_is_not_read(settings: Settings, content: bytes | None) -> None:
    record = image_records.write(settings)
    path = folder(settings) / "sbom.cdx.json"
    path.unlink()
    if content:
        path.write_bytes(content)

    with pytest.raises(UsageError, match=r"sbom\.cdx\.json .*; copy it from the machine that baked the image"):
        evidence.read_packages(settings, record)


def test_record_cannot_lead_out_of_its_folder(settings: Settings) -> None:
    secret = settings.work_folder / "secret"
    secret.write_text("x")
    digest = hashlib.sha256(b"x").hexdigest()
    record = image_records.write(settings)
    crafted = replace(record, packages=PackageList(1, "../../secret", digest))

    with pytest.raises(UsageError, match="cannot be read"):
        evidence.read_packages(settings, crafted)


def test_each_proof_of_an_image_has_a_file_of_its_own(settings: Settings) -> None:
    for name in ("one", "two"):
        image_records.write_proof(settings, run_id=name)

    files = sorted(folder(settings).iterdir())
    assert [file.name for file in files] == [
        f"proof-{name}.{kind}" for name in ("one", "two") for kind in ("html", "json", "xml")
    ]
    assert json.loads(files[4].read_text())["run_id"] == "two"


def test_proof_is_shown_on_the_page_of_its_image(settings: Settings) -> None:
    image_records.write(settings)
    assert "not proven on an instance yet" in (folder(settings) / "image.html").read_text()

    image_records.write_proof(settings)

    assert "passed all 1 checks on g4dn.xlarge" in (folder(settings) / "image.html").read_text()


@pytest.mark.parametrize("file", ["image.json", "proof-older.json"])
def test_proof_is_kept_even_where_another_file_is_damaged(settings: Settings, file: str) -> None:
    image_records.write(settings)
    (folder(settings) / file).write_text("{")

    path = image_records.write_proof(settings)

    assert json.loads(path.read_text())["result"] == "passed"


def test_page_is_made_even_where_the_package_list_is_gone(settings: Settings) -> None:
    image_records.write(settings)
    (folder(settings) / "sbom.cdx.json").unlink()

    image_records.write_proof(settings)

    assert "is not beside this page" in (folder(settings) / "image.html").read_text()


def test_proofs_are_read_the_oldest_first(settings: Settings) -> None:
    for name, hour in (("b", 2), ("a", 3), ("c", 1)):
        path = image_records.write_proof(settings, run_id=name, boots=False)
        path.write_text(path.read_text().replace("T04:", f"T0{hour}:"))

    proofs = evidence.read_proofs(settings, AMI)

    assert [proof.run_id for proof in proofs] == ["c", "b", "a"]
    assert (proofs[0].checks, proofs[0].failed_checks, proofs[0].result) == (2, ("boots",), "failed")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"checks": [1]}'])
def test_damaged_proof_is_a_usage_error(settings: Settings, content: str) -> None:
    image_records.write_proof(settings).write_text(content)

    with pytest.raises(UsageError, match=r"proof-proof-1\.json is damaged .*; delete it, and prove the image again"):
        evidence.read_proofs(settings, AMI)


def test_newest_proof_is_what_counts(settings: Settings) -> None:
    image_records.write_proof(settings, run_id="new")
    path = image_records.write_proof(settings, run_id="old", boots=False)
    path.write_text(path.read_text().replace("T04:", "T03:"))

    assert evidence.standing(evidence.read_proofs(settings, AMI)).mark == "passed"
    assert evidence.standing(evidence.read_proofs(settings, AMI)[:1]).mark == "failed"
    assert evidence.standing([]).mark == "unproven"


def test_nothing_half_written_is_left(settings: Settings) -> None:
    image_records.write(settings)
    image_records.write_proof(settings)

    assert not list(folder(settings).glob("*.unfinished"))


def test_an_image_that_never_came_to_be_is_forgotten(tmp_path: Path) -> None:
    settings = Settings(work_folder=tmp_path)
    folder = evidence.image_folder(settings, "ami-1")
    folder.mkdir(parents=True)
    (folder / "image.json").write_text("{}")

    evidence.remove(settings, "ami-1")
    evidence.remove(settings, "ami-1")

    assert not folder.exists()
