from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from gpunodes import packer
from gpunodes.errors import PreflightError, ToolError
from tests.gpunodes.fakes import executable

BUILD_PRINTS = """2030-01-01T00:00:00Z: amazon-ebs.gpu: output will be in this color.
2030-01-01T00:00:00Z:
2030-01-01T00:00:00Z: ==> amazon-ebs.gpu: Prevalidating any provided VPC information
2030-01-01T00:00:01Z:     amazon-ebs.gpu: Found Image ID: ami-1
2030-01-01T00:00:02+02:00: ==> amazon-ebs.gpu: Launching a source AWS instance...
2030-01-01T00:00:03Z:     amazon-ebs.gpu: Setting up libgpg-error (1.46) and libxml-error-perl
2030-01-01T00:00:09Z: Build 'amazon-ebs.gpu' finished after 9 seconds.
"""
FAILURE_PRINTS = f"""{BUILD_PRINTS}2030-01-01T00:00:03Z: ==> amazon-ebs.gpu: install-gpumon: error: gpumon is not active
2030-01-01T00:00:03Z: ==> amazon-ebs.gpu: Terminating the source AWS instance...
2030-01-01T00:00:04Z: Build 'amazon-ebs.gpu' errored after 4 seconds: Script exited with non-zero exit status: 1.
"""


def use_packer(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    executable(folder, "packer", script)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def printing(text: str, status: int = 0) -> str:
    noted = 'echo "$@" >> calls; printf %s "$PACKER_CACHE_DIR $REGION" > environment'
    return f'{noted}\ncat <<"END"\n{text}END\nexit {status}'


def build(folder: Path, installed: tuple[int, ...] = (1, 6, 6)) -> list[str]:
    """Build in a folder, which is also the working directory; returns the steps that were told."""
    steps: list[str] = []
    packer.build(
        folder,
        {"tags": {"a": "b c"}},
        installed=installed,
        environment={"REGION": "here"},
        repository=folder,
        log=folder / "packer.log",
        on_step=steps.append,
    )
    return steps


@pytest.mark.parametrize(("output", "installed"), [("Packer v1.6.6", (1, 6, 6)), ("Packer v1.11.2\n", (1, 11, 2))])
def test_version_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, installed: tuple[int, ...]
) -> None:
    use_packer(monkeypatch, tmp_path, f"echo '{output}'")

    assert packer.version() == installed


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        ("echo 'Packer v1.6.5'", r"Packer 1\.6\.5 is too old; run scripts/bootstrap, or install 1\.6\.6 or newer\."),
        ("cat; echo '0 0'", r"`packer` on PATH is not HashiCorp's Packer"),
        ("echo 'unknown option' >&2; exit 255", r"The `packer` on PATH does not work"),
    ],
    ids=["too old", "cracklib's", "broken"],
)
def test_unusable_packer_is_a_preflight_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, complaint: str
) -> None:
    use_packer(monkeypatch, tmp_path, script)

    with pytest.raises(PreflightError, match=complaint):
        packer.version()


def test_missing_packer_is_a_preflight_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(PreflightError, match="Packer is not installed; run scripts/bootstrap"):
        packer.version()


@pytest.mark.parametrize(
    ("installed", "files"),
    [
        ((1, 6, 6), ["a.pkr.hcl", "b.pkr.hcl"]),
        ((1, 7, 0), ["a.pkr.hcl", "b.pkr.hcl", "plugins.pkr.hcl"]),
        ((1, 11, 2), ["a.pkr.hcl", "b.pkr.hcl", "plugins.pkr.hcl"]),
    ],
)
def test_required_plugins_are_for_a_packer_that_knows_them(
    tmp_path: Path, installed: tuple[int, ...], files: list[str]
) -> None:
    templates = tmp_path / "templates"
    (templates / "required-plugins").mkdir(parents=True)
    for name in ("a.pkr.hcl", "b.pkr.hcl", "README.md", "required-plugins/plugins.pkr.hcl"):
        (templates / name).write_text(name)

    packer.lay_out(templates, tmp_path / "run" / "packer", installed)

    assert sorted(path.name for path in (tmp_path / "run" / "packer").iterdir()) == files


def test_build_tells_the_steps_and_logs_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_packer(monkeypatch, tmp_path / "bin", printing(BUILD_PRINTS))

    assert build(tmp_path) == ["Prevalidating any provided VPC information", "Launching a source AWS instance..."]

    assert (tmp_path / "packer.log").read_text() == BUILD_PRINTS


def test_variables_go_through_a_file_and_the_environment_is_the_targets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_packer(monkeypatch, tmp_path / "bin", printing(""))

    build(tmp_path)

    variables_file = tmp_path / "run.pkrvars.json"
    assert json.loads(variables_file.read_text()) == {"tags": {"a": "b c"}}
    assert (tmp_path / "calls").read_text() == (
        f"build -color=false -timestamp-ui -var-file={variables_file} {tmp_path}\n"
    )
    assert (tmp_path / "environment").read_text() == f"{tmp_path}/cache here"


def test_packer_with_plugins_fetches_them_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_packer(monkeypatch, tmp_path / "bin", printing(""))

    build(tmp_path, (1, 7, 0))

    assert [line.split()[0] for line in (tmp_path / "calls").read_text().splitlines()] == ["init", "build"]


def test_build_that_fails_ends_with_what_packer_said_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_packer(monkeypatch, tmp_path / "bin", printing(FAILURE_PRINTS, status=1))

    with pytest.raises(ToolError) as caught:
        build(tmp_path)

    assert str(caught.value) == (
        f"Packer failed: install-gpumon: error: gpumon is not active; all that it printed is in {tmp_path}/packer.log."
    )


@pytest.mark.parametrize(
    ("printed", "reason"),
    [
        ("Error: Unset variable \"region\"\n", 'Error: Unset variable "region"'),
        ("2030-01-01T00:00:04Z: Build 'x' errored after 4 seconds: no.\n", "Build 'x' errored after 4 seconds: no"),
        ("2030-01-01T00:00:04Z: ==> amazon-ebs.gpu: checksum mismatch\n", "checksum mismatch"),
        ("", "exit status 1"),
    ],
)  # fmt: skip
def test_reason_is_found_in_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, printed: str, reason: str) -> None:
    use_packer(monkeypatch, tmp_path / "bin", printing(printed, status=1))

    with pytest.raises(ToolError, match="Packer failed: ") as caught:
        build(tmp_path)

    assert str(caught.value).startswith(f"Packer failed: {reason}; all")


def manifest(folder: Path, document: Any) -> Path:
    path = folder / "manifest.json"
    path.write_text(json.dumps(document))
    return path


def test_image_of_the_last_run_is_picked_from_the_manifest(tmp_path: Path) -> None:
    builds = [
        {"packer_run_uuid": "one", "artifact_id": "us-east-1:ami-1"},
        {"packer_run_uuid": "two", "artifact_id": "us-east-1:ami-2"},
        {"packer_run_uuid": "three", "artifact_id": "us-east-1:ami-3"},
    ]

    assert packer.artifact_ami(manifest(tmp_path, {"builds": builds, "last_run_uuid": "two"})) == "ami-2"


@pytest.mark.parametrize(
    "document",
    [
        {"builds": [], "last_run_uuid": "two"},
        {"builds": [{"packer_run_uuid": "two"}], "last_run_uuid": "two"},
        {},
        [],
    ],
)
def test_manifest_without_the_image_is_a_tool_error(tmp_path: Path, document: Any) -> None:
    with pytest.raises(ToolError, match="wrote no usable manifest"):
        packer.artifact_ami(manifest(tmp_path, document))


def test_missing_or_broken_manifest_is_a_tool_error(tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{")

    for name in ("missing.json", "broken.json"):
        with pytest.raises(ToolError, match="wrote no usable manifest"):
            packer.artifact_ami(tmp_path / name)
