from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from gpunodes.errors import PreflightError, ToolError
from gpunodes.proof import terraform
from gpunodes.proof.terraform import Stack, cli_environment, find_mirror
from tests.gpunodes.fakes import executable

APPLY_PRINTS = """
{"@message":"aws_instance.gpu: Creating...","type":"apply_start"}
{"@message":"aws_instance.gpu: Still creating... [10s elapsed]","type":"apply_progress"}
{"@message":"Apply complete! Resources: 1 added, 0 changed, 0 destroyed.","type":"change_summary"}
"""
# Writes down what it was called with; `apply` makes a state with one output, `destroy` empties it.
FAKE_TERRAFORM = f"""
echo "$@" >> "$CALLS"
case $2 in
init) echo "$*" | sed 's/.*path=//; s/ .*//' > "$CALLS.state" ;;
apply)
  cat <<'END'
{APPLY_PRINTS}
END
  echo '{{"outputs": {{"instance_id": {{"value": "i-1"}}}}, "resources": [{{}}]}}' > "$(cat "$CALLS.state")" ;;
destroy) echo '{{"outputs": {{}}, "resources": []}}' > "$(cat "$CALLS.state")" ;;
esac
"""
FAILS = """
[ "$2" = apply ] || exit 0
cat <<'END'
{"@message":"Error: one","type":"diagnostic","diagnostic":{"severity":"error","summary":"no such image.","detail":""}}
{"@message":"Error: two","type":"diagnostic","diagnostic":{"severity":"error","summary":"a second one","detail":""}}
END
exit 1
"""


def mirror_in(folder: Path) -> Path:
    (folder / "registry.terraform.io").mkdir(parents=True)
    return folder


def use_only(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> None:
    monkeypatch.setenv("PATH", os.pathsep.join(str(folder) for folder in folders))


def no_mirror() -> Path | None:
    return None


def test_newer_version_is_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executable(tmp_path, "terraform", "echo 'Terraform v1.11.4'; echo 'on linux_amd64'")
    use_only(monkeypatch, tmp_path)

    assert terraform.version() == (1, 11, 4)


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        ("echo 'Terraform v1.6.9'", r"Terraform 1\.6\.9 is too old; run .*, or install 1\.7\.0 or newer\."),
        ("echo 'OpenTofu v1.8.0'", r"`terraform` on PATH is not HashiCorp's Terraform"),
        ("echo broken >&2; exit 1", r"The `terraform` on PATH does not work"),
    ],
)  # fmt: skip
def test_unusable_terraform_is_a_preflight_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, complaint: str
) -> None:
    executable(tmp_path, "terraform", script)
    use_only(monkeypatch, tmp_path)

    with pytest.raises(PreflightError, match=complaint):
        terraform.version()


def test_missing_terraform_is_a_preflight_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_only(monkeypatch, tmp_path)

    with pytest.raises(PreflightError, match="Terraform is not installed"):
        terraform.version()


def test_mirror_is_found_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    mirror = mirror_in(tmp_path / ".terraform.d" / "plugins")

    assert find_mirror(opt=tmp_path / "opt") == mirror


def test_mirror_is_found_one_level_below_opt_and_no_deeper(tmp_path: Path) -> None:
    mirror_in(tmp_path / "opt" / "a" / "deep")
    assert find_mirror([], tmp_path / "opt") is None

    mirror = mirror_in(tmp_path / "opt" / "b")
    assert find_mirror([], tmp_path / "opt") == mirror


def test_mirror_of_the_system_comes_before_opt(tmp_path: Path) -> None:
    mirror_in(tmp_path / "opt" / "b")
    mirror = mirror_in(tmp_path / "share")

    assert find_mirror([tmp_path / "absent", mirror], tmp_path / "opt") == mirror


def test_folder_that_cannot_be_looked_into_is_passed_over(tmp_path: Path) -> None:
    unusable = tmp_path / ("x" * 255) / ("y" * 256)  # too long a name: an error for root, too
    mirror = mirror_in(tmp_path / "opt" / "b")

    assert find_mirror([unusable], tmp_path / "opt") == mirror


def test_no_mirror_means_the_registry_with_a_plugin_cache(tmp_path: Path) -> None:
    environment = cli_environment(tmp_path / "tf", {}, no_mirror, tmp_path / "absent")

    configuration = Path(environment["TF_CLI_CONFIG_FILE"]).read_text()
    assert configuration == f'plugin_cache_dir = "{tmp_path}/tf/plugin-cache"\n'
    assert (tmp_path / "tf" / "plugin-cache").is_dir()


def test_mirror_serves_the_registrys_providers(tmp_path: Path) -> None:
    environment = cli_environment(tmp_path / "tf", {}, lambda: Path("/srv/mirror"), tmp_path / "absent")

    configuration = Path(environment["TF_CLI_CONFIG_FILE"]).read_text()
    assert 'path    = "/srv/mirror"' in configuration
    assert configuration.count('["registry.terraform.io/*/*"]') == 2


@pytest.mark.parametrize("named", [True, False], ids=["named in the environment", "in the home folder"])
def test_configuration_of_the_users_own_is_left_alone(tmp_path: Path, named: bool) -> None:
    own = tmp_path / "own.rc"
    own.touch()
    inherited: Mapping[str, str] = {"TF_CLI_CONFIG_FILE": str(own)} if named else {}

    environment = cli_environment(tmp_path / "tf", inherited, no_mirror, tmp_path / "absent" if named else own)

    assert "TF_CLI_CONFIG_FILE" not in environment
    assert environment["TF_IN_AUTOMATION"] == "1"
    assert not (tmp_path / "tf").exists()


def test_configuration_that_is_named_but_missing_is_replaced(tmp_path: Path) -> None:
    environment = cli_environment(
        tmp_path / "tf", {"TF_CLI_CONFIG_FILE": str(tmp_path / "missing.rc")}, no_mirror, tmp_path / "absent"
    )

    assert environment["TF_CLI_CONFIG_FILE"] == str(tmp_path / "tf" / "terraform.rc")


@pytest.fixture
def steps() -> list[str]:
    return []


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: list[str]) -> Stack:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    executable(tmp_path / "bin", "terraform", FAKE_TERRAFORM)
    return Stack(tmp_path / "source", tmp_path / "run", {"CALLS": str(tmp_path / "calls")}, steps.append)


def calls(stack: Stack) -> list[str]:
    path = Path(stack.environment["CALLS"])
    return [line.split()[1] for line in path.read_text().splitlines()] if path.exists() else []


def test_apply_gives_the_outputs_and_writes_the_variables(stack: Stack) -> None:
    assert stack.apply({"region": "here", "subnet_id": None}) == {"instance_id": "i-1"}

    assert calls(stack) == ["init", "apply"]
    assert json.loads((stack.folder / "run.tfvars.json").read_text()) == {"region": "here", "subnet_id": None}
    assert "Apply complete!" in (stack.folder / "terraform.log").read_text()


def test_apply_says_what_terraform_is_doing(stack: Stack, steps: list[str]) -> None:
    stack.apply({})

    assert steps == ["aws_instance.gpu: Creating...", "aws_instance.gpu: Still creating..."]


def test_state_is_put_aside_once_nothing_of_it_exists(stack: Stack) -> None:
    stack.forget()
    stack.apply({})
    stack.destroy()
    stack.forget()
    stack.destroy()

    assert calls(stack) == ["init", "apply", "destroy"]
    assert [path.name for path in stack.folder.glob("terraform.tfstate*")] == ["terraform.tfstate.forgotten"]


def test_destroy_looks_nothing_up_and_waits_for_who_holds_the_state(stack: Stack) -> None:
    stack.apply({})
    stack.destroy()

    last = Path(stack.environment["CALLS"]).read_text().splitlines()[-1].split()
    assert {"-json", "-refresh=false", "-lock-timeout=60s"} <= set(last)


def test_destroy_reads_nothing_again_for_an_image_may_be_gone(stack: Stack) -> None:
    stack.apply({})
    stack.destroy()

    last = Path(stack.environment["CALLS"]).read_text().splitlines()[-1].split()
    assert last[1] == "destroy"
    assert "-refresh=false" in last


def test_destroy_without_a_state_starts_nothing(stack: Stack) -> None:
    stack.destroy()

    assert calls(stack) == []


def test_first_error_of_terraform_is_the_reason(stack: Stack, tmp_path: Path) -> None:
    executable(tmp_path / "bin", "terraform", FAILS)

    with pytest.raises(ToolError) as caught:
        stack.apply({})

    assert str(caught.value) == (
        f"`terraform apply` failed: no such image; all that it printed is in {stack.folder}/terraform.log."
    )
    assert (stack.folder / "terraform.log").read_text() == "Error: one\nError: two\n"


def test_failure_without_a_word_is_told_by_its_status(stack: Stack, tmp_path: Path) -> None:
    executable(tmp_path / "bin", "terraform", "exit 5")

    with pytest.raises(ToolError, match="`terraform init` failed: exit status 5; all"):
        stack.apply({})
