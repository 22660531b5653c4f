from __future__ import annotations

import json
from pathlib import Path

from gpunodes import evidence
from gpunodes.settings import Settings
from tests.gpunodes import fakes


def test_image_keeps_its_document_and_packers_log(tmp_path: Path) -> None:
    settings, run = Settings(work_folder=tmp_path / "work"), fakes.run(tmp_path / "run")
    (run.folder / "packer.log").write_text("baked")

    path = evidence.write_image(settings, run, "ami-1", {"ami_id": "ami-1"})

    assert path == tmp_path / "work" / "evidence" / "ami-1" / "image.json"
    assert json.loads(path.read_text()) == {"ami_id": "ami-1"}
    assert path.with_name("packer.log").read_text() == "baked"


def test_each_proof_of_an_image_has_a_file_of_its_own(tmp_path: Path) -> None:
    settings = Settings(work_folder=tmp_path)

    for name in ("one", "two"):
        evidence.write_proof(settings, fakes.run(tmp_path / name, name), "ami-1", {"run_id": name})

    files = sorted(evidence.image_folder(settings, "ami-1").iterdir())
    assert [file.name for file in files] == ["proof-one.json", "proof-two.json"]
    assert json.loads(files[1].read_text()) == {"run_id": "two"}
