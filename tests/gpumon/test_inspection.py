"""``once``, ``check`` and ``show-config`` as a person or a program runs them, next to a service or without one."""

from __future__ import annotations

import json
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest
import tomllib

from tests.gpumon.world import CLOSED_PORT, MIB, World, a_world, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def world(tmp_path: Path, driver_directory: Path) -> Iterator[World]:
    with a_world(tmp_path, driver_directory) as world:
        yield world


def once(world: World) -> Any:
    answer = world.command("once", "--json")
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


def check(world: World, **environment: str) -> tuple[int, dict[str, Any]]:
    """Return exit code and findings by subject ("GPU ..." without its number and name) of the check."""
    answer = world.command("check", "--json", **environment)
    document = json.loads(answer.stdout)
    assert "Traceback" not in answer.stderr
    assert document["health"] == ["healthy", "degraded", "broken"][answer.returncode]
    return answer.returncode, {finding["subject"].split(" (")[0]: finding for finding in document["findings"]}


# --- once


def test_once_shows_what_the_driver_says(world: World) -> None:
    world.gpus.set(0, memory_used_bytes=64 * MIB, temperature_celsius=77)
    gpu = once(world)["gpus"][0]

    assert (gpu["metrics"]["MemoryUsed"], gpu["metrics"]["Temperature"]) == (64 * MIB, 77)
    assert gpu["uuid"] == world.gpus.read(0)["uuid"]
    assert gpu["lost"] is False


def test_once_shows_a_table_to_people(world: World) -> None:
    world.gpus.set(0, temperature_celsius=77)
    lines = world.command("once").stdout.splitlines()

    assert lines[0] == "driver 580.95.05"
    assert next(line.split() for line in lines if line.startswith("Temperature ")) == ["Temperature", "(C)", "77"]


def test_once_shows_activity_that_needs_two_samples(world: World) -> None:
    world.gpus.install("p5.48xlarge", "i-8")

    assert once(world)["gpus"][7]["metrics"]["SmActive"] is not None


def test_once_knows_a_gpu_that_the_service_has_seen(world: World) -> None:
    world.gpus.install("g5.12xlarge", "i-4")
    world.start_reading().stop()
    world.gpus.lose(3, "vanished")
    document = once(world)

    assert [gpu["lost"] for gpu in document["gpus"]] == [False, False, False, True]
    assert (document["host"]["GpuCount"], document["host"]["GpuMissing"]) == (3, 1)


def test_once_leaves_a_released_driver_alone(world: World) -> None:
    (world.runtime / "released").touch()
    answer = world.command("once")

    assert (answer.returncode, answer.stdout) == (3, "")
    assert "gpumon resume" in answer.stderr


def test_once_changes_nothing_that_the_service_remembers(world: World) -> None:
    world.start_reading().stop()
    before = (world.state / "state.json").read_bytes()
    once(world)

    assert (world.state / "state.json").read_bytes() == before


# --- check


def test_check_calls_a_good_host_healthy(world: World) -> None:
    exit_code, findings = check(world)

    assert exit_code == 0
    assert findings["identity"]["found"] == "i-1 (g4dn.xlarge)"
    assert findings["region"]["found"] == "us-east-1"
    assert not any(finding["advice"] for finding in findings.values())


@pytest.mark.parametrize("instance_type", ["g4dn.xlarge", "g5.xlarge", "g6.xlarge"])
def test_check_calls_a_good_host_of_any_type_healthy(instance_type: str, world: World) -> None:
    world.gpus.install(instance_type, "i-1")

    assert check(world)[0] == 0


def test_check_calls_a_lost_gpu_broken(world: World) -> None:
    world.gpus.install("g5.12xlarge", "i-4")
    world.start_reading().stop()
    world.gpus.lose(2)
    exit_code, findings = check(world)

    assert exit_code == 2
    assert findings["GPUs"]["found"] == "3 of 4 answer"
    assert findings["GPU 2"]["health"] == "broken"
    assert findings["GPU 2"]["advice"]


@pytest.mark.parametrize("event", ["unload", "library", "mismatch"])
def test_check_misses_a_driver_where_the_service_has_seen_a_gpu(world: World, event: str) -> None:
    world.start_reading().stop()
    environment = {"LD_LIBRARY_PATH": str(world.state)} if event == "library" else {}
    if event == "unload":
        world.gpus.unload_driver()
    elif event == "mismatch":
        world.gpus.fail(None, "nvmlInitWithFlags", 18)
    exit_code, findings = check(world, **environment)

    assert (exit_code, findings["driver"]["health"]) == (2, "broken")
    assert findings["driver"]["advice"]


def test_check_counts_the_critical_xids_of_the_kernel_log_where_the_driver_recommends_nothing(world: World) -> None:
    world.gpus.set(0, recovery_action=None)
    world.gpus.xid(0, 79, event=False)
    exit_code, findings = check(world)

    assert exit_code == 2
    assert "1 critical Xid" in findings["GPU 0"]["found"]


def test_check_without_identity_or_credentials_is_broken_and_says_both(world: World) -> None:
    nobody = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": CLOSED_PORT, "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    exit_code, findings = check(world, **nobody, HOME=str(world.directory))

    assert exit_code == 2
    assert {findings[subject]["health"] for subject in ("identity", "credentials", "region")} == {"broken"}


def test_check_sees_a_backlog_and_how_old_it_is(world: World) -> None:
    program = world.start_reading(AWS_ENDPOINT_URL=CLOSED_PORT)
    time.sleep(2.5)
    program.stop()
    exit_code, findings = check(world)
    assert exit_code == 0
    assert "datapoints on their way" in findings["spool"]["found"]

    file = world.state / "state.json"
    document = json.loads(file.read_text())
    document["delivery"]["oldest_waiting_unix_seconds"] -= 3600
    file.write_text(json.dumps(document))
    exit_code, findings = check(world)
    assert (exit_code, findings["spool"]["health"]) == (1, "degraded")
    assert findings["spool"]["advice"]


def test_check_says_that_the_driver_is_released(world: World) -> None:
    (world.runtime / "released").touch()
    exit_code, findings = check(world)

    assert (exit_code, findings["driver"]["health"]) == (1, "degraded")
    assert "gpumon resume" in findings["driver"]["advice"]


def test_check_next_to_a_running_service_disturbs_neither(world: World) -> None:
    program = world.start_reading()
    wait_for(lambda: world.sent("MemoryUsed"), program)
    assert check(world)[0] == 0
    before = len(world.calls())
    wait_for(lambda: len(world.calls()) > before, program)
    program.signal(signal.SIGTERM)

    assert program.wait() == 0
    assert not [line for line in program.log.splitlines() if not line.startswith("info")]


# --- show-config


def test_show_config_prints_settings_with_their_origins_as_toml(world: World) -> None:
    answer = world.command("show-config", GPUMON_NAMESPACE="Mine")
    document = tomllib.loads(answer.stdout)

    assert document["namespace"] == "Mine"
    assert {key: document[key] for key in world.settings} == world.settings
    lines = {line.split(" ")[0]: line for line in answer.stdout.splitlines()}
    assert lines["namespace"].endswith("# environment GPUMON_NAMESPACE")
    assert lines["log_level"].endswith("# default")
    assert f"{world.config}, line 1" in lines["sample_seconds"]


def test_what_show_config_prints_is_a_settings_file(world: World) -> None:
    first = world.command("show-config").stdout
    world.config.write_text(first)
    again = world.command("show-config").stdout

    assert tomllib.loads(again) == tomllib.loads(first)


def test_show_config_estimates_the_bill_of_this_host(world: World) -> None:
    world.gpus.install("p5.48xlarge", "i-8")
    world.configure(publish_seconds=60)

    assert "209" in world.command("show-config").stdout
    assert "for 8 GPU(s)" in world.command("show-config").stdout


def test_show_config_counts_gpus_without_a_driver_by_what_the_service_has_seen(world: World) -> None:
    world.start_reading().stop()
    world.gpus.unload_driver()

    assert "for 1 GPU(s)" in world.command("show-config").stdout


def test_show_config_without_cloudwatch_costs_nothing(world: World) -> None:
    world.configure(cloudwatch=False)

    assert "$0.00" in world.command("show-config").stdout


@pytest.mark.parametrize(("command", "exit_code"), [("check", 2), ("once", 3)])
def test_a_driver_that_hangs_is_not_waited_for(command: str, exit_code: int, world: World) -> None:
    world.gpus.hang(None, "nvmlDeviceGetPowerUsage")
    answer = world.command(command, GPUMON_WEDGED_SECONDS="5")

    assert answer.returncode == exit_code
    assert "has not come back for 10 s" in answer.stderr
