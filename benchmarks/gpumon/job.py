"""A program that holds a GPU, as a rank of a training job does: python -m benchmarks.gpumon.job GPU-INDEX."""

from __future__ import annotations

import ctypes
import sys
import threading


def main(index: int) -> None:
    """Make a context on a GPU and hold it until terminated."""
    cuda = ctypes.CDLL("libcuda.so.1")
    device, context = ctypes.c_int(), ctypes.c_void_p()
    for code in (
        cuda.cuInit(0),
        cuda.cuDeviceGet(ctypes.byref(device), index),
        cuda.cuCtxCreate_v2(ctypes.byref(context), 0, device),
    ):
        if code:
            sys.exit(f"libcuda says {code}")
    threading.Event().wait()


if __name__ == "__main__":
    main(int(sys.argv[1]))
