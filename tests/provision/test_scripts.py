"""Runs what is written in bash through bash's own tools: bats, shellcheck, shfmt."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "scripts/provision").glob("*.sh"))
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

    assert run("shellcheck", *names).stdout == ""
    assert run("shfmt", "-d", *names).stdout == ""


@pytest.mark.parametrize("script", [path for path in SCRIPTS if path.name.startswith("install-")], ids=lambda p: p.name)
def test_install_script_ends_with_its_check(script: Path) -> None:
    check = script.name.replace("install-", "check-")

    assert (script.parent / check).is_file()
    assert f'/{check}"' in script.read_text()
    assert 'bash "$check"\n}\n\nmain "$@"\n' in script.read_text()


def test_the_template_runs_every_script() -> None:
    template = (ROOT / "packer/gpu-ami.pkr.hcl").read_text()

    assert [path.name for path in SCRIPTS if not path.name.startswith("check-") and path.name not in template] == []
