"""The Packer template, before anything is launched: are its variables those that the bake gives, and is it valid."""

from __future__ import annotations

import difflib
import json
import re
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpunodes import commands
from gpunodes.bake import packer
from gpunodes.errors import PreflightError
from gpunodes.preflight.finding import NotAnsweredError, Seen
from gpunodes.recipe import recipe

_VARIABLES_FILE = "check.pkrvars.json"
_ERROR = "Error: "
_PLACE = re.compile(r"^\s*on (?P<file>.+) line (?P<line>\d+)")


@dataclass(frozen=True)
class Template:
    """What a bake will hand to Packer, as far as it is known.

    Attributes:
        folder: with the `*.pkr.hcl` files.
        variables: that have a value already.
        later: names of those that the bake gives once it has them, such as the SSH key's.
        environment: of the target.
        repository: working directory of Packer; the template's paths are relative to it.
    """

    folder: Path
    variables: Mapping[str, Any]
    repository: Path
    later: frozenset[str] = frozenset()
    environment: Mapping[str, str] = field(default_factory=dict)


def check(template: Template, installed: tuple[int, ...]) -> Seen[None]:
    """Whether Packer will accept the template with these variables; nothing is started but `packer validate`.

    Raises:
        PreflightError: it will not.
        NotAnsweredError: this Packer's plugin is not installed yet.
    """
    known = declared(template.folder)
    check_names(known, {*template.variables, *template.later})
    _validate(template, known, installed)
    return Seen(None, f"The template and its {len(known)} variables are valid.", {"variables": sorted(known)})


def declared(folder: Path) -> dict[str, bool]:
    """Variables that a template declares, and whether each must be given, having no default.

    Raises:
        PreflightError: a file is no HCL.
    """
    found: dict[str, bool] = {}
    for path in sorted(folder.glob("*.pkr.hcl")):
        source = path.read_bytes()
        if not re.search(rb"^\s*variable\b", source, re.MULTILINE):
            continue  # parsing costs a tenth of a second
        for block in recipe.parse(path.name, source).get("variable", []):
            found |= {name.strip('"'): "default" not in body for name, body in block.items()}
    return found


def check_names(known: Mapping[str, bool], given: Collection[str]) -> None:
    """Hold the variables that the bake gives against those that the template declares.

    Packer itself only warns of one that is not declared, and goes on without it.

    Args:
        known: names, and whether each must be given.
        given: names.

    Raises:
        PreflightError: one is not declared, or one that must be given is not.
    """
    for name in sorted(set(given) - set(known)):
        nearest = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean `{nearest[0]}`?" if nearest else "declare it in packer/variables.pkr.hcl."
        raise PreflightError(f"The template does not declare the variable `{name}` that the bake gives it; {hint}")
    missing = sorted(name for name, is_required in known.items() if is_required and name not in given)
    if missing:
        names = ", ".join(f"`{name}`" for name in missing)
        raise PreflightError(f"The template needs {names}, which the bake does not give; give a default or the value.")


def _validate(template: Template, known: Mapping[str, bool], installed: tuple[int, ...]) -> None:
    lines: list[str] = []
    with tempfile.TemporaryDirectory(prefix="gpunodes-template-") as name:
        scratch = Path(name)
        packer.lay_out(template.folder, scratch / "template", installed)
        variables = {**_stand_ins(template.later, known, scratch), **template.variables}
        (scratch / _VARIABLES_FILE).write_text(json.dumps(variables))
        status = commands.follow(
            ["packer", "validate", f"-var-file={scratch / _VARIABLES_FILE}", str(scratch / "template")],
            log=scratch / "packer.log",
            env={
                **template.environment,
                "CHECKPOINT_DISABLE": "1",
                "PACKER_NO_COLOR": "1",
                "PACKER_CACHE_DIR": str(scratch / "cache"),
            },
            cwd=template.repository,
            on_line=lines.append,
        )
    if status != 0:
        if any("packer init" in line for line in lines):
            raise NotAnsweredError(
                "Packer's amazon plugin is not installed yet; the bake installs it and validates then."
            )
        raise PreflightError(f"Packer refuses the template{complaint(lines)}; correct it and repeat.")


def _stand_ins(later: Collection[str], known: Mapping[str, bool], scratch: Path) -> dict[str, str]:
    """Values for variables that the bake does not have yet: the default, an empty folder, or nothing."""
    empty = scratch / "empty"
    empty.mkdir()
    return {name: str(empty) if name.endswith("_dir") else "" for name in later if known.get(name)}


def complaint(lines: list[str]) -> str:
    """The first error of `packer validate`: place in parentheses where there is one, then what is wrong."""
    start = next((number for number, line in enumerate(lines) if line.startswith(_ERROR)), None)
    if start is None:
        return f": {lines[-1].strip()}" if lines else ""
    title, block = lines[start].removeprefix(_ERROR), lines[start + 1 :]
    block = block[: next((number for number, line in enumerate(block) if line.startswith(_ERROR)), len(block))]
    found = next((match for line in block if (match := _PLACE.match(line))), None)
    place = ""
    if found and not found["file"].endswith(_VARIABLES_FILE):
        place = f" ({Path(found['file']).name} line {found['line']})"
    points = [line.removeprefix("* ").strip() for line in block if line.startswith("* ")]
    return f"{place}: {points[0].rstrip('.') if points else _said(title, block)}"


def _said(title: str, block: list[str]) -> str:
    """The title of an error with the first sentence of what follows it."""
    text = " ".join(line.strip() for line in block if not line.startswith("  ")).strip()
    first = re.split(r"(?<=[.?])\s|;", text, maxsplit=1)[0].rstrip(".")
    return f"{title.strip()}: {first}" if first else title.strip()
