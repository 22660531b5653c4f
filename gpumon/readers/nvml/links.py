"""NVLinks: which a GPU has, and how many of them are up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pynvml

from gpumon.readers.nvml.codes import UNSUPPORTED, Code, binding

if TYPE_CHECKING:
    from gpumon.readers.nvml.codes import Outcome
    from gpumon.readers.nvml.probes import Values

ACTIVE = "nvlink_active_count"
_MOST = getattr(pynvml, "NVML_NVLINK_MAX_LINKS", 18)
_END = frozenset({Code.INVALID_ARGUMENT, Code.FUNCTION_NOT_FOUND})

_get_state = binding("nvmlDeviceGetNvLinkState")


class Links:
    """The NVLinks of one GPU.

    Attributes:
        there: Numbers of the links that it has; known after the first reading.
    """

    def __init__(self) -> None:
        self.there: list[int] = []
        self._is_known = False

    def forget_unsupported(self) -> None:
        """Look for links anew at the next reading."""
        self._is_known = False

    def read(self, handle: Any, values: Values, outcome: Outcome) -> None:
        """Count the links that are up; None if the GPU has no links, or one does not tell.

        Raises:
            pynvml.NVMLError: The GPU is lost.
        """
        values[ACTIVE] = None
        states: dict[int, int | None] = {}
        for link in self.there if self._is_known else range(_MOST):
            try:
                states[link] = _get_state(handle, link)
                outcome.succeeded += 1
            except pynvml.NVMLError as error:
                if error.value in _END:
                    break
                if error.value not in UNSUPPORTED:
                    states[link] = None
                    outcome.fail(ACTIVE, error)
        if not states and not self._is_known:
            outcome.unsupported.append(ACTIVE)
        if states and None not in states.values():
            values[ACTIVE] = sum(1 for state in states.values() if state)
        self.there = list(states)
        self._is_known = True
