"""The lock under every interleaving: bakes take turns call by call, some are killed, some answers are lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gpunodes.errors import PreflightError
from tests.gpunodes.fake_ssm import FOUR_HOURS, NOW, FakeSsm, lock


class Killed(BaseException):
    """A process that goes at once: nothing of it runs any more."""


class Turns:
    """Lets threads go on one call at a time, in the order that is asked for: any interleaving, the same each time."""

    def __init__(self) -> None:
        self.mine: dict[str, threading.Semaphore] = {}
        self.back = threading.Semaphore(0)
        self.killed: set[str] = set()
        self.errors: list[BaseException] = []

    def wait(self) -> None:
        """A thread asks for its next call."""
        name = threading.current_thread().name
        self.back.release()
        self.mine[name].acquire()
        if name in self.killed:
            raise Killed

    def start(self, name: str, work: Callable[[], None]) -> threading.Thread:
        self.mine[name] = threading.Semaphore(0)

        def run() -> None:
            try:
                self.wait()
                work()
            except Killed:
                pass
            except BaseException as error:  # noqa: BLE001 - the test raises it
                self.errors.append(error)
            finally:
                self.mine.pop(name)
                self.back.release()

        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()
        self.back.acquire()
        return thread

    def step(self, name: str) -> None:
        if name in self.mine:
            self.mine[name].release()
            self.back.acquire()


class RepeatingSsm(FakeSsm):
    """Loses the answer of some writes, so that boto3 sends them again."""

    puts = 0
    repeats: set[int] = frozenset()  # type: ignore[assignment]

    def put_parameter(self, **arguments: Any) -> dict[str, Any]:
        self.puts += 1
        if self.puts in self.repeats:
            super().put_parameter(**arguments)
        return super().put_parameter(**arguments)


class Bakes:
    """Some bakes of one channel, each a thread that takes the lock, bakes for a turn, and frees it."""

    def __init__(self, ssm: FakeSsm, repeats: set[int]) -> None:
        self.turns = Turns()
        self.ssm = RepeatingSsm(ssm.values, before=lambda _call: self.turns.wait())
        self.ssm.repeats = repeats
        self.baking: set[str] = set()
        self.together: list[set[str]] = []
        self.finished: set[str] = set()

    def bake(self, run_id: str) -> None:
        mine = lock(self.ssm, run_id)
        try:
            mine.acquire()
        except PreflightError:
            return
        self.baking.add(run_id)
        if len(self.baking) > 1:
            self.together.append(set(self.baking))
        self.turns.wait()
        self.baking.discard(run_id)
        mine.release()
        self.finished.add(run_id)

    def run(self, order: list[str], kills: dict[str, int]) -> None:
        """Give turns in this order, then to each in turn until all have ended; kill some before a turn."""
        threads = [self.turns.start(name, partial(self.bake, name)) for name in BAKES]
        for number, name in enumerate([*order, *BAKES * 80]):
            self.turns.killed |= {dead for dead, when in kills.items() if when <= number}
            self.turns.step(name)
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()


BAKES = ["one", "two", "three"]


@settings(deadline=None, max_examples=150)
@given(
    order=st.lists(st.sampled_from(BAKES), max_size=40),
    kills=st.dictionaries(st.sampled_from(BAKES), st.integers(0, 12), max_size=2),
    begin=st.sampled_from(["", '{"free": true}', "over"]),
    repeats=st.sets(st.integers(0, 8)),
)
def test_however_bakes_interleave_and_die_at_most_one_has_the_lock(
    order: list[str], kills: dict[str, int], begin: str, repeats: set[int]
) -> None:
    ssm = FakeSsm()
    if begin == "over":
        lock(ssm, "old", now=NOW - FOUR_HOURS).acquire()
    elif begin:
        ssm.values.append(begin)
    bakes = Bakes(ssm, repeats)

    bakes.run(order, kills)

    assert bakes.turns.errors == []
    assert bakes.together == []
    holder = lock(ssm).read().owner
    assert holder is None or holder.run_id in {*kills, "old"}
    assert bakes.finished or kills
    for late in ("four", "five"):  # whatever happened: later, the lock can be had and freed
        lock(ssm, late, now=NOW + FOUR_HOURS).acquire()
        lock(ssm, late, now=NOW + FOUR_HOURS).release()
