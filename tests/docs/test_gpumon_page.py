"""docs/gpumon.md: what it tells people to copy works."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gpumon.jobs import JobFiles
from gpumon.samples import Datum, Gpu
from gpumon.sinks.json_lines import JsonLinesSink

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "gpumon.md").read_text(encoding="utf-8")
JOB_DIRECTORY = "/run/gpu-jobs"
A10G = "NVIDIA A10G"


def blocks(language: str) -> list[str]:
    """Return the fenced blocks of the page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def run_script(text: str, directory: Path, **environment: str) -> None:
    # Slurm gives prologue and epilogue no search path.
    text = text.replace(JOB_DIRECTORY, str(directory))
    subprocess.run(["/bin/bash", "-c", text], env={"PATH": "", **environment}, check=True, capture_output=True)


def test_the_slurm_scripts_write_what_is_read(tmp_path: Path) -> None:
    prolog, epilog = blocks("bash")
    directory = tmp_path / "jobs"
    gpus = [Gpu(f"GPU-{index}", index, A10G) for index in range(3)]
    files = JobFiles(directory)

    run_script(epilog, directory, SLURM_JOB_ID="11")
    run_script(prolog, directory, SLURM_JOB_ID="11", SLURM_JOB_GPUS="0,2")
    run_script(prolog, directory, SLURM_JOB_ID="111", SLURM_JOB_GPUS="2")
    run_script(prolog, directory, SLURM_JOB_ID="12")
    assert files.jobs_of(gpus) == {gpus[0]: ("11",), gpus[2]: ("11", "111")}

    run_script(epilog, directory, SLURM_JOB_ID="11")
    assert files.jobs_of(gpus) == {gpus[2]: ("111",)}
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o644}


def test_the_scrape_configuration_is_one(tmp_path: Path) -> None:
    (text,) = blocks("yaml")
    file = tmp_path / "prometheus.yml"
    file.write_text(text)

    answer = subprocess.run(
        [Path(sys.executable).parent / "promtool", "check", "config", file], capture_output=True, text=True, check=False
    )

    assert (answer.returncode, answer.stderr) == (0, ""), answer.stdout + answer.stderr


def test_the_json_line_is_one_of_ours(capfd: pytest.CaptureFixture[str]) -> None:
    (line,) = blocks("json")
    gpu = Gpu("GPU-8f6d2b3c", 0, A10G, "00000000:00:1E.0")
    datum = Datum("MemoryUsed", "Bytes", gpu, 1790000040, (float(2**30), float(2**31)), (30, 30))

    JsonLinesSink().publish((datum,))

    assert json.loads(line) == json.loads(capfd.readouterr().out)


def test_links_lead_somewhere() -> None:
    pages = [ROOT / "gpumon" / "README.md", *(ROOT / "docs").rglob("*.md")]

    targets = {
        (page.relative_to(ROOT), target)
        for page in pages
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
        if "://" not in target
    }

    assert len(targets) > 10
    assert [(str(page), target) for page, target in targets if not (ROOT / page.parent / target).exists()] == []
