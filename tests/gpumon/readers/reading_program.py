"""Runs the real NvmlReader on the real pynvml: one answer per line on stdin, which says how far the clock moves."""

from __future__ import annotations

import json
import logging
import sys

from gpumon.errors import DriverUnavailableError
from gpumon.readers.nvml import NvmlReader


def main() -> None:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    now = [0.0]
    reader = NvmlReader(lambda: now[0])
    for line in sys.stdin:
        now[0] += float(line)
        try:
            samples = reader.read()
        except DriverUnavailableError as error:
            answer: object = type(error).__name__
        else:
            answer = [{**vars(sample.gpu), **sample.values} for sample in samples]
        print(json.dumps(answer), flush=True)  # noqa: T201 - it is how the test hears the answer
    reader.close()


if __name__ == "__main__":
    main()
