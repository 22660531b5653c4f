"""Watches for Xids with the real pynvml and in the simulated kernel log: one answer in JSON per command on stdin.

Commands: ``resume``, ``pause``, ``shutdown``, ``init``, ``totals``; ``wait N``: the totals, once they sum to N.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pynvml

from gpumon.clock import SystemClock
from gpumon.readers.kmsg import KernelLog
from gpumon.readers.nvml.events import NvmlXidWatcher
from gpumon.xid_counts import XidCounts
from gpumon.xids import load_xids

PATIENCE_SECONDS = 10.0


def handles() -> dict[str, Any]:
    opened = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    return {pynvml.nvmlDeviceGetUUID(handle): handle for handle in opened}


def totals_of(counts: XidCounts, expected: int) -> object:
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        totals = counts.totals()
        if sum(sum(codes.values()) for codes in totals.values()) >= expected:
            break
        time.sleep(0.01)
    return counts.totals()


def main() -> None:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    counts, stop = XidCounts(load_xids()), threading.Event()
    watcher = NvmlXidWatcher(counts, SystemClock(), stop)
    kernel_log = KernelLog(counts, clock=SystemClock(), stop=stop, path=Path(os.environ["SIMGPU_STATE"], "kmsg"))
    pynvml.nvmlInit()
    counts.know({pynvml.nvmlDeviceGetPciInfo(handle).busId: uuid for uuid, handle in handles().items()})
    kernel_log.seed()
    kernel_log.start()
    watcher.start()
    for line in sys.stdin:
        command, _, argument = line.strip().partition(" ")
        answer: object = None
        if command == "resume":
            watcher.resume(handles())
        elif command == "pause":
            answer = watcher.pause()
        elif command == "shutdown":
            pynvml.nvmlShutdown()
        elif command == "init":
            pynvml.nvmlInit()
        else:
            answer = totals_of(counts, int(argument or 0))
        print(json.dumps(answer), flush=True)  # noqa: T201 - it is how the test hears the answer
    stop.set()
    watcher.join()
    kernel_log.close()


if __name__ == "__main__":
    main()
