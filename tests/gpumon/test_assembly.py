"""``gpumon run`` as a process: what stays and what goes over while its settings, the driver and the network change."""

from __future__ import annotations

import json
import re
import signal
import socket
import sqlite3
import time
import urllib.request
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from gpumon import state
from tests.gpumon.world import CLOSED_PORT, SAMPLE_SECONDS, Program, World, a_world, free_port, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NEW_SETTINGS = "going on with new settings"


@pytest.fixture
def world(tmp_path: Path, driver_directory: Path) -> Iterator[World]:
    with a_world(tmp_path, driver_directory) as world:
        yield world


def reload(program: Program) -> None:
    before = program.log.count(NEW_SETTINGS)
    program.signal(signal.SIGHUP)
    wait_for(lambda: program.log.count(NEW_SETTINGS) > before, program)


def waiting(world: World) -> int:
    """Return how many datums are in the spool of a world in which nothing runs."""
    connection = sqlite3.connect(world.state / "spool.sqlite3")
    try:
        (count,) = connection.execute("SELECT coalesce(sum(datums), 0) FROM entries").fetchone()
    finally:
        connection.close()
    return int(count)


def scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        return str(answer.read().decode())


def driver_state(world: World) -> str:
    file = world.runtime / "driver-state"
    return str(json.loads(file.read_text())["state"]) if file.exists() else "gone"


# --- Settings


def test_a_reload_changes_what_is_published(world: World) -> None:
    program = world.start_reading()
    wait_for(lambda: world.sent("MemoryUsed"), program)
    world.configure(cloudwatch_tiers=["health"], namespace="New")
    reload(program)
    wait_for(lambda: world.calls()[-1][0] == "New", program)
    program.stop()

    new = [datum for namespace, _, datums in world.calls() if namespace == "New" for datum in datums]
    assert {"GpuUp", "Heartbeat"} <= {datum.metric for datum in new}
    # What the old settings had collected goes out, too.
    assert {datum.unix_seconds for datum in new if datum.metric == "MemoryUsed"} <= {
        min(datum.unix_seconds for datum in new)
    }


def test_a_reload_loses_no_second(world: World) -> None:
    program = world.start_reading()
    wait_for(lambda: len(world.calls()) > 1, program)
    for _ in range(3):
        world.configure()
        reload(program)
        time.sleep(1.0)
    program.stop()

    per_second: dict[float, float] = {}
    for datum in world.sent("GpuUp"):
        per_second[datum.unix_seconds] = per_second.get(datum.unix_seconds, 0) + datum.samples
    seconds = sorted(per_second)
    assert seconds == list(range(int(seconds[0]), int(seconds[-1]) + 1))
    # A reload takes a moment, in which nothing is read.
    total, possible = sum(per_second.values()), (seconds[-1] - seconds[0]) / SAMPLE_SECONDS
    print(f"{total:.0f} samples of about {possible:.0f}, three reloads among them")  # noqa: T201
    assert total > 0.5 * possible


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("log_level = \n", "line 1"),
        ("\n\nsampel_seconds = 1.0\n", "line 3"),
        ('\nsample_seconds = "fast"\n', "line 2"),
    ],
)
def test_a_bad_file_keeps_the_old_settings_and_the_log_names_the_line(world: World, text: str, words: str) -> None:
    program = world.start_reading()
    world.config.write_text(text)
    program.signal(signal.SIGHUP)
    wait_for(lambda: "the settings stay as they are" in program.log, program)
    before = len(world.calls())
    wait_for(lambda: len(world.calls()) > before + 1, program)
    program.stop()

    line = next(line for line in program.log.splitlines() if "stay as they are" in line)
    assert words in line
    assert str(world.config) in line
    assert line.startswith("err")
    assert NEW_SETTINGS not in program.log


def test_a_bad_table_of_xids_at_a_reload_keeps_the_old_settings(world: World) -> None:
    table = world.directory / "xids.toml"
    table.write_text("[79\n")
    program = world.start_reading()
    world.configure(xid_table=str(table))
    program.signal(signal.SIGHUP)
    wait_for(lambda: "the settings stay as they are" in program.log, program)
    program.stop()

    assert str(table) in program.log


def test_a_reload_counts_no_xid_of_the_kernel_log_again(world: World) -> None:
    port = free_port()
    world.configure(prometheus_listen=f"127.0.0.1:{port}")
    world.gpus.xid(0, 31, event=False)  # before gpumon was there
    program = world.start_reading()
    wait_for(lambda: "DCGM_FI_DEV_FB_USED" in scrape(port), program)
    series = re.compile(r"^gpumon_xid_errors_total\{.*\} (.*)$", re.MULTILINE)
    wait_for(lambda: series.findall(scrape(port)), program)
    before = series.findall(scrape(port))
    for _ in range(2):
        reload(program)
    # The endpoint serves what the old settings had read until the first reading with the new ones.
    time.sleep(20 * SAMPLE_SECONDS)
    after = series.findall(scrape(port))
    program.stop()

    assert (before, after) == (["1.0"], ["1.0"])


def test_an_xid_is_published_once_over_reloads_and_restarts(world: World) -> None:
    program = world.start_reading()
    wait_for(lambda: world.sent("XidErrors"), program)
    world.gpus.xid(0, 31)
    wait_for(lambda: any(1.0 in datum.values for datum in world.sent("XidErrors")), program)
    reload(program)
    time.sleep(1.5)
    program.stop()
    again = world.start_reading()
    time.sleep(1.5)
    again.stop()

    assert sum(value * count for d in world.sent("XidErrors") for value, count in zip(d.values, d.counts)) == 1  # noqa: B905


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_what_waits_is_on_disk_after_a_reload_too(world: World, number: signal.Signals) -> None:
    program = world.start_reading(AWS_ENDPOINT_URL=CLOSED_PORT)
    time.sleep(1.0)
    reload(program)
    reloaded = time.time()
    time.sleep(2.5)
    program.signal(number)
    program.wait()

    assert "are lost" not in program.log
    connection = sqlite3.connect(world.state / "spool.sqlite3")
    (newest,) = connection.execute("SELECT max(newest) FROM entries").fetchone()
    connection.close()
    assert newest > reloaded


# --- The driver


def test_release_closes_the_driver_and_resume_opens_it_again(world: World) -> None:
    program = world.start_reading()
    answer = world.command("release")
    assert (answer.returncode, answer.stderr) == (0, "")
    assert driver_state(world) == "released"
    # An open session would not notice: only nvmlInit fails.
    world.gpus.fail(None, "nvmlInitWithFlags", 9)
    before = len(world.calls())
    wait_for(lambda: len(world.calls()) > before + 2, program)
    still = [datum for _, _, datums in world.calls()[before + 2 :] for datum in datums]
    assert {datum.metric for datum in still} >= {"Heartbeat"}
    assert not {"MemoryUsed", "GpuUp", "DriverUp"} & {datum.metric for datum in still}

    world.gpus.heal(None)
    answer = world.command("resume")
    assert (answer.returncode, answer.stderr) == (0, "")
    assert driver_state(world) == "held"
    before = len(world.calls())
    wait_for(lambda: "MemoryUsed" in {d.metric for _, _, datums in world.calls()[before:] for d in datums}, program)
    program.stop()
    assert driver_state(world) == "gone"


def test_resume_without_a_driver_says_that_it_is_not_back(world: World) -> None:
    program = world.start_reading()
    assert world.command("release").returncode == 0
    world.gpus.unload_driver()
    start = time.monotonic()
    answer = world.command("resume")

    assert answer.returncode == 3, answer.stdout + answer.stderr
    assert "does not yet" in answer.stdout
    assert time.monotonic() - start > 10
    program.stop()


def test_a_release_outlives_the_service(world: World) -> None:
    assert world.command("release").returncode == 0
    program = world.start()
    wait_for(lambda: driver_state(world) == "released", program)
    wait_for(lambda: world.sent("Heartbeat"), program)
    program.stop()

    assert world.sent("MemoryUsed") == []
    assert (world.runtime / "released").exists()


def test_after_an_upgrade_between_release_and_resume_systemd_has_to_start_it_anew(world: World) -> None:
    program = world.start_reading()
    assert world.command("release").returncode == 0
    world.gpus.upgrade_driver("590.44.01")
    (world.runtime / "released").unlink()

    assert program.wait() == 4
    world.start_reading().stop()


def test_a_call_that_does_not_come_back_does_not_stop_publication(world: World) -> None:
    world.configure(wedged_seconds=5)
    program = world.start_reading()
    world.gpus.hang(0, "nvmlDeviceGetPowerUsage")
    for function in ("nvmlDeviceGetFieldValues", "nvmlDeviceGetMemoryInfo_v2"):
        world.gpus.hang(0, function)
    wait_for(lambda: any(0.0 in datum.values for datum in world.sent("DriverUp")), program)
    program.signal(signal.SIGTERM)

    assert program.wait() == 0, program.log
    assert "does not come back" in program.log


# --- The network


def test_what_cloudwatch_did_not_get_is_sent_by_the_next_process_with_its_own_times(world: World) -> None:
    program = world.start_reading(AWS_ENDPOINT_URL=CLOSED_PORT)
    began = time.time()
    time.sleep(3.0)
    program.stop()
    kept = waiting(world)
    assert "stay in the spool" in program.log
    assert kept > 100

    time.sleep(1.5)
    after = world.start_reading()
    restarted = time.time()
    wait_for(lambda: len([datum for datum in world.sent() if datum.unix_seconds < int(restarted)]) >= kept, after)
    after.stop()

    assert waiting(world) == 0
    assert len([datum for datum in world.sent() if datum.unix_seconds < int(restarted)]) == kept
    old = [datum for datum in world.sent("GpuUp") if datum.unix_seconds < int(restarted)]
    assert min(datum.unix_seconds for datum in old) <= began
    assert len({datum.unix_seconds for datum in old}) >= 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_end_of_the_process_costs_what_was_waiting(world: World, number: signal.Signals) -> None:
    program = world.start_reading(AWS_ENDPOINT_URL=CLOSED_PORT)
    time.sleep(3.0)
    program.signal(number)
    program.wait()
    kept = waiting(world)
    assert kept > 60
    after = world.start_reading()
    wait_for(lambda: len(world.calls()) > 4, after)
    after.stop()

    assert waiting(world) == 0
    # The first sample of a process, and what its end cuts off, are parts of a period: two datums of one second.
    assert max(Counter(datum.key for datum in world.sent()).values()) <= 3


def test_two_processes_at_once_send_nothing_twice(world: World) -> None:
    offline = world.start_reading(AWS_ENDPOINT_URL=CLOSED_PORT)
    time.sleep(3.0)
    offline.stop()
    kept = waiting(world)
    time.sleep(1.5)  # a second of its own between what was kept and what is new

    old = int(time.time())
    both = [world.start(GPUMON_CLOUDWATCH_TIERS=tier) for tier in ("core", "health")]
    for program in both:
        wait_for(lambda: "reading GPUs" in program.log, program)  # noqa: B023 - called at once
    wait_for(lambda: len([datum for datum in world.sent() if datum.unix_seconds < old]) >= kept, both[0])
    for program in both:
        program.stop()

    assert "another gpumon uses" in both[0].log + both[1].log
    sent = Counter(datum for datum in world.sent() if datum.unix_seconds < old)
    assert kept > 0
    assert sum(sent.values()) == kept
    assert max(Counter((d.metric, d.gpu, d.unix_seconds, d.values, d.counts) for d in sent.elements()).values()) <= 2


def test_a_reload_during_a_call_sends_nothing_twice(world: World) -> None:
    world.configure(stop_seconds=0)
    program = world.start_reading()
    wait_for(lambda: len(world.calls()) > 1, program)
    world.cloudwatch.delay_seconds = 0.7
    for _ in range(4):
        time.sleep(0.9)
        reload(program)
    world.cloudwatch.delay_seconds = 0.0
    world.configure(stop_seconds=3)
    reload(program)
    time.sleep(1.0)
    program.stop()

    bodies = Counter(body for _, body in world.cloudwatch.requests)
    assert [count for count in bodies.values() if count > 1] == []


def test_a_metadata_service_that_comes_late_costs_nothing(world: World) -> None:
    program = world.start_reading(AWS_EC2_METADATA_SERVICE_ENDPOINT=CLOSED_PORT)
    time.sleep(2.0)
    program.stop()
    assert "instance metadata service" in program.log
    kept = waiting(world)
    world.start_reading().stop()

    assert kept > 40
    assert waiting(world) == 0


# --- The other sinks


def test_a_port_that_is_taken_leaves_the_rest_alone(world: World) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        world.configure(prometheus_listen=f"127.0.0.1:{taken.getsockname()[1]}")
        program = world.start_reading()
        wait_for(lambda: world.sent("MemoryUsed"), program)
        program.stop()

    assert program.log.count("Address already in use") == 1


def test_a_reload_moves_the_endpoint(world: World) -> None:
    ports = free_port(), free_port()
    world.configure(prometheus_listen=f"127.0.0.1:{ports[0]}")
    program = world.start_reading()
    wait_for(lambda: "gpumon_driver_up 1.0" in scrape(ports[0]), program)
    world.configure(prometheus_listen=f"127.0.0.1:{ports[1]}")
    reload(program)
    wait_for(lambda: f"can scrape 127.0.0.1:{ports[1]}" in program.log, program)
    assert "gpumon_driver_up 1.0" in scrape(ports[1])
    with pytest.raises(OSError, match="refused"):
        scrape(ports[0])
    program.stop()


def test_json_lines_go_to_standard_output_and_nothing_else_does(world: World) -> None:
    world.configure(json_lines=True)
    program = world.start_reading()
    time.sleep(2.5)
    program.stop()

    documents = [json.loads(line) for line in program.output.splitlines()]
    gpus = [document for document in documents if document["gpu"]]
    assert {document["gpu"]["uuid"] for document in gpus} == {world.gpus.read(0)["uuid"]}
    assert sum(document["metrics"].get("MemoryUsed", {"count": 0})["count"] for document in gpus) >= 15
    assert any("DriverUp" in document["metrics"] for document in documents if document["gpu"] is None)


def test_counters_of_json_lines_and_cloudwatch_do_not_take_from_each_other(world: World) -> None:
    world.configure(json_lines=True)
    world.gpus.set(0, power_milliwatts=100_000)
    program = world.start_reading()
    time.sleep(4.0)
    program.stop()

    lines = [json.loads(line)["metrics"].get("EnergyConsumed") for line in program.output.splitlines()]
    told = sum(line["sum"] for line in lines if line)
    sent = sum(value * count for d in world.sent("EnergyConsumed") for value, count in zip(d.values, d.counts))  # noqa: B905
    assert told == pytest.approx(sent)
    assert sent > 100  # joules: 100 W for some seconds


def test_a_standard_output_that_nobody_reads_any_more_leaves_the_rest_alone(world: World) -> None:
    world.configure(json_lines=True)
    program = world.start_unread()
    wait_for(lambda: len(world.calls()) > 2, program)
    program.stop()

    assert "standard output that it can write to" in program.log


# --- What an earlier process left


def start_with_state(world: World, text: str) -> None:
    (world.state / "state.json").write_text(text)
    program = world.start_reading()
    wait_for(lambda: world.sent("MemoryUsed"), program)
    time.sleep(1.2)
    program.stop()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 1}', '{"version": 2, "inventory": 5}'])
def test_a_state_file_that_is_none_is_forgotten(world: World, text: str) -> None:
    start_with_state(world, text)


@pytest.mark.parametrize(
    "content",
    [
        {"inventory": 5},
        {"counters": 5},
        {"counters": {"GPU-1": 1}},
        {"counters": {"UUID": {"energy_millijoules": ["a", "b"]}}},
    ],
)
def test_a_state_file_of_any_content_does_not_stop_it(world: World, content: dict[str, Any]) -> None:
    text = json.dumps({"version": state.VERSION, "boot_id": state.boot_id(), **content})

    start_with_state(world, text.replace("UUID", world.gpus.read(0)["uuid"]))


def test_a_gpu_that_is_gone_after_a_restart_is_missed(world: World) -> None:
    world.gpus.install("g5.12xlarge", "i-4")
    world.start_reading().stop()
    world.gpus.lose(2, "vanished")
    before = len(world.calls())
    program = world.start_reading()
    wait_for(lambda: len(world.calls()) > before + 1, program)
    program.stop()

    after: list[Any] = [datum for _, _, datums in world.calls()[before:] for datum in datums]
    assert {datum.values for datum in after if datum.metric == "GpuMissing"} == {(1.0,)}
    lost = {datum.gpu for datum in after if datum.metric == "GpuUp" and datum.values == (0.0,)}
    assert lost == {world.gpus.read(2)["uuid"]}
