"""Calls that give values, with what to call instead, and the memory of what a GPU does not support."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pynvml

from gpumon.readers.nvml.codes import SENTINELS, UNSUPPORTED, binding

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gpumon.readers.nvml.codes import Outcome

    Values = dict[str, float | None]
    Way = Callable[[Any, Values], None]  # takes the handle; writes what it reads into the values


@dataclass(frozen=True)
class Probe:
    """Values that one call gives, and the ways to make that call, best first.

    The next way is taken only where the driver or the GPU does not know the one before it.

    Attributes:
        values: Names of the values.
        ways: How to get them.
        needs: Values of earlier probes without which there is nothing to ask.
    """

    values: tuple[str, ...]
    ways: tuple[Way, ...]
    needs: tuple[str, ...] = ()


class ProbeSet:
    """The calls of one schedule on one GPU, less those that it turned out not to support."""

    def __init__(self, probes: Sequence[Probe]) -> None:
        self._probes = probes
        self._blank: Values = dict.fromkeys(name for probe in probes for name in probe.values)
        self._calls: list[tuple[Probe, Way]] = []
        self.forget_unsupported()

    def forget_unsupported(self) -> None:
        """Ask for everything again at the next reading."""
        self._calls = [(probe, probe.ways[0]) for probe in self._probes]

    def read(self, handle: Any, values: Values, outcome: Outcome) -> None:
        """Write all values of the set into `values`: None for what cannot be read.

        Raises:
            pynvml.NVMLError: The GPU is lost.
        """
        values.update(self._blank)
        demoted = []
        for call in self._calls:
            if call[0].needs and None in [values[name] for name in call[0].needs]:
                continue
            try:
                call[1](handle, values)
            except pynvml.NVMLError as error:
                if error.value in UNSUPPORTED:
                    demoted.append((call, _next_way(call, handle, values, outcome)))
                else:
                    outcome.fail(call[0].values[0], error)
            else:
                outcome.succeeded += 1
        for call, replacement in demoted:
            at = self._calls.index(call)
            self._calls[at : at + 1] = [replacement] if replacement else []


def _next_way(call: tuple[Probe, Way], handle: Any, values: Values, outcome: Outcome) -> tuple[Probe, Way] | None:
    """Try the ways after the one of `call`; return the one to take from now on."""
    probe, refused = call
    for way in probe.ways[probe.ways.index(refused) + 1 :]:
        try:
            way(handle, values)
        except pynvml.NVMLError as error:
            if error.value in UNSUPPORTED:
                continue
            outcome.fail(probe.values[0], error)
        else:
            outcome.succeeded += 1
        return probe, way
    outcome.unsupported += probe.values
    return None


def number(value_name: str, function_name: str, *arguments: int, divisor: int = 1) -> Way:
    """Return the way to read one number with one call."""
    function = binding(function_name)

    def way(handle: Any, values: Values) -> None:
        raw = function(handle, *arguments)
        if raw not in SENTINELS:
            values[value_name] = raw if divisor == 1 else raw / divisor

    return way
