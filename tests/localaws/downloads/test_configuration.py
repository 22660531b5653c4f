import json
from pathlib import Path
from typing import Any

import pytest

from localaws.downloads.agent.configuration import Configuration, configuration_files, load
from localaws.downloads.agent.errors import ConfigurationError

BAKED = Path(__file__).parents[3] / "packer/rootfs/opt/aws/amazon-cloudwatch-agent/etc/gpunodes.json"


def loaded(tmp_path: Path, *contents: dict[str, Any]) -> Configuration:
    paths = []
    for number, content in enumerate(contents):
        paths.append(tmp_path / f"{number}.json")
        paths[-1].write_text(json.dumps(content))
    return load(paths)


def metrics(**collected: Any) -> dict[str, Any]:
    return {"metrics": {"metrics_collected": collected}}


def test_reads_the_configuration_that_the_bake_installs() -> None:
    configuration = load([BAKED])

    assert configuration.namespace == "CWAgent"
    assert configuration.run_as_user == "cwagent"
    names = {item.name: item.unit for section in configuration.collections for item in section.measurements}
    assert names == {"mem_used_percent": "Percent", "swap_used_percent": "Percent", "disk_used_percent": "Percent"}
    assert {section.interval_seconds for section in configuration.collections} == {60}


def test_files_are_merged_in_depth(tmp_path: Path) -> None:
    configuration = loaded(
        tmp_path,
        {"agent": {"metrics_collection_interval": 10}, **metrics(mem={"measurement": ["used"]})},
        metrics(swap={"measurement": ["swap_free"], "metrics_collection_interval": 5}),
    )

    assert [(item.section, item.interval_seconds) for item in configuration.collections] == [("mem", 10), ("swap", 5)]


def test_files_that_disagree_are_refused_with_the_path(tmp_path: Path) -> None:
    mine = {"metrics": {"namespace": "A", "metrics_collected": {"mem": {"measurement": ["used"]}}}}

    with pytest.raises(ConfigurationError, match="/metrics/namespace"):
        loaded(tmp_path, mine, {"metrics": {"namespace": "B"}})


def test_a_measurement_can_be_renamed(tmp_path: Path) -> None:
    wanted = {"name": "used", "rename": "MemoryUsed", "unit": "Gigabytes"}
    [section] = loaded(tmp_path, metrics(mem={"measurement": [wanted]})).collections

    assert [(item.field, item.name, item.unit) for item in section.measurements] == [
        ("used", "MemoryUsed", "Gigabytes")
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "nothing to collect"),
        (metrics(cpu={"measurement": ["usage_idle"]}), "nothing to collect"),
        (metrics(mem={}), "metrics_collected/mem/measurement"),
    ],
)
def test_a_configuration_without_anything_to_collect_is_refused(
    tmp_path: Path, content: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        loaded(tmp_path, content)


def test_a_file_that_is_no_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{")

    with pytest.raises(ConfigurationError, match=r"broken\.json"):
        load([tmp_path / "broken.json"])


def test_main_file_comes_before_the_directory(tmp_path: Path) -> None:
    (tmp_path / "amazon-cloudwatch-agent.d").mkdir()
    for name in (
        "amazon-cloudwatch-agent.json",
        "amazon-cloudwatch-agent.d/b.json",
        "amazon-cloudwatch-agent.d/a.json",
    ):
        (tmp_path / name).touch()

    assert [path.name for path in configuration_files(tmp_path)] == ["amazon-cloudwatch-agent.json", "a.json", "b.json"]
