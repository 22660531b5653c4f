"""Runs what is written in bash through bash's own tools: bats, shellcheck, shfmt."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT_FOLDER = ROOT / "scripts/provision"
SCRIPTS = sorted(SCRIPT_FOLDER.glob("*.sh"))
SUITES = sorted(Path(__file__).parent.glob("*.bats"))


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    return subprocess.run([program, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.parametrize("suite", SUITES, ids=lambda path: path.stem)
def test_bats_suite_passes(suite: Path) -> None:
    done = run("bats", str(suite))

    assert done.returncode == 0, done.stdout + done.stderr


def test_shellcheck_and_shfmt_find_nothing() -> None:
    names = [str(path) for path in SCRIPTS]

    assert run("shellcheck", "--enable=check-unassigned-uppercase", *names).stdout == ""
    assert run("shfmt", "-i", "2", "-ci", "-d", *names, *map(str, SUITES)).stdout == ""


# A script that changes something, and the check that it ends with.
CHECKED = {
    "hold-packages.sh": "check-hold.sh",
    "settle-dlami.sh": "check-dlami.sh",
    **{path.name: path.name.replace("install-", "check-") for path in SCRIPTS if path.name.startswith("install-")},
}
NOT_BAKED_WITH = {"verify-clone.sh"}  # runs on clones of the image


@pytest.mark.parametrize("name", CHECKED)
def test_script_that_changes_something_ends_with_its_check(name: str) -> None:
    check = CHECKED[name]
    script = (SCRIPT_FOLDER / name).read_text()

    assert (SCRIPT_FOLDER / check).is_file()
    assert f'/{check}"' in script
    assert script.endswith(('bash "$check"\n}\n\nmain "$@"\n', 'bash "$check" "${names[@]}"\n}\n\nmain "$@"\n'))


def test_the_template_runs_every_script() -> None:
    template = (ROOT / "packer/gpu-ami.pkr.hcl").read_text()
    started = {path.name for path in SCRIPTS if f"/{path.name}" in template}

    assert {path.name for path in SCRIPTS} - started - set(CHECKED.values()) == NOT_BAKED_WITH
    assert "check-base.sh" in started


def test_every_script_has_a_case_that_fails() -> None:
    suites = [path.read_text() for path in SUITES]

    for script in [path for path in SCRIPTS if path.name not in CHECKED.values()]:  # those fail through their owners
        own = [text for text in suites if script.stem in text]
        assert any('"$status" -eq 1' in text or '"$status" -ne 0' in text for text in own), script.name


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_every_failure_is_marked_as_one(script: Path) -> None:
    """What the operator is shown of a failed bake is the first line with this mark."""
    lines = script.read_text().splitlines()

    for number, line in enumerate(lines):
        if line.strip() == "exit 1":
            before = "\n".join(lines[max(0, number - 3) : number])
            assert 'log "error: ' in before, f"{script.name}:{number + 1}"
