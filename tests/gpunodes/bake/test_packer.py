from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from gpunodes.bake import packer
from gpunodes.bake.packer import PackerResult
from gpunodes.errors import PreflightError, ToolError
from tests.gpunodes.fakes import RecordingProgress, executable

BUILD_PRINTS = r"""1893456000,,ui,say,==> amazon-ebs.gpu: Prevalidating any provided VPC information
1893456000,,ui,message,    amazon-ebs.gpu: Found Image ID: ami-1
1893456002,,ui,say,==> amazon-ebs.gpu: Launching a source AWS instance...
1893456002,,ui,message,    amazon-ebs.gpu: Instance ID: i-1
1893456003,,ui,say,==> amazon-ebs.gpu: Connected to SSH!
1893456003,,ui,message,    amazon-ebs.gpu: Setting up libgpg-error (1.46)%!(PACKER_COMMA) libxml-error-perl
"""
SUCCESS_PRINTS = rf"""{BUILD_PRINTS}1893456009,,ui,say,Build 'amazon-ebs.gpu' finished after 9 seconds.
1893456009,,ui,say,\n==> Wait completed after 9 seconds
1893456009,amazon-ebs.gpu,artifact,0,id,us-east-1:ami-9
1893456009,,ui,say,--> amazon-ebs.gpu: AMIs were created:\nus-east-1: ami-9\n
"""
SUCCESS_LOG = """2030-01-01T00:00:00Z ==> amazon-ebs.gpu: Prevalidating any provided VPC information
2030-01-01T00:00:00Z     amazon-ebs.gpu: Found Image ID: ami-1
2030-01-01T00:00:02Z ==> amazon-ebs.gpu: Launching a source AWS instance...
2030-01-01T00:00:02Z     amazon-ebs.gpu: Instance ID: i-1
2030-01-01T00:00:03Z ==> amazon-ebs.gpu: Connected to SSH!
2030-01-01T00:00:03Z     amazon-ebs.gpu: Setting up libgpg-error (1.46), libxml-error-perl
2030-01-01T00:00:09Z Build 'amazon-ebs.gpu' finished after 9 seconds.
2030-01-01T00:00:09Z ==> Wait completed after 9 seconds
2030-01-01T00:00:09Z --> amazon-ebs.gpu: AMIs were created:
2030-01-01T00:00:09Z us-east-1: ami-9
"""
FAILURE_PRINTS = rf"""{BUILD_PRINTS}1893456003,,ui,error,==> amazon-ebs.gpu: install-gpumon: error: gpumon is not active
1893456003,,ui,say,==> amazon-ebs.gpu: Terminating the source AWS instance...
1893456004,,ui,error,Build 'amazon-ebs.gpu' errored after 4 seconds: Script exited with non-zero exit status: 1.
1893456004,,ui,say,\n==> Wait completed after 4 seconds
1893456004,amazon-ebs.gpu,error,Script exited with non-zero exit status: 1.
"""


def use_packer(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    executable(folder, "packer", script)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def printing(text: str, status: int = 0) -> str:
    noted = 'echo "$@" >> calls; printf %s "$PACKER_CACHE_DIR $REGION" > environment'
    return f'{noted}\ncat <<"END"\n{text}END\nexit {status}'


def build(folder: Path, installed: tuple[int, ...] = (1, 6, 6), **more: Any) -> PackerResult:
    """Build in a folder, which is also the working directory."""
    return packer.build(
        folder,
        {"tags": {"a": "b c"}},
        installed=installed,
        environment={"REGION": "here"},
        repository=folder,
        log=folder / "packer.log",
        **{"on_step": lambda _text: None} | more,
    )


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


def test_build_answers_with_the_image_and_the_time_of_each_phase(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_packer(monkeypatch, tmp_path / "bin", printing(SUCCESS_PRINTS))

    built = build(tmp_path)

    assert built.ami_id == "ami-9"
    assert [phase.name for phase in built.phases] == [
        "check the inputs",
        "launch the instance",
        "install on the instance",
    ]
    assert 0 <= sum(phase.seconds for phase in built.phases) <= built.seconds


def test_build_tells_its_steps_its_phases_and_what_it_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_packer(monkeypatch, tmp_path / "bin", printing(SUCCESS_PRINTS))
    steps: list[str] = []
    made: list[tuple[str, str]] = []
    progress = RecordingProgress()

    build(tmp_path, on_step=steps.append, on_made=lambda *what: made.append(what), phases=[progress])

    assert steps[:2] == ["Prevalidating any provided VPC information", "Launching a source AWS instance..."]
    assert made == [("instance", "i-1")]
    assert progress.events[0] == "phase check the inputs"
    assert progress.events[-1].startswith("phase end install on the instance")


def test_log_is_what_people_read_and_packers_own_output_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_packer(monkeypatch, tmp_path / "bin", printing(SUCCESS_PRINTS))

    build(tmp_path)

    assert (tmp_path / "packer.log").read_text() == SUCCESS_LOG
    assert (tmp_path / "machine-readable.log").read_text() == SUCCESS_PRINTS


def test_what_packer_says_while_it_is_interrupted_is_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = """#!/bin/sh
trap 'echo "1893456004,,ui,say,==> amazon-ebs.gpu: Terminating the source AWS instance..."; exit 1' INT
echo "1893456000,,ui,say,==> amazon-ebs.gpu: Connected to SSH!"
while :; do sleep 0.05; done
"""
    use_packer(monkeypatch, tmp_path / "bin", script)
    progress = RecordingProgress()

    def interrupt(_text: str) -> None:
        if not (tmp_path / "interrupted").exists():
            (tmp_path / "interrupted").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, on_step=interrupt, phases=[progress])

    assert (tmp_path / "packer.log").read_text() == (
        "2030-01-01T00:00:04Z ==> amazon-ebs.gpu: Terminating the source AWS instance...\n"
    )
    assert progress.events[-1].startswith("phase end remove the instance")


def test_variables_go_through_a_file_and_the_environment_is_the_targets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_packer(monkeypatch, tmp_path / "bin", printing(SUCCESS_PRINTS))

    build(tmp_path)

    variables_file = tmp_path / "run.pkrvars.json"
    assert json.loads(variables_file.read_text()) == {"tags": {"a": "b c"}}
    assert (tmp_path / "calls").read_text() == (
        f"-machine-readable build -color=false -var-file={variables_file} {tmp_path}\n"
    )
    assert (tmp_path / "environment").read_text() == f"{tmp_path}/cache here"


def test_packer_with_plugins_fetches_them_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_packer(monkeypatch, tmp_path / "bin", printing(SUCCESS_PRINTS))

    build(tmp_path, (1, 7, 0))

    assert [line.split()[:2] for line in (tmp_path / "calls").read_text().splitlines()] == [
        ["init", str(tmp_path)],
        ["-machine-readable", "build"],
    ]


def test_plugins_that_cannot_be_fetched_are_a_failure_with_what_was_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_packer(monkeypatch, tmp_path / "bin", "echo 'Error: no plugin for you' >&2; exit 1")

    with pytest.raises(ToolError, match=r"^Packer failed: Error: no plugin for you; all"):
        build(tmp_path, (1, 11, 2))

    assert (tmp_path / "packer.log").read_text() == "Error: no plugin for you\n"


def test_build_that_fails_ends_with_what_packer_said_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_packer(monkeypatch, tmp_path / "bin", printing(FAILURE_PRINTS, status=1))
    progress = RecordingProgress()

    with pytest.raises(ToolError) as caught:
        build(tmp_path, phases=[progress])

    assert str(caught.value) == (
        f"Packer failed: install-gpumon: error: gpumon is not active; all that it printed is in {tmp_path}/packer.log."
    )
    outcomes = [event.split()[-1] for event in progress.events if event.startswith("phase end")]
    assert outcomes == ["done", "done", "failed", "done"]


@pytest.mark.parametrize(
    ("printed", "reason"),
    [
        (r'1,,ui,error,Error: Unset variable "region"\n\nA used variable', 'Error: Unset variable "region"'),
        ("1,,ui,error,Build 'x' errored after 4 seconds: no.", "Build 'x' errored after 4 seconds: no"),
        ("1,,ui,error,==> amazon-ebs.gpu: checksum mismatch", "checksum mismatch"),
        ("", "exit status 1"),
    ],
)  # fmt: skip
def test_reason_is_found_in_the_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, printed: str, reason: str
) -> None:
    use_packer(monkeypatch, tmp_path / "bin", printing(f"{printed}\n", status=1))

    with pytest.raises(ToolError, match="Packer failed: ") as caught:
        build(tmp_path)

    assert str(caught.value).startswith(f"Packer failed: {reason}; all")


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("kill -9 $$", "signal 9 ended it"),
        ("echo '1,,ui,say,==> Wait completed'; kill -9 $$", "signal 9 ended it"),
        (printing(BUILD_PRINTS), "it ended in the middle of the build"),
        (printing(BUILD_PRINTS, status=2), "exit status 2 in the middle of its work"),
        (printing(f"{BUILD_PRINTS}panic: runtime error\n\ngoroutine 1:\n", status=2), "panic: runtime error"),
        (
            printing(f"{BUILD_PRINTS}1,,ui,say,==> Wait completed\n1,amazon-ebs.gpu,error,unexpected EOF\n", status=1),
            r"its plugin is gone \(unexpected EOF\)",
        ),
    ],
    ids=["killed", "killed at its end", "its worker was killed", "aborted", "panic", "its plugin was killed"],
)
def test_crash_of_packer_is_called_a_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str
) -> None:
    use_packer(monkeypatch, tmp_path / "bin", script)

    progress = RecordingProgress()

    with pytest.raises(ToolError, match=rf"^Packer crashed: {reason}; all that it printed is in .*packer\.log\.$"):
        build(tmp_path, phases=[progress])

    assert progress.events[0] == "phase check the inputs"


def test_crash_log_that_packer_leaves_in_the_checkout_goes_to_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_packer(monkeypatch, tmp_path / "bin", "echo trace > crash.log; echo 'panic: oh' >&2; exit 2")

    with pytest.raises(ToolError, match=r"its crash log is .*/packer-crash\.log\.$"):
        build(tmp_path)

    assert (tmp_path / "packer-crash.log").read_text() == "trace\n"
    assert not (tmp_path / "crash.log").exists()


@pytest.mark.parametrize(
    ("artifacts", "named"),
    [
        ("", "no image"),
        ("1,x,artifact,0,id,Null\n", "no image"),
        ("1,x,artifact,0,id,us-east-1:ami-1\n1,x,artifact,0,id,us-west-2:ami-2\n", "ami-1, ami-2"),
    ],
)
def test_success_without_one_image_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, artifacts: str, named: str
) -> None:
    use_packer(monkeypatch, tmp_path / "bin", printing(f"1,,ui,say,==> Wait completed after 1 s\n{artifacts}"))

    with pytest.raises(ToolError, match=f"Packer ended well with {named}, not with one image"):
        build(tmp_path)


def test_image_of_the_manifest_must_be_the_one_that_packer_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_packer(monkeypatch, tmp_path / "bin", printing(SUCCESS_PRINTS))
    builds = [{"packer_run_uuid": "one", "artifact_id": "us-east-1:ami-9"}]
    same = manifest(tmp_path, {"builds": builds, "last_run_uuid": "one"})

    assert build(tmp_path, manifest=same).ami_id == "ami-9"

    builds[0]["artifact_id"] = "us-east-1:ami-8"
    other = manifest(tmp_path, {"builds": builds, "last_run_uuid": "one"})
    with pytest.raises(ToolError, match="Packer named ami-9, and "):
        build(tmp_path, manifest=other)


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
