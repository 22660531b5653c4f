from __future__ import annotations

import threading
from typing import Any

READER = """
import threading
n.nvmlInit()
handles = [n.nvmlDeviceGetHandleByIndex(i) for i in range(4)]
wrong, reads = [], 0

def read():
    global reads
    for _ in range(1500):
        for h in handles:
            n.nvmlInit()
            memory = n.nvmlDeviceGetMemoryInfo(h, version=n.nvmlMemory_v2)
            rates, power = n.nvmlDeviceGetUtilizationRates(h), n.nvmlDeviceGetPowerUsage(h)
            n.nvmlDeviceGetComputeRunningProcesses(h)
            n.nvmlShutdown()
            reads += 1
            whole = memory.used + memory.free + memory.reserved == memory.total
            # the writer sets both percentages to the same number, and a thousand times it as memory
            if rates.gpu != rates.memory or memory.used % 1000 or not whole:
                wrong.append(str((rates.gpu, rates.memory, memory.used, power)))

threads = [threading.Thread(target=read) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
result = [wrong[:3], reads]
"""


def test_readers_never_see_half_a_change(machine: Any) -> None:
    done = threading.Event()

    def write() -> None:
        number = 0
        while not done.is_set():
            number = number % 100 + 1
            machine.gpus.set(
                number % 4,
                utilization_gpu_percent=number,
                utilization_memory_percent=number,
                memory_used_bytes=number * 1000,
            )

    allocator = machine.cuda()
    writer = threading.Thread(target=write)
    writer.start()
    try:
        allocator.send("greedy 500000000")
        wrong, reads = machine.nvml(READER)
        assert allocator.answer() > 40
    finally:
        done.set()
        writer.join()
    assert wrong == []
    assert reads == 1500 * 4 * 4


def test_threads_of_one_process_allocate_and_fork_at_once(machine: Any) -> None:
    code = """
import ctypes, subprocess, os, threading
c = ctypes.CDLL("libcuda.so.1")
context, device = ctypes.c_void_p(), ctypes.c_int(0)
assert c.cuInit(0) == 0 and c.cuDevicePrimaryCtxRetain(ctypes.byref(context), device) == 0
codes = set()

def allocate():
    codes.add(c.cuCtxSetCurrent(context))
    for _ in range(300):
        address = ctypes.c_uint64()
        codes.add(c.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(4096)))
        codes.add(c.cuMemsetD8_v2(address, 0, ctypes.c_size_t(4096)))
        codes.add(c.cuMemFree_v2(address))

threads = [threading.Thread(target=allocate) for _ in range(4)]
[thread.start() for thread in threads]
children = []
for _ in range(50):
    pid = os.fork()
    if pid == 0:
        os._exit(c.cuInit(0))
    children.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
[thread.join() for thread in threads]
n.nvmlInit()
result = [sorted(codes), sorted(set(children)), n.nvmlDeviceGetMemoryInfo(n.nvmlDeviceGetHandleByIndex(0)).used]
"""
    codes, children, used = machine.nvml(code)

    assert codes == [0]
    assert children == [3]
    assert used == 439 * 1024 * 1024
