from __future__ import annotations

import logging
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpumon.xid_counts import MOST_CODES, MOST_GPUS, PAIRING_SECONDS, UNKNOWN_GPU, GpuXids, XidCounts
from gpumon.xids import OTHER_XIDS, BusLoss, XidEvent, load_xids

if TYPE_CHECKING:
    from collections.abc import Sequence

UUID, OTHER_UUID = "GPU-aaaa", "GPU-bbbb"
ADDRESS, OTHER_ADDRESS = "0000:3b:00.0", "0000:5e:00.0"
NOW = 1_700_000_000.5
TABLE = load_xids()


@pytest.fixture
def counts() -> XidCounts:
    counts = XidCounts(TABLE)
    counts.know({"00000000:3B:00.0": UUID, "PCI:0000:5e:00": OTHER_UUID})
    return counts


def nvml(xid: int, unix_seconds: float = NOW, uuid: str | None = UUID) -> XidEvent:
    return XidEvent(uuid, None, xid, unix_seconds, None, "nvml")


def kmsg(xid: int, unix_seconds: float = NOW, address: str | None = ADDRESS) -> XidEvent:
    return XidEvent(None, address, xid, unix_seconds, None, "kmsg", "pid=1, GPU has fallen off the bus.")


def loss(unix_seconds: float = NOW) -> BusLoss:
    return BusLoss(None, ADDRESS, unix_seconds, "GPU has fallen off the bus.")


def test_nothing_happened_yet(counts: XidCounts) -> None:
    assert counts.totals() == {}
    assert counts.of_gpu(UUID) == GpuXids(0, 0, 0, None, None)
    assert counts.last(UUID) is None
    assert counts.take_critical() == ()
    assert not counts.urgent.is_set()


@pytest.mark.parametrize("order", ["nvml first", "kmsg first"])
def test_what_both_sources_see_counts_once(counts: XidCounts, order: str) -> None:
    pair = [nvml(79), kmsg(79, NOW + 0.3)]
    first, second = pair if order == "nvml first" else reversed(pair)

    assert counts.record(first)
    assert not counts.record(second)

    assert counts.totals() == {UUID: {79: 1}}
    assert counts.take_critical() == (first,)


def test_a_burst_counts_every_event_once_in_whatever_order_the_sources_tell(counts: XidCounts) -> None:
    for _ in range(10):
        counts.record(nvml(31))
    for _ in range(12):
        counts.record(kmsg(31, NOW + 1))
    for _ in range(5):
        counts.record(nvml(31, NOW + 2))

    assert counts.totals() == {UUID: {31: 15}}  # NVML saw 15, the kernel log 12 of them


def test_another_code_another_gpu_or_another_time_is_another_event(counts: XidCounts) -> None:
    counts.record(nvml(31))

    assert counts.record(kmsg(43))
    assert counts.record(kmsg(31, address=OTHER_ADDRESS))
    assert counts.record(kmsg(31, NOW + PAIRING_SECONDS + 1))
    assert not counts.record(kmsg(31, NOW + PAIRING_SECONDS))
    assert counts.totals() == {UUID: {31: 2, 43: 1}, OTHER_UUID: {31: 1}}


def test_the_later_event_may_be_told_first(counts: XidCounts) -> None:
    counts.record(kmsg(31, NOW + PAIRING_SECONDS))

    assert not counts.record(nvml(31))


def test_the_last_xid_is_the_latest_under_whatever_name_it_came() -> None:
    counts = XidCounts(TABLE)
    counts.record(kmsg(31))
    counts.record(nvml(43, NOW + 10))

    counts.know({ADDRESS: UUID})

    assert counts.last(UUID) == (43, NOW + 10)


def test_one_source_alone_counts_everything(counts: XidCounts) -> None:
    for _ in range(3):
        assert counts.record(kmsg(31))

    assert counts.totals() == {UUID: {31: 3}}


def test_the_unknown_error_of_nvml_does_not_hide_the_true_code(counts: XidCounts) -> None:
    counts.record(nvml(999))

    assert counts.record(kmsg(79))
    assert counts.totals() == {UUID: {999: 1, 79: 1}}


def test_history_counts_since_boot_but_is_no_news(counts: XidCounts) -> None:
    assert not counts.record(kmsg(79), is_history=True)
    assert not counts.record_bus_loss(loss(), is_history=True)

    assert counts.totals() == {UUID: {79: 1}}
    assert counts.of_gpu(UUID) == GpuXids(0, 0, 0, 79, NOW)
    assert counts.take_critical() == ()
    assert not counts.urgent.is_set()


def test_history_is_nobodys_twin(counts: XidCounts) -> None:
    counts.record(kmsg(31), is_history=True)

    assert counts.record(nvml(31))
    assert counts.totals() == {UUID: {31: 2}}


def test_figures_of_a_gpu(counts: XidCounts) -> None:
    for xid, seconds in ((31, 0), (31, 1), (48, 2), (79, 3), (45, 4)):
        counts.record(nvml(xid, NOW + seconds))

    assert counts.of_gpu(UUID) == GpuXids(5, 2, 0, 45, NOW + 4)
    assert counts.last(UUID) == (45, NOW + 4)


def test_critical_events_are_urgent_until_they_are_taken() -> None:
    urgent = threading.Event()
    counts = XidCounts(TABLE, urgent)
    counts.record(nvml(31))
    assert not urgent.is_set()

    counts.record(nvml(48))
    assert urgent.is_set()

    assert counts.take_critical() == (nvml(48),)
    assert not urgent.is_set()
    assert counts.take_critical() == ()


def test_events_of_a_gpu_that_is_not_known_yet_go_over_to_it() -> None:
    counts = XidCounts(TABLE)
    counts.record(kmsg(48), is_history=True)
    counts.record(kmsg(31))
    counts.record(kmsg(31, NOW + 60))
    counts.record_bus_loss(loss())
    assert counts.totals() == {ADDRESS: {48: 1, 31: 2}}

    counts.know({ADDRESS: UUID})

    assert counts.totals() == {UUID: {48: 1, 31: 2}}
    assert counts.of_gpu(UUID) == GpuXids(2, 0, 1, 31, NOW + 60)


def test_twins_that_were_told_under_address_and_uuid_become_one() -> None:
    counts = XidCounts(TABLE)
    for _ in range(3):
        counts.record(kmsg(31))
    for _ in range(2):
        counts.record(nvml(31))

    counts.know({ADDRESS: UUID})

    assert counts.totals() == {UUID: {31: 3}}
    assert counts.of_gpu(UUID).errors_since_start == 3
    assert not counts.record(nvml(31))  # the twin of the third
    assert counts.record(nvml(31))


def test_an_event_without_a_gpu_is_kept(counts: XidCounts) -> None:
    counts.record(kmsg(79, address=None))

    assert counts.totals() == {UNKNOWN_GPU: {79: 1}}
    assert counts.urgent.is_set()


def test_a_loss_is_urgent_and_no_xid(counts: XidCounts) -> None:
    assert counts.record_bus_loss(loss())

    assert counts.totals() == {}
    assert counts.of_gpu(UUID) == GpuXids(0, 0, 1, None, None)
    assert counts.urgent.is_set()
    assert counts.take_critical() == (loss(),)


def test_a_loss_that_is_told_over_and_over_is_one(counts: XidCounts) -> None:
    told = [counts.record_bus_loss(loss(NOW + PAIRING_SECONDS * i)) for i in range(100)]

    assert told == [True] + [False] * 99
    assert counts.record_bus_loss(loss(NOW + 1000))


def test_bursts_take_no_memory(counts: XidCounts, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "gpumon")  # what pytest keeps of them would
    event = nvml(45)
    for _ in range(20_000):
        counts.record(event)
    for second in range(5_000):
        counts.record(kmsg(31, NOW + second))

    waiting = counts._gpus[UUID].unpaired
    assert counts.totals() == {UUID: {45: 20_000, 31: 5_000}}
    assert sum(len(seconds) for unpaired in waiting.values() for seconds in unpaired._waiting.values()) <= 100


def test_a_hostile_number_of_codes_gpus_and_critical_events_is_capped(
    counts: XidCounts, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "gpumon")
    for xid in range(100_000, 101_000):
        counts.record(nvml(xid))
    counts.record(nvml(79))
    for number in range(1000):
        counts.record(nvml(48, uuid=f"GPU-{number}"))
    counts.know({f"0000:{number >> 5:02x}:{number & 31:02x}": f"GPU-{number}" for number in range(1000)})

    totals = counts.totals()
    assert len(totals[UUID]) <= MOST_CODES + 2
    assert sum(totals[UUID].values()) == 1001
    assert totals[UUID][OTHER_XIDS] == 1000 - MOST_CODES
    assert totals[UUID][79] == 1  # a listed code is told apart whatever came before
    assert counts.of_gpu(UUID).critical_since_start == 1
    assert len(totals) <= MOST_GPUS + 1
    assert sum(sum(codes.values()) for codes in totals.values()) == 2001
    assert len(counts._uuids) <= MOST_GPUS
    assert len(counts.take_critical()) == 64


def test_a_burst_is_one_kind_of_line_in_the_journal(counts: XidCounts, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(3):
        counts.record(replace(kmsg(31), text=f"pid={number}"))
    counts.record(kmsg(79))

    lines = [record.getMessage() for record in caplog.records]
    assert len(set(lines[:3])) == 1
    assert lines[3] == f"Xid 79 of GPU {UUID} (replace): GPU has fallen off the bus"
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 3 + [logging.ERROR]


def test_threads_lose_no_event(counts: XidCounts, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "gpumon")

    def tell(source: Literal["nvml", "kmsg"]) -> None:
        event = nvml(31) if source == "nvml" else kmsg(31)
        for _ in range(2000):
            counts.record(event)

    threads = [threading.Thread(target=tell, args=(source,)) for source in ("nvml", "kmsg")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert counts.totals() == {UUID: {31: 2000}}


@given(
    st.lists(st.tuples(st.sampled_from(["nvml", "kmsg", "know"]), st.sampled_from([31, 79]), st.integers(0, 12))),
)
def test_any_order_counts_at_least_what_one_source_saw_and_at_most_what_both_saw(
    story: Sequence[tuple[str, int, int]],
) -> None:
    counts = XidCounts(TABLE)
    before = 0
    for what, xid, second in story:
        if what == "know":
            counts.know({ADDRESS: UUID})
        else:
            counts.record(nvml(xid, NOW + second) if what == "nvml" else kmsg(xid, NOW + second))
        assert counts.of_gpu(UUID).errors_since_start >= before  # a counter never falls
        before = counts.of_gpu(UUID).errors_since_start
    counts.know({ADDRESS: UUID})

    for xid in (31, 79):
        seen = {
            source: sum(1 for what, code, _ in story if (what, code) == (source, xid)) for source in ("nvml", "kmsg")
        }
        assert max(seen.values()) <= counts.totals().get(UUID, {}).get(xid, 0) <= sum(seen.values())
