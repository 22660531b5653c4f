"""Runs the real NvmlReader on the real pynvml: one answer per line on stdin, which is a request in JSON."""

from __future__ import annotations

import dataclasses
import json
import logging
import sys
import time
from typing import TYPE_CHECKING, Any

from gpumon.errors import DriverUnavailableError
from gpumon.readers import Due
from gpumon.readers.nvml import NvmlReader
from gpumon.samples import Gpu

if TYPE_CHECKING:
    from gpumon.samples import Reading


class Clocks:
    """The test moves the one on; the other is the host's, by which the simulated driver dates its samples, too."""

    def __init__(self) -> None:
        self.moved_seconds = 0.0
        self.unix_offset_seconds = 0.0

    def monotonic_seconds(self) -> float:
        return self.moved_seconds

    def unix_seconds(self) -> float:
        return time.time() + self.unix_offset_seconds


def describe(reading: Reading) -> dict[str, Any]:
    gpus = [{**dataclasses.asdict(sample.gpu), **vars(sample), "gpu": None} for sample in reading.gpus]
    for gpu in gpus:
        del gpu["gpu"]
        if gpu["processes"] is not None:
            gpu["processes"] = [dataclasses.asdict(process) for process in gpu["processes"]]
    return {"gpus": gpus, "driver_version": reading.driver_version, "error_count": reading.error_count}


def cpu_seconds_per_reading(reader: NvmlReader, due: Due, count: int) -> float:
    before = time.process_time()
    for _ in range(count):
        reader.read(due)
    return (time.process_time() - before) / count


def answer(reader: NvmlReader, clocks: Clocks, request: dict[str, Any]) -> object:
    clocks.moved_seconds += request["after_seconds"]
    clocks.unix_offset_seconds = request["unix_offset_seconds"]
    due = Due(request["due"])
    try:
        if request["repeat"]:
            return cpu_seconds_per_reading(reader, due, request["repeat"])
        return describe(reader.read(due))
    except DriverUnavailableError as error:
        return {"error": type(error).__name__, "message": str(error)}


def main() -> None:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    options = json.loads(sys.argv[1])
    clocks = Clocks()
    reader = NvmlReader(
        [Gpu(**gpu) for gpu in options["known"]],
        with_processes=options["with_processes"],
        monotonic_seconds=clocks.monotonic_seconds,
        unix_seconds=clocks.unix_seconds,
    )
    for line in sys.stdin:
        print(json.dumps(answer(reader, clocks, json.loads(line))), flush=True)  # noqa: T201 - how the test hears it
    reader.close()


if __name__ == "__main__":
    main()
