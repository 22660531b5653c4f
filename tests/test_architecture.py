"""The rules of the house (ARCHITECTURE.md), read from the imports of the source; nothing is imported to check them.

A rule is a function from a checkout and the rule's data to the sentences that say where it is broken.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = ("gpumon", "gpunodes", "localaws", "tasks", "channel_tasks", "offline_tasks")

# Who may import whom: the longest entry that covers a module decides. What is not named here is not ours.
MAY_IMPORT: Mapping[str, Sequence[str]] = {
    "tasks": ["tasks", "channel_tasks", "offline_tasks", "gpunodes"],
    "channel_tasks": ["gpunodes"],
    "offline_tasks": ["gpunodes"],
    "gpunodes": ["gpunodes"],
    "gpunodes.offline_target": ["gpunodes", "localaws"],
    "localaws": ["localaws"],
    "gpumon": ["gpumon"],
}

# What only some modules (or packages, with all that is in them) may import, and which. boto3 makes the clients; its
# error classes may be caught anywhere. Fabric's errors are Invoke's. The stand-in for the CloudWatch agent is a program
# of its own, and so is what is copied onto an instance.
ONLY_IN: Mapping[str, Sequence[str]] = {
    "pynvml": ["gpumon.readers.nvml", "gpunodes.proof.on_instance"],
    "boto3": ["gpumon.aws", "gpunodes.aws", "localaws.aws"],
    "botocore.session": ["gpumon.aws", "gpunodes.aws", "localaws.aws", "localaws.downloads.agent.publisher"],
    "subprocess": ["gpunodes.commands", "gpunodes.proof.on_instance", "localaws.commands"],
    "pty": [],
    "multiprocessing": [],
    "fabric": ["gpunodes.proof.remote"],
    "hcl2": ["gpunodes.recipe.recipe"],
    "invoke": ["tasks", "channel_tasks", "offline_tasks", "gpunodes.proof.remote"],
}

MAX_LINES: Mapping[str, int] = {name: 200 if name.endswith("tasks") else 300 for name in OURS}


def modules(root: Path) -> Iterator[tuple[str, Path]]:
    """Every module of ours under `root` as (dotted name, file); parts that are not written yet have none."""
    for top in OURS:
        for path in sorted([*root.glob(f"{top}.py"), *root.glob(f"{top}/**/*.py")]):
            parts = path.relative_to(root).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports(name: str, path: Path) -> set[str]:
    """Dotted names that a module imports, at its top or deeper, relative ones made absolute."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            found |= {f"{origin}.{alias.name}".lstrip(".") for alias in node.names}
    return found


def covers(prefix: str, name: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


def broken_layers(root: Path, may_import: Mapping[str, Sequence[str]]) -> list[str]:
    broken = []
    for name, path in modules(root):
        allowed = may_import[max((entry for entry in may_import if covers(entry, name)), key=len)]
        ours = {imported for imported in imports(name, path) if imported.split(".")[0] in OURS}
        strangers = {imported for imported in ours if not any(covers(entry, imported) for entry in allowed)}
        broken += [f"{name} must not import {imported}" for imported in sorted(strangers)]
    return broken


def broken_seams(root: Path, only_in: Mapping[str, Sequence[str]]) -> list[str]:
    return [
        f"{name} must not import {imported}; only {', '.join(allowed) or 'nobody'} may"
        for name, path in modules(root)
        for imported in sorted(imports(name, path))
        for outside, allowed in only_in.items()
        if covers(outside, imported) and not any(covers(entry, name) for entry in allowed)
    ]


def too_long(root: Path, max_lines: Mapping[str, int]) -> list[str]:
    return [
        f"{name} has {lines} lines, at most {max_lines[name.split('.')[0]]} are good to read"
        for name, path in modules(root)
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > max_lines[name.split(".")[0]]
    ]


def loops(root: Path, module: str) -> list[str]:
    return [
        f"{name} line {node.lineno}: a loop belongs into the package that does the work"
        for name, path in modules(root)
        if name == module
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.For | ast.AsyncFor | ast.While)
    ]


def test_packages_import_only_downwards() -> None:
    assert broken_layers(ROOT, MAY_IMPORT) == []


def test_every_outside_thing_has_one_module() -> None:
    assert broken_seams(ROOT, ONLY_IN) == []


def test_modules_are_short() -> None:
    assert too_long(ROOT, MAX_LINES) == []


def test_tasks_have_no_loops() -> None:
    assert loops(ROOT, "tasks") == loops(ROOT, "channel_tasks") == loops(ROOT, "offline_tasks") == []


def write(root: Path, files: Mapping[str, str]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


@pytest.mark.parametrize(
    ("file", "source", "complaint"),
    [
        ("gpunodes/errors.py", "import gpumon.metrics", "gpunodes.errors must not import gpumon.metrics"),
        ("gpunodes/errors.py", "from localaws import cloud", "gpunodes.errors must not import localaws.cloud"),
        ("gpunodes/errors.py", "from .. import localaws", "gpunodes.errors must not import localaws"),
        ("gpunodes/errors.py", "def f():\n    import tasks", "gpunodes.errors must not import tasks"),
        ("gpunodes/offline_target.py", "import gpumon", "gpunodes.offline_target must not import gpumon"),
        ("localaws/cloud.py", "from gpunodes.target import T", "localaws.cloud must not import gpunodes.target.T"),
        ("gpumon/sinks/__init__.py", "import localaws.cloud", "gpumon.sinks must not import localaws.cloud"),
        ("tasks.py", "import localaws", "tasks must not import localaws"),
    ],
)
def test_import_upwards_or_sideways_is_found(tmp_path: Path, file: str, source: str, complaint: str) -> None:
    write(tmp_path, {file: source})

    assert broken_layers(tmp_path, MAY_IMPORT) == [complaint]


def test_import_downwards_is_allowed(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "tasks.py": "from gpunodes import bake",
            "gpunodes/errors.py": "import json\nfrom . import target\nfrom gpunodes.errors import E",
            "gpunodes/offline_target.py": "from localaws import cloud",
            "gpumon/readers/kmsg.py": "from ..samples import Sample",
        },
    )

    assert broken_layers(tmp_path, MAY_IMPORT) == []


@pytest.mark.parametrize(
    ("file", "source", "complaint"),
    [
        (
            "gpumon/readers/nvmlish.py",
            "import pynvml",
            "gpumon.readers.nvmlish must not import pynvml; only gpumon.readers.nvml, gpunodes.proof.on_instance may",
        ),
        (
            "gpunodes/errors.py",
            "from subprocess import run",
            (
                "gpunodes.errors must not import subprocess.run; only gpunodes.commands, gpunodes.proof.on_instance,"
                " localaws.commands may"
            ),
        ),
        ("gpumon/aws.py", "import pty", "gpumon.aws must not import pty; only nobody may"),
        (
            "localaws/cloud.py",
            "import boto3.session",
            "localaws.cloud must not import boto3.session; only gpumon.aws, gpunodes.aws, localaws.aws may",
        ),
    ],
)
def test_second_way_to_the_outside_is_found(tmp_path: Path, file: str, source: str, complaint: str) -> None:
    write(tmp_path, {file: source})

    assert broken_seams(tmp_path, ONLY_IN) == [complaint]


def test_seam_itself_and_names_that_only_begin_alike_are_allowed(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "gpumon/readers/nvml/__init__.py": "import pynvml",
            "gpumon/readers/nvml/fields.py": "import pynvml",
            "gpunodes/commands.py": "import subprocess",
            "gpunodes/errors.py": "import boto3_stubs\nfrom botocore.exceptions import ClientError",
        },
    )

    assert broken_seams(tmp_path, ONLY_IN) == []


@pytest.mark.parametrize(("lines", "complaints"), [(300, 0), (301, 1)])
def test_module_over_the_limit_is_found(tmp_path: Path, lines: int, complaints: int) -> None:
    write(tmp_path, {"gpumon/window.py": "x = 1\n" * lines})

    assert len(too_long(tmp_path, MAX_LINES)) == complaints


@pytest.mark.parametrize("source", ["for x in y:\n    pass", "def f():\n    while True:\n        pass"])
def test_loop_is_found(tmp_path: Path, source: str) -> None:
    write(tmp_path, {"tasks.py": source, "gpunodes/errors.py": source})

    assert len(loops(tmp_path, "tasks")) == 1
