#!/usr/bin/env python3
"""Write what terraform/ has from elsewhere: the metrics of the dashboard, and the tables in the README files.

    generate_terraform.py            write the files
    generate_terraform.py --check    write nothing; name the files that would be written otherwise

Needs the checkout's virtual environment. Exit codes: 0 all is well, 1 with --check: a file would be written otherwise,
2 usage, or a source that cannot be understood.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import hcl2
import tomllib

ROOT = Path(__file__).resolve().parents[1]
METRICS_JSON = "terraform/modules/monitored-gpu/metrics.json"
TABLES_BEGIN = "<!-- Made from the *.tf files by scripts/generate_terraform.py; edit those. -->"
TABLES_END = "<!-- End of what is made. -->"

_METRICS_TOML = "gpumon/metrics.toml"
_GPUMON_DEFAULTS = "gpumon/default.toml"
_AGENT_CONFIGURATION = "packer/rootfs/opt/aws/amazon-cloudwatch-agent/etc/gpunodes.json"

_TIERS = ("core", "health", "extended")  # those of "legacy" have other dimensions
_GPU_DIMENSIONS = ("InstanceId", "GpuIndex", "GpuUuid")
_SEEN_FIRST = ("MemoryUsed", "MemoryUtilization", "MemoryFree")
_BAD_WHEN_LOW = ("DriverUp", "GpuCount", "GpuUp", "Heartbeat")
# CloudWatch has no unit for these, so the metric's is "None"; the name of its reader ends with the unit.
_UNIT_OF_READER = {"celsius": "degrees Celsius", "megahertz": "megahertz", "millijoules": "joules", "watts": "watts"}


class SourceError(Exception):
    """A source that cannot be understood; the message is one sentence that says what to do."""


def metrics_document(root: Path) -> dict[str, Any]:
    """What the module knows of the metrics: namespaces, dimensions, and how a graph shows each of them.

    Raises:
        SourceError: one that this script names does not exist.
    """
    table = tomllib.loads((root / _METRICS_TOML).read_text(encoding="utf-8"))
    agent = json.loads((root / _AGENT_CONFIGURATION).read_text(encoding="utf-8"))["metrics"]
    if absent := {*_SEEN_FIRST, *_BAD_WHEN_LOW} - set(table):
        names = ", ".join(sorted(absent))
        raise SourceError(f"{_METRICS_TOML} has no {names}; correct the names in scripts/generate_terraform.py.")
    return {
        "namespace": tomllib.loads((root / _GPUMON_DEFAULTS).read_text(encoding="utf-8"))["namespace"],
        "agent_namespace": agent["namespace"],
        "gpu_dimensions": list(_GPU_DIMENSIONS),
        "metrics": [_metric(name, table[name]) for name in _in_order(table)],
        "agent_metrics": [_agent_metric(name) for name in _agent_names(agent["metrics_collected"])],
    }


def _in_order(table: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Names of the metrics in CloudWatch as they are to be seen: by tier, GPUs before host, memory before all else."""
    shown = [name for name, metric in table.items() if metric["tier"] in _TIERS and metric.get("cloudwatch", True)]
    first = {name: place for place, name in enumerate(_SEEN_FIRST)}
    return sorted(
        shown,  # what is equal stays in the order of the file
        key=lambda name: (
            _TIERS.index(table[name]["tier"]),
            table[name]["scope"] != "gpu",
            first.get(name, len(first)),
        ),
    )


def _metric(name: str, metric: Mapping[str, Any]) -> dict[str, Any]:
    statistic = _statistic(name, metric)
    unit = _unit(metric)
    return {
        "name": name,
        "tier": metric["tier"],
        "scope": metric["scope"],
        "title": f"{name} ({', '.join(filter(None, [unit, statistic.lower()]))})",
        "unit": unit,
        "statistic": statistic,
        "range": _range(metric["unit"]),
    }


def _statistic(name: str, metric: Mapping[str, Any]) -> str:
    """The statistic of a minute that hides no fault: what was counted, the worst moment of a state, else the mean."""
    if metric.get("kind") == "counter":
        return "Sum"
    if name in _BAD_WHEN_LOW:
        return "Minimum"
    if metric["tier"] == "health" and metric["unit"] in ("Count", "None"):
        return "Maximum"
    return "Average"


def _unit(metric: Mapping[str, Any]) -> str:
    if metric["unit"] != "None":
        return str(metric["unit"]).lower()
    return _UNIT_OF_READER.get(metric["reader"].rpartition("_")[2], "")


def _range(unit: str) -> dict[str, int]:
    return {"min": 0, "max": 100} if unit == "Percent" else {}


def _agent_names(collected: Mapping[str, Any]) -> Iterator[str]:
    """Names under which the CloudWatch agent publishes: it puts the plugin's before a measurement that lacks it."""
    for plugin, options in collected.items():
        for measurement in options["measurement"]:
            yield measurement if measurement.startswith(f"{plugin}_") else f"{plugin}_{measurement}"


def _agent_metric(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "scope": "agent",
        "title": f"{name} (average)",
        "unit": "percent" if name.endswith("_percent") else "",
        "statistic": "Average",
        "range": _range("Percent") if name.endswith("_percent") else {},
    }


def tables(folder: Path) -> str:
    """Inputs and outputs of a configuration as Markdown."""
    inputs = [
        (f"`{name}`", _code(body.get("type", "")), _default(body), _text(body["description"]))
        for name, body in _blocks(folder / "variables.tf", "variable")
    ]
    outputs = [(f"`{name}`", _text(body["description"])) for name, body in _blocks(folder / "outputs.tf", "output")]
    return "\n\n".join(
        [
            _table(("input", "type", "default", ""), inputs),
            _table(("output", ""), outputs),
        ]
    )


def _blocks(file: Path, keyword: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    with file.open(encoding="utf-8") as opened:
        parsed = hcl2.load(opened)
    for block in parsed.get(keyword, []):
        for name, body in block.items():
            if not name.startswith("__"):
                yield name.strip('"'), body


def _text(value: Any) -> str:
    """A string of HCL as people read it; a bar would end the cell of a table."""
    return str(json.loads(value)).replace("|", "\\|")


def _code(value: Any) -> str:
    return f"`{str(value).removeprefix('${').removesuffix('}')}`"


def _default(body: Mapping[str, Any]) -> str:
    if "default" not in body:
        return "required"
    return f"`{_literal(body['default'])}`"


def _literal(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_literal(each) for each in value)}]"
    if isinstance(value, dict):
        return "{}" if not value.keys() - {"__is_block__", "__comments__"} else json.dumps(value)
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return str(value)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |".replace("|  |", "| |") for cells in lines)


def readme(text: str, folder: Path) -> str:
    """A README with its tables made anew; all else stays.

    Raises:
        SourceError: it does not say where they are.
    """
    before, begin, rest = text.partition(TABLES_BEGIN)
    _, end, after = rest.partition(TABLES_END)
    if not (begin and end):
        raise SourceError(f"{folder / 'README.md'} lacks the lines {TABLES_BEGIN} and {TABLES_END}; put them into it.")
    return f"{before}{TABLES_BEGIN}\n\n{tables(folder)}\n\n{TABLES_END}{after}"


def generated(root: Path) -> dict[Path, str]:
    """Every file that is made, with what belongs into it.

    Raises:
        SourceError: a source cannot be understood.
    """
    files = {root / METRICS_JSON: json.dumps(metrics_document(root), indent=2) + "\n"}
    for variables in sorted((root / "terraform").glob("*/*/variables.tf")):
        path = variables.with_name("README.md")
        if not path.exists():
            raise SourceError(f"{path} is missing; write one with the lines {TABLES_BEGIN} and {TABLES_END}.")
        files[path] = readme(path.read_text(encoding="utf-8"), variables.parent)
    return files


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Write or check; returns the exit code."""
    parser = argparse.ArgumentParser(description="Write the dashboard's metrics and the README tables of terraform/.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file is not up to date")
    check = parser.parse_args(arguments).check
    try:
        files = generated(root)
    except SourceError as error:
        print(error, file=sys.stderr)
        return 2
    stale = [path for path, text in files.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        if check:
            print(f"{path.relative_to(root)} is out of date; run scripts/generate_terraform.py.", file=sys.stderr)
        else:
            path.write_text(files[path], encoding="utf-8")
            print(f"wrote {path.relative_to(root)}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
