"""What busy GPUs do: values that change every few seconds, as prepared states of the machine that take turns.

GPUs that stand still would make every period hold one value per metric, and all that is folded and sent too cheap.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COUNT = 60
# Each switch makes each thread that calls the simulated driver parse files, which no real driver does, so not every
# second: with five, that is about a tenth of gpumon's processor time.
SECONDS_EACH = 5


def switch(state: Path, number: int) -> None:
    """Let the machine be in another state, in one step.

    Args:
        state: The machine's state directory: a symbolic link to one of its neighbours "0", "1", ...
        number: Which.
    """
    draft = state.with_name("next")
    draft.symlink_to(str(number % COUNT))
    draft.replace(state)


@contextmanager
def changing(state: Path) -> Iterator[None]:
    """Switch every few seconds, on a thread."""
    is_over = threading.Event()

    def run() -> None:
        number = 0
        while not is_over.wait(SECONDS_EACH):
            number += 1
            switch(state, number)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
