"""A CUDA program: obeys one command per line on stdin, answers each with one line of JSON. The argument, if any, is the
user id to become first."""

from __future__ import annotations

import ctypes
import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

libcuda = ctypes.CDLL("libcuda.so.1")  # finds its state directory at the first call
allocations: list[ctypes.c_uint64] = []


def context(gpu_index: int) -> int:
    """Make a context on a GPU and return the CUDA result."""
    device, handle = ctypes.c_int(), ctypes.c_void_p()
    return int(
        libcuda.cuInit(0)
        or libcuda.cuDeviceGet(ctypes.byref(device), gpu_index)
        or libcuda.cuCtxCreate_v2(ctypes.byref(handle), 0, device)
    )


def alloc(size_bytes: int) -> int:
    """Allocate in the current context and return the CUDA result."""
    address = ctypes.c_uint64()
    result: int = libcuda.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(size_bytes))
    if result == 0:
        allocations.append(address)
    return result


def free() -> int:
    """Free the newest allocation and return the CUDA result."""
    return int(libcuda.cuMemFree_v2(allocations.pop()))


def destroy() -> int:
    """Destroy the current context and return the CUDA result."""
    handle = ctypes.c_void_p()
    return int(libcuda.cuCtxGetCurrent(ctypes.byref(handle)) or libcuda.cuCtxDestroy_v2(handle))


def free_bytes() -> int:
    """Return what cuMemGetInfo says is free."""
    free_now, total = ctypes.c_size_t(), ctypes.c_size_t()
    assert libcuda.cuMemGetInfo_v2(ctypes.byref(free_now), ctypes.byref(total)) == 0
    return free_now.value


def fork() -> int:
    """Fork a child that tries to use CUDA, says what it got and then sleeps; return its pid."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writer, bytes([libcuda.cuInit(0), alloc(1)]))
        for stream in (0, 1, 2):
            os.close(stream)
        threading.Event().wait()
    os.close(writer)
    assert os.read(reader, 2) == bytes([3, 3]), "a forked child must get CUDA_ERROR_NOT_INITIALIZED"
    return pid


def greedy(size_bytes: int) -> int:
    """Allocate until there is no more; return how many allocations that were."""
    count = 0
    while alloc(size_bytes) == 0:
        count += 1
    return count


def contend(size_bytes: int, rounds: int) -> int:
    """Allocate and free over and over; return how often processes together held more than that size on GPU 0."""
    violations = 0
    for _ in range(rounds):
        if alloc(size_bytes) == 0:
            records = Path(os.environ["SIMGPU_STATE"], "processes").iterdir()
            held = sum(int(record.read_text().splitlines()[1].split()[1]) for record in records)
            violations += held > size_bytes
            free()
    return violations


COMMANDS: dict[str, Callable[..., int]] = {
    command.__name__: command for command in (context, alloc, free, destroy, free_bytes, fork, greedy, contend)
}

if __name__ == "__main__":
    if len(sys.argv) > 1:
        os.setgroups([])
        os.setgid(int(sys.argv[1]))
        os.setuid(int(sys.argv[1]))
    for line in sys.stdin:
        name, *arguments = line.split()
        sys.stdout.write(f"{json.dumps(COMMANDS[name](*map(int, arguments)))}\n")
        sys.stdout.flush()
