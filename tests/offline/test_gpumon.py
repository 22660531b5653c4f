"""gpumon.service on a booted instance, under systemd, as an image carries it: what each fault costs.

CloudWatch is asked afterwards what it has. What it should have is known from two sides: from the clock (every period
has a datapoint of every metric that is read with each sample), and from gpumon's second sink, which writes what was
sampled to a local file. `gpumon_host` has the periods: one of 3 s stands for a minute. The figures are printed at the
end, with or without `-s`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.offline.conftest import Cloud, parse, run_invoke, wait_until
from tests.offline.gpumon_host import (
    GPUMON,
    PERIOD_SECONDS,
    SAMPLES_PER_PERIOD,
    SETTINGS,
    SETTINGS_TEXT,
    STATE,
    Figures,
    GpumonHost,
    figures,
    table,
)

# Debian's libfaketime, which steps the clock of one process: containers have no clock of their own.
FAKETIME = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
CLOCK_FOLDER = "opt/clock"
CLOCK_DROP_IN = f"""\
[Service]
Environment=LD_PRELOAD=/{CLOCK_FOLDER}/libfaketime.so FAKETIME_TIMESTAMP_FILE=/{CLOCK_FOLDER}/offset
Environment=FAKETIME_CACHE_DURATION=1 FAKETIME_DONT_FAKE_MONOTONIC=1
"""
HOUR = 3600
CAP_SYSLOG = 1 << 34


def publishing_profile(cloud: Cloud) -> str:
    """An instance profile that lends credentials."""
    trust = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
    }
    cloud.iam.create_role(RoleName="publisher", AssumeRolePolicyDocument=json.dumps(trust))
    cloud.iam.create_instance_profile(InstanceProfileName="publisher")
    cloud.iam.add_role_to_instance_profile(InstanceProfileName="publisher", RoleName="publisher")
    return "publisher"


@pytest.fixture(scope="module")
def hosts(cloud: Cloud) -> dict[str, GpumonHost]:
    """An instance with four GPUs and one with none, of an image that `build-ami` baked."""
    result = run_invoke("build-ami", "--offline", "--json")
    assert result.returncode == 0, result.stderr
    image_id, profile = parse(result.stdout)["ami_id"], {"Name": publishing_profile(cloud)}
    launched = {kind: cloud.launch(image_id, kind, IamInstanceProfile=profile) for kind in ("g5.12xlarge", "t3.micro")}
    return {kind: GpumonHost.of(cloud, instance) for kind, instance in launched.items()}


@pytest.fixture(scope="module")
def host(hosts: dict[str, GpumonHost]) -> GpumonHost:
    """The one with four GPUs, gpumon set to short periods and on its way."""
    found = hosts["g5.12xlarge"]
    # A disk that can be filled without filling that of this machine.
    found.remote.run(f"sudo systemctl stop gpumon.service && sudo mount -t tmpfs -o size=4m,mode=0700 tmpfs {STATE}")
    found.configure()
    begun = time.time()
    found.wait_for_value(1, "DriverUp", since=begun)
    return found


@dataclass(frozen=True)
class FullDisk:
    """What came of a disk that was full while the network was cut, and is not full any more."""

    began: float
    complaint: str
    figures: Figures


@pytest.fixture(scope="module")
def full_disk(host: GpumonHost) -> FullDisk:
    # With a new file: in one that was larger before there is room for some more.
    host.remote.run(
        f"sudo sh -c 'systemctl stop gpumon.service && rm {STATE}/spool.* && systemctl start gpumon.service'"
    )
    since = next_period()
    host.remote.run(f"sudo sh -c 'cat /dev/zero > {STATE}/ballast; true'")
    with host.network_cut():
        pass_periods(5)
        complaint = host.wait_for_log("cannot be used, so datums wait in memory", since)
    host.remote.run(f"sudo rm {STATE}/ballast")
    until = next_period()
    wait_until_delivered(host, since, until)
    return FullDisk(since, complaint, figures(host, "disk full in an outage", since, until))


@pytest.fixture(scope="module")
def rows(pytestconfig: pytest.Config) -> Iterator[list[Figures]]:
    """The figures of every fault, which are printed when the module is done."""
    collected: list[Figures] = []
    yield collected
    capture = pytestconfig.pluginmanager.get_plugin("capturemanager")
    reporter = pytestconfig.pluginmanager.get_plugin("terminalreporter")
    if collected and capture is not None and reporter is not None:
        with capture.global_and_fixture_disabled():
            reporter.write_line(f"\n\n{table(collected)}\n")


@pytest.fixture(autouse=True)
def _healthy_afterwards(host: GpumonHost) -> Iterator[None]:
    yield
    for index in range(host.gpus.count):
        host.gpus.restore(index)
        host.gpus.heal(index)
    host.gpus.heal(None)
    host.gpus.load_driver()


def next_period() -> float:
    """Sleep until just after a period has begun; return when it did."""
    start = (time.time() // PERIOD_SECONDS + 1) * PERIOD_SECONDS
    time.sleep(start - time.time() + 0.1)
    return start


def pass_periods(count: int) -> None:
    time.sleep(count * PERIOD_SECONDS)


def wait_until_delivered(host: GpumonHost, since: float, until: float, seconds: float = 60) -> None:
    """Wait until CloudWatch has every sample of one metric that gpumon took in a time, and take the record of it."""

    def is_delivered() -> bool:
        sampled = host.sampled(since, until)["DriverUp", ""]
        return (
            bool(sampled) and host.delivered([("DriverUp", "")], since, until)["DriverUp", ""].keys() >= sampled.keys()
        )

    wait_until(is_delivered, seconds)


def assert_up(host: GpumonHost, uuids: list[str], period: int) -> None:
    """In a period, these GPUs answered all the time and have values."""
    for uuid in uuids:
        assert host.values("GpuUp", uuid, since=period, statistic="Minimum")[period] == 1, uuid
        assert period in host.values("MemoryUsed", uuid, since=period), uuid


def assert_nothing_lost(row: Figures) -> None:
    assert row.periods > 0
    assert row.datapoints > 50 * row.periods  # 4 GPUs, some 20 metrics each
    assert (row.missing, row.lost, row.twice) == (0, 0, 0), table([row])


def test_as_shipped_it_runs_as_nobody_in_particular(host: GpumonHost) -> None:
    lines = host.remote.run(f"cat /proc/{host.process_id}/status").splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    assert "0" not in status["Uid"].split()
    assert status["NoNewPrivs"] == "1"
    assert int(status["CapEff"], 16) & ~CAP_SYSLOG == 0
    assert host.property("DynamicUser") == "yes"


def test_the_commands_answer_beside_the_service(host: GpumonHost) -> None:
    assert host.gpumon("check")[0] == 0, host.gpumon("check")
    document = json.loads(host.gpumon("check --json")[1])
    found = {finding["subject"]: finding["found"] for finding in document["findings"]}
    assert (document["health"], found["GPUs"]) == ("healthy", "4 of 4 answer")
    assert "none is late" in found["spool"] or found["spool"] == "empty"
    status, text = host.gpumon("once")
    assert status == 0
    assert text.count("NVIDIA A10G") == 4
    status, text = host.gpumon("show-config")
    assert status == 0
    assert f"publish_seconds = {PERIOD_SECONDS} " in text
    assert f"/{SETTINGS}, line 3" in text


def test_prometheus_is_answered(host: GpumonHost) -> None:
    text = host.remote.run("curl --silent --fail --max-time 5 http://127.0.0.1:9400/metrics")
    for uuid in host.uuids:
        assert f'UUID="{uuid}"' in text
    for name in ("DCGM_FI_DEV_FB_USED{", "DCGM_FI_DEV_GPU_TEMP{", "gpumon_driver_up 1.0"):
        assert name in text


def test_without_a_fault_every_sample_arrives_once(host: GpumonHost, rows: list[Figures]) -> None:
    since = next_period()
    pass_periods(4)
    until = since + 4 * PERIOD_SECONDS
    wait_until_delivered(host, since, until)
    rows.append(figures(host, "none", since, until))
    assert_nothing_lost(rows[-1])
    assert rows[-1].samples_missing <= 1


def test_kill_9_in_an_outage_loses_what_was_not_published_of_one_period(host: GpumonHost, rows: list[Figures]) -> None:
    since = next_period()
    with host.network_cut():
        pass_periods(4)
        before = host.process_id
        next_period()
        time.sleep(0.5)  # some samples of this period are taken, and there is time for more after the restart
        host.remote.run("sudo systemctl kill --signal=KILL gpumon.service")
        wait_until(lambda: host.process_id not in {0, before}, 10)
        pass_periods(2)
    next_period()
    until = time.time() // PERIOD_SECONDS * PERIOD_SECONDS
    wait_until_delivered(host, since, until)
    rows.append(figures(host, "kill -9 in an outage with a backlog", since, until))
    assert_nothing_lost(rows[-1])
    assert rows[-1].periods >= 7
    assert 0 < rows[-1].samples_missing < SAMPLES_PER_PERIOD


def test_a_network_cut_of_ten_periods_loses_nothing(host: GpumonHost, rows: list[Figures]) -> None:
    since = next_period()
    process = host.process_id
    with host.network_cut():
        pass_periods(10)
        assert list(host.values("DriverUp", since=since + PERIOD_SECONDS)) == []
    until = next_period()
    wait_until_delivered(host, since, until)
    rows.append(figures(host, "network cut for ten periods", since, until))
    assert_nothing_lost(rows[-1])
    assert rows[-1].periods >= 11
    assert rows[-1].samples_missing <= 1
    assert host.process_id == process


def test_a_full_disk_in_an_outage_loses_nothing(full_disk: FullDisk, rows: list[Figures]) -> None:
    rows.append(full_disk.figures)
    assert "full" in full_disk.complaint
    assert_nothing_lost(rows[-1])
    assert rows[-1].samples_missing <= 1


def test_a_lost_gpu_is_reported_under_its_uuid_and_concerns_no_other(host: GpumonHost) -> None:
    """Each of the ways in which NVML can lose one, all without an Xid."""
    process = host.process_id
    up = host.uuids
    for missing_count, (index, how) in enumerate(((1, "lost"), (2, "unknown"), (0, "vanished")), start=1):
        host.gpus.lose(index, how)
        lost = host.uuids[index]
        up.remove(lost)
        period = host.wait_for_value(0, "GpuUp", lost, since=time.time(), seconds=10)
        assert host.values("GpuMissing", since=period)[period] == missing_count
        assert host.values("GpuExpected", since=period)[period] == 4
        assert host.values("GpuCount", since=period)[period] == 4 - missing_count
        assert period not in host.values("MemoryUsed", lost, since=period)
        assert_up(host, up, period)
    status, text = host.gpumon("check")
    assert status == 2
    assert "1 of 4 answer" in text
    for index in range(3):
        host.gpus.restore(index)
    # Lost GPUs are looked for once a minute.
    assert_up(host, host.uuids, host.wait_for_value(0, "GpuMissing", since=time.time(), seconds=75))
    assert host.process_id == process


def test_the_disk_is_used_again_once_there_is_room(host: GpumonHost, full_disk: FullDisk) -> None:
    host.wait_for_log("can be used again", full_disk.began, 75)
    # The service holds its spool alone, so it is a copy that is looked into.
    count = "import sqlite3; c = sqlite3.connect('/root/spool/spool.sqlite3'); "
    count += "print(c.execute('SELECT count(*) FROM entries').fetchone()[0])"
    with host.network_cut():
        pass_periods(3)
        host.remote.run(f"sudo cp --recursive {STATE} /root/spool")
        assert int(host.remote.run(f'sudo python3 -c "{count}"')) >= 2


def test_an_unloaded_driver_is_reported_and_taken_back(host: GpumonHost) -> None:
    process = host.process_id
    host.gpus.unload_driver()
    period = host.wait_for_value(0, "DriverUp", since=time.time() + 1)
    assert host.values("GpuMissing", since=period)[period] == 4
    for uuid in host.uuids:
        assert host.values("GpuUp", uuid, since=period)[period] == 0
    host.gpus.load_driver()
    period = host.wait_for_value(1, "DriverUp", since=time.time(), seconds=40)
    assert_up(host, host.uuids, period)
    assert host.process_id == process


def test_a_driver_upgraded_underneath_costs_a_restart(host: GpumonHost) -> None:
    process, moment = host.process_id, time.time()
    host.gpus.upgrade_driver("590.44.01")
    wait_until(lambda: host.process_id not in {0, process}, 20)
    assert any("status=4" in line for line in host.journal(moment))
    start = moment // PERIOD_SECONDS * PERIOD_SECONDS
    wait_until(lambda: 0 in host.values("DriverUp", since=start, statistic="Minimum").values(), 10)
    host.wait_for_value(1, "DriverUp", since=time.time())
    assert "590.44.01" in host.gpumon("check")[1]


def test_a_call_that_does_not_come_back_is_reported_and_ends_in_a_restart(host: GpumonHost) -> None:
    process, moment = host.process_id, time.time()
    host.gpus.hang(0, "nvmlDeviceGetMemoryInfo_v2")
    start = moment // PERIOD_SECONDS * PERIOD_SECONDS
    wait_until(lambda: 0 in host.values("DriverUp", since=start, statistic="Minimum").values(), 20)
    assert host.process_id == process  # it was the process with the call that said so
    host.wait_for_log("does not come back", moment)
    wait_until(lambda: host.process_id not in {0, process}, 40)
    assert any("watchdog" in line.lower() for line in host.journal(moment))
    host.gpus.heal(0)
    host.wait_for_value(1, "DriverUp", since=time.time(), seconds=40)


def test_release_lets_go_of_the_driver_until_resume(host: GpumonHost) -> None:
    moment = time.time()
    assert host.gpumon("release") == (0, "gpumon has let go of the driver; take it back with gpumon resume")
    host.wait_for_log("the driver is released", moment)
    assert host.gpumon("check")[0] == 1
    released = time.time()
    pass_periods(3)
    assert host.values("DriverUp", since=released) == {}
    assert host.values("Heartbeat", since=released) != {}
    assert host.gpumon("resume") == (0, "gpumon reads the GPUs again")
    host.wait_for_value(1, "DriverUp", since=time.time())
    assert host.gpumon("check")[0] == 0, host.gpumon("check")


def test_a_reload_takes_good_settings_and_an_xid_is_published_at_once(host: GpumonHost) -> None:
    process, moment = host.process_id, time.time()
    # Of a period of an hour nothing but what is urgent arrives within seconds.
    (host.root / SETTINGS).write_text(
        SETTINGS_TEXT.replace(f"publish_seconds = {PERIOD_SECONDS}", "publish_seconds = 3600")
    )
    host.remote.run("sudo systemctl reload gpumon.service")
    host.wait_for_log("going on with new settings", moment)
    time.sleep(2)
    struck = time.time()
    host.gpus.xid(3, 79)
    hour = struck // HOUR * HOUR

    def criticals() -> list[float]:
        uuid = host.uuids[3]
        return list(host.values("XidCritical", uuid, since=hour, statistic="Sum", period=HOUR).values())

    wait_until(lambda: criticals() == [1], 10)
    (host.root / SETTINGS).write_text(SETTINGS_TEXT)
    moment = time.time()
    host.remote.run("sudo systemctl reload gpumon.service")
    host.wait_for_log("going on with new settings", moment)
    host.wait_for_value(1, "DriverUp", since=time.time())
    assert host.process_id == process


def test_a_reload_of_bad_settings_changes_nothing_and_names_the_line(host: GpumonHost) -> None:
    process, moment = host.process_id, time.time()
    (host.root / SETTINGS).write_text(SETTINGS_TEXT + "publish_minutes = 1\n")
    bad_line = SETTINGS_TEXT.count("\n") + 1
    host.remote.run("sudo systemctl reload gpumon.service")
    line = host.wait_for_log("the settings stay as they are", moment)
    assert f"/{SETTINGS}, line {bad_line}" in line
    host.wait_for_value(1, "DriverUp", since=time.time())
    (host.root / SETTINGS).write_text(SETTINGS_TEXT)
    assert host.process_id == process


def test_a_step_of_the_clock_loses_no_sample_and_counts_none_twice(host: GpumonHost, rows: list[Figures]) -> None:
    assert FAKETIME, "install the Debian package libfaketime (scripts/bootstrap does)"
    folder = host.root / CLOCK_FOLDER
    folder.mkdir()
    (folder / "libfaketime.so").write_bytes(FAKETIME[0].read_bytes())
    offset = folder / "offset"
    offset.write_text("+0\n")
    host.configure(clock=CLOCK_DROP_IN)
    host.wait_for_value(1, "DriverUp", since=time.time())
    process, since = host.process_id, next_period()
    pass_periods(1)
    offset.write_text(f"+{HOUR}\n")
    pass_periods(3)
    offset.write_text("+0\n")
    pass_periods(2)
    until = next_period()
    wait_until_delivered(host, since, until)
    wait_until_delivered(host, since + HOUR, until + HOUR)
    here = figures(host, "clock step of an hour, forward and back", since, until, with_clock=False)
    there = figures(host, here.fault, since + HOUR, until + HOUR, with_clock=False)
    samples = [
        sum(host.delivered([("DriverUp", "")], since + ahead, until + ahead)["DriverUp", ""].values())
        for ahead in (0, HOUR)
    ]
    expected = (until - since) / PERIOD_SECONDS * SAMPLES_PER_PERIOD
    rows.append(here + replace(there, samples_missing=round(expected - sum(samples)) - here.samples_missing))
    assert_nothing_lost(rows[-1])
    assert 2 <= there.periods <= 5
    assert min(samples) > SAMPLES_PER_PERIOD
    assert abs(rows[-1].samples_missing) <= 2, (samples, expected)
    assert host.process_id == process


def test_without_gpus_it_stays_up_and_says_so_once(hosts: dict[str, GpumonHost]) -> None:
    host = hosts["t3.micro"]
    wait_until(lambda: host.property("ActiveState") == "active", 20)
    moment = time.time()
    host.remote.run("sudo systemctl restart gpumon.service")
    minute = moment // 60 * 60
    wait_until(lambda: host.values("DriverUp", since=minute, period=60), 20)
    assert set(host.values("DriverUp", since=minute, period=60).values()) == {0}
    assert set(host.values("GpuExpected", since=minute, period=60).values()) == {0}
    process = host.process_id
    time.sleep(5)
    said = [line for line in host.journal(moment) if "driver" in line.lower()]
    assert len(said) == 1, said
    assert host.property("NRestarts") == "0"
    assert host.process_id == process
    assert host.gpumon("check")[0] == 0
    assert host.remote.run(f"sudo {GPUMON} once 2>&1 || echo $?").splitlines()[-1] == "3"
