from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from gpumon import metrics as gpumon_metrics
from gpumon.identity import InstanceIdentity
from gpumon.samples import Gpu
from gpumon.sinks import cloudwatch
from scripts import generate_terraform

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what the script reads and writes."""
    for name in ("terraform", "gpumon", "packer"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", ".terraform"))
    return tmp_path


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The committed list of metrics."""
    read: dict[str, Any] = json.loads((ROOT / generate_terraform.METRICS_JSON).read_text(encoding="utf-8"))
    return read


def test_what_is_committed_is_what_would_be_made(capsys: pytest.CaptureFixture[str]) -> None:
    exit_code = generate_terraform.main(["--check"])

    assert (exit_code, capsys.readouterr().err) == (0, "")


def test_every_metric_that_cloudwatch_gets_is_listed_once(document: dict[str, Any]) -> None:
    listed = [metric["name"] for metric in document["metrics"]]

    assert sorted(listed) == sorted(
        metric.name for metric in gpumon_metrics.load_metrics() if metric.cloudwatch and metric.tier != "legacy"
    )


def test_tiers_follow_one_another_and_memory_comes_first(document: dict[str, Any]) -> None:
    metrics = document["metrics"]
    places = [("core", "health", "extended").index(metric["tier"]) for metric in metrics]

    assert places == sorted(places)
    assert [metric["name"] for metric in metrics][:3] == ["MemoryUsed", "MemoryUtilization", "MemoryFree"]


def test_namespace_and_dimensions_are_those_of_gpumon(document: dict[str, Any]) -> None:
    identity = InstanceIdentity(instance_id="i-1", instance_type="g5.12xlarge", image_id="ami-1", region="eu-central-1")
    published = cloudwatch._dimensions(Gpu(uuid="GPU-1", index=0, name="A10G"), False, identity)

    assert document["gpu_dimensions"] == [dimension["Name"] for dimension in published]
    assert (document["namespace"], document["agent_namespace"]) == ("GPU", "CWAgent")


def test_agent_metrics_have_the_names_that_the_agent_gives_them(document: dict[str, Any]) -> None:
    names = [metric["name"] for metric in document["agent_metrics"]]

    assert names == ["mem_used_percent", "swap_used_percent", "disk_used_percent"]


@pytest.mark.parametrize(
    ("name", "title", "statistic"),
    [
        ("MemoryUsed", "MemoryUsed (bytes, average)", "Average"),
        ("Temperature", "Temperature (degrees Celsius, average)", "Average"),
        ("EnergyConsumed", "EnergyConsumed (joules, sum)", "Sum"),
        ("XidErrors", "XidErrors (count, sum)", "Sum"),
        ("GpuUp", "GpuUp (minimum)", "Minimum"),
        ("GpuMissing", "GpuMissing (count, maximum)", "Maximum"),
        ("PcieTx", "PcieTx (bytes/second, average)", "Average"),
    ],
)
def test_graph_shows_what_hides_no_fault(document: dict[str, Any], name: str, title: str, statistic: str) -> None:
    [metric] = [metric for metric in document["metrics"] if metric["name"] == name]

    assert (metric["title"], metric["statistic"]) == (title, statistic)


def test_percentages_have_the_whole_scale(document: dict[str, Any]) -> None:
    for metric in document["metrics"] + document["agent_metrics"]:
        assert metric["range"] == ({"min": 0, "max": 100} if metric["unit"] == "percent" else {}), metric["name"]


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("gpumon/metrics.toml", "[GpuMissing]", "[GpuLost]"),
        ("gpumon/default.toml", 'namespace = "GPU"', 'namespace = "Gpus"'),
        ("packer/rootfs/opt/aws/amazon-cloudwatch-agent/etc/gpunodes.json", '"mem_used_percent"', '"mem_available"'),
        ("terraform/modules/monitored-gpu/variables.tf", "Image to launch", "Image"),
        ("terraform/stacks/test-instance/outputs.tf", "The run that made", "Run of"),
    ],
)
def test_change_of_a_source_makes_the_check_fail_until_it_is_written(
    checkout: Path, file: str, old: str, new: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = checkout / file
    text = source.read_text(encoding="utf-8")
    assert old in text
    source.write_text(text.replace(old, new), encoding="utf-8")

    assert generate_terraform.main(["--check"], checkout) == 1
    assert "is out of date; run scripts/generate_terraform.py." in capsys.readouterr().err
    assert generate_terraform.main([], checkout) == 0
    assert generate_terraform.main(["--check"], checkout) == 0


def test_metric_that_the_script_names_and_gpumon_lost_is_refused(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = checkout / "gpumon/metrics.toml"
    source.write_text(source.read_text(encoding="utf-8").replace("[Heartbeat]", "[Pulse]"), encoding="utf-8")

    assert generate_terraform.main([], checkout) == 2
    assert "gpumon/metrics.toml has no Heartbeat" in capsys.readouterr().err


def test_readme_without_a_place_for_the_tables_is_refused(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (checkout / "terraform/examples/two-instances/README.md").write_text("# two-instances\n", encoding="utf-8")

    assert generate_terraform.main([], checkout) == 2
    assert "lacks the lines" in capsys.readouterr().err


def test_configuration_without_a_readme_is_refused(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (checkout / "terraform/examples/two-instances/README.md").unlink()

    assert generate_terraform.main([], checkout) == 2
    assert "README.md is missing" in capsys.readouterr().err


def test_table_names_type_and_default_and_escapes_what_would_end_a_cell(tmp_path: Path) -> None:
    (tmp_path / "variables.tf").write_text(
        'variable "first" {\n description = "Say \\"a\\" | b."\n type = list(string)\n default = ["x"]\n}\n'
        'variable "second" {\n description = "Needed."\n type = string\n}\n'
    )
    (tmp_path / "outputs.tf").write_text('output "third" {\n description = "What."\n value = 1\n}\n')

    assert generate_terraform.tables(tmp_path).splitlines() == [
        "| input | type | default | |",
        "| --- | --- | --- | --- |",
        '| `first` | `list(string)` | `["x"]` | Say "a" \\| b. |',
        "| `second` | `string` | required | Needed. |",
        "",
        "| output | |",
        "| --- | --- |",
        "| `third` | What. |",
    ]
