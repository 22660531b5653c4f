from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from benchmarks.gpumon import same_calls, trace
from benchmarks.gpumon.machine import Machine
from benchmarks.gpumon.trace import TracedCall
from localaws.simgpu import driver
from localaws.simgpu.gpus import SimulatedGpus

if TYPE_CHECKING:
    from pathlib import Path


def call(name: str, makes: int | None = None, ends: int | None = None) -> TracedCall:
    return TracedCall(name, [], 0, makes, ends, os.getpid, ())


def test_what_a_collection_leaves_takes_the_place_of_what_it_freed() -> None:
    collection = [call("Alloc", makes=7), call("Free", ends=3), call("Alloc", makes=8), call("Free", ends=4)]
    assert trace.carried_over(collection) == [(3, 7), (4, 8)]


def test_what_a_collection_frees_itself_is_not_carried_over() -> None:
    assert trace.carried_over([call("Alloc", makes=7), call("Free", ends=7)]) == []


@pytest.mark.skipif(not shutil.which("gcc"), reason="needs a C compiler")
@pytest.mark.parametrize("due", same_calls.COLLECTIONS)
def test_the_c_program_gets_the_same_answers_as_the_reader(
    due: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver.build(tmp_path / "libraries")
    SimulatedGpus(tmp_path / "state").install("p5.4xlarge", "i-0123456789abcdef0")
    machine = Machine(tmp_path / "libraries", tmp_path / "state", tmp_path)
    monkeypatch.setitem(same_calls.COLLECTIONS, due, 2)
    monkeypatch.setattr(same_calls, "ROUNDS", 1)
    rounds, calls, values = same_calls.rounds_of(machine, due)
    assert len(rounds) == 1
    assert min(rounds[0]) > 0
    assert values > calls > 5
