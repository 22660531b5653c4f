from __future__ import annotations

import os
from pathlib import Path

import pytest

from gpunodes.bake import packer, template_check
from gpunodes.bake.template_check import Template
from gpunodes.errors import PreflightError
from gpunodes.preflight.finding import NotAnsweredError
from gpunodes.recipe import recipe
from tests.gpunodes.fakes import executable

VARIABLES = """
variable "region" {
  type = string
}
variable "wheelhouse_dir" {
  type = string
}
variable "tags" {
  type    = map(string)
  default = {}
}
"""
REFUSALS = {
    "a field": (
        """Error: 2 error(s) occurred:

* ssh_private_key_file is invalid: no key found
* another one.

  on /x/gpu-ami.pkr.hcl line 13:
  (source code not available)

""",
        " (gpu-ami.pkr.hcl line 13): ssh_private_key_file is invalid: no key found",
    ),
    "an argument": (
        """Warning: Something else

Error: Unsupported argument

  on /x/gpu-ami.pkr.hcl line 33:
  (source code not available)

An argument named "comunicator" is not expected here. Did you mean
"communicator"?

Error: Another

  on /x/other.pkr.hcl line 1:
""",
        ' (gpu-ami.pkr.hcl line 33): Unsupported argument: An argument named "comunicator" is not expected here',
    ),
    "a value": (
        """Error: Invalid value for varfile variable

  on /x/check.pkrvars.json line 1:
  (source code not available)

The source_ami must be an id.

This was checked by the validation rule at /x/variables.pkr.hcl:11,3-13.
""",
        ": Invalid value for varfile variable: The source_ami must be an id",
    ),
    "a variable": ('Error: Unset variable "run_id"\n', ': Unset variable "run_id"'),
    "a crash": ("panic: oh\nexit\n", ": exit"),
    "nothing": ("", ""),
}


def template(folder: Path, **variables: str) -> Template:
    path = folder / "template" / "variables.pkr.hcl"
    path.parent.mkdir(parents=True)
    path.write_text(VARIABLES)
    return Template(path.parent, {"region": "here", **variables}, folder, frozenset({"wheelhouse_dir"}), {"CLOUD": "c"})


def use_packer(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    executable(folder / "bin", "packer", script)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")


def test_variables_are_read_with_whether_they_must_be_given(tmp_path: Path) -> None:
    (tmp_path / "b.pkr.hcl").write_text("locals {\n  x = var.region\n}\n")
    (tmp_path / "a.pkr.hcl").write_text(VARIABLES)

    assert template_check.declared(tmp_path) == {"region": True, "wheelhouse_dir": True, "tags": False}


def test_file_that_is_no_hcl_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.pkr.hcl").write_text('variable "x" {\n  type = = string\n}\n')

    with pytest.raises(PreflightError) as caught:
        template_check.declared(tmp_path)

    assert str(caught.value) == "The template is no valid HCL (a.pkr.hcl line 2); correct it."
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            {"regoin", "region"},
            "The template does not declare the variable `regoin` that the bake gives it; did you mean `region`?",
        ),
        (
            {"zzz", "region"},
            (
                "The template does not declare the variable `zzz` that the bake gives it;"
                " declare it in packer/variables.pkr.hcl."
            ),
        ),
        (
            {"tags"},
            "The template needs `ami_name`, `region`, which the bake does not give; give a default or the value.",
        ),
    ],
    ids=["misspelt", "unknown", "missing"],
)
def test_variables_that_do_not_match_are_a_preflight_error(given: set[str], sentence: str) -> None:
    with pytest.raises(PreflightError) as caught:
        template_check.check_names({"region": True, "ami_name": True, "tags": False}, given)

    assert str(caught.value) == sentence
    assert caught.value.exit_code == 2


def test_packer_is_not_started_for_a_variable_that_is_not_declared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_packer(monkeypatch, tmp_path, "exit 0")

    with pytest.raises(PreflightError, match="does not declare the variable `regon`"):
        template_check.check(template(tmp_path, regon="x"), (1, 6, 6))


def test_packer_gets_the_laid_out_template_the_values_and_stand_ins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_packer(
        monkeypatch,
        tmp_path,
        f'cat "${{2#-var-file=}}" > {tmp_path}/values; ls "$3" > {tmp_path}/files; echo "$1 $CLOUD" > {tmp_path}/call',
    )

    seen = template_check.check(template(tmp_path), (1, 6, 6))

    assert (tmp_path / "call").read_text() == "validate c\n"
    assert (tmp_path / "files").read_text() == "variables.pkr.hcl\n"
    assert '"region": "here"' in (tmp_path / "values").read_text()
    assert '/empty"' in (tmp_path / "values").read_text()
    assert seen.text == "The template and its 3 variables are valid."


@pytest.mark.parametrize(("printed", "said"), REFUSALS.values(), ids=REFUSALS.keys())
def test_refusal_of_packer_becomes_one_sentence_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, printed: str, said: str
) -> None:
    use_packer(monkeypatch, tmp_path, f"cat <<'END'\n{printed}END\nexit 1")

    with pytest.raises(PreflightError) as caught:
        template_check.check(template(tmp_path), (1, 6, 6))

    assert str(caught.value) == f"Packer refuses the template{said}; correct it and repeat."
    assert caught.value.exit_code == 2


def test_plugin_that_the_bake_will_install_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_packer(monkeypatch, tmp_path, "echo 'Error: Missing plugins'; echo 'Did you run packer init?'; exit 1")

    with pytest.raises(NotAnsweredError, match="plugin is not installed yet; the bake installs it"):
        template_check.check(template(tmp_path), (1, 11, 0))


def test_template_of_this_checkout_declares_what_packer_needs() -> None:
    known = template_check.declared(recipe.TEMPLATE_FOLDER)

    assert known["source_ami"]
    assert not known["subnet_id"]


def test_real_packer_refuses_with_file_and_line(tmp_path: Path) -> None:
    try:
        installed = packer.version()
    except PreflightError:
        pytest.skip("Packer is not installed")
    folder = tmp_path / "template"
    folder.mkdir()
    (folder / "a.pkr.hcl").write_text(
        'source "null" "a" {\n  comunicator = "none"\n}\nbuild {\n  sources = ["source.null.a"]\n}\n'
    )

    with pytest.raises(PreflightError) as caught:
        template_check.check(Template(folder, {}, tmp_path), installed)

    assert str(caught.value).startswith("Packer refuses the template (a.pkr.hcl line 2): Unsupported argument: ")
