from __future__ import annotations

import os
import signal
import stat
from typing import Any

import pytest

MIB = 1024 * 1024
GIB = 1024 * MIB
OUT_OF_MEMORY = 2
BOTH = """[
    *[(m.total, m.used, m.free) for m in [n.nvmlDeviceGetMemoryInfo(h)]],
    *[(m.total, m.reserved, m.used, m.free) for m in [n.nvmlDeviceGetMemoryInfo(h, version=n.nvmlMemory_v2)]],
]"""
PROCESSES = "[[p.pid, p.usedGpuMemory] for p in n.nvmlDeviceGetComputeRunningProcesses(h)]"


def test_version_1_counts_reserved_memory_as_used_and_version_2_apart(machine: Any) -> None:
    machine.gpus.set(0, memory_used_bytes=1 * GIB)
    total, reserved = 23028 * MIB, 439 * MIB
    free = total - reserved - 1 * GIB

    version_1, version_2 = machine.nvml_of(0, BOTH)

    assert version_1 == [total, reserved + 1 * GIB, free]
    assert version_2 == [total, reserved, 1 * GIB, free]


def test_a_wrong_struct_version_is_refused(machine: Any) -> None:
    assert machine.nvml_of(0, "call(n.nvmlDeviceGetMemoryInfo, h, version=1)") == "error 25"


def test_an_allocation_shows_in_nvml_until_it_is_freed(machine: Any) -> None:
    machine.gpus.set(1, memory_used_bytes=5 * MIB)
    process = machine.cuda(gpu_index=1)
    assert process.do(f"alloc {3 * GIB}") == 0
    assert process.do(f"alloc {64 * MIB}") == 0

    assert machine.memory_used_bytes(1) == 5 * MIB + 3 * GIB + 64 * MIB
    assert machine.memory_used_bytes(0) == 0
    assert process.do("free_bytes") == (23028 - 439 - 5 - 3 * 1024 - 64) * MIB
    assert process.do("free") == 0
    assert machine.memory_used_bytes(1) == 5 * MIB + 3 * GIB


def test_a_destroyed_context_takes_its_allocations_along(machine: Any) -> None:
    process = machine.cuda()
    process.do(f"alloc {GIB}")

    assert process.do("destroy") == 0

    assert machine.memory_used_bytes() == 0
    assert machine.nvml_of(0, PROCESSES) == []


def test_memory_is_free_again_after_the_process_exits(machine: Any) -> None:
    process = machine.cuda()
    process.do(f"alloc {GIB}")
    assert machine.memory_used_bytes() == GIB

    assert process.exit() == 0

    assert machine.memory_used_bytes() == 0
    assert list((machine.state / "processes").iterdir()) == []


def test_memory_is_free_again_after_kill_9_and_the_next_process_clears_the_record(machine: Any) -> None:
    process = machine.cuda()
    process.do(f"alloc {GIB}")
    assert machine.memory_used_bytes() == GIB

    process.kill()

    assert machine.memory_used_bytes() == 0
    assert machine.nvml_of(0, PROCESSES) == []
    (abandoned,) = (machine.state / "processes").iterdir()
    machine.cuda()
    assert abandoned not in (machine.state / "processes").iterdir()


def test_a_process_with_a_context_is_a_compute_process_of_that_gpu(machine: Any) -> None:
    first, second, idle = machine.cuda(gpu_index=2), machine.cuda(gpu_index=2), machine.cuda(gpu_index=None)
    first.do(f"alloc {GIB}")

    assert machine.nvml_of(2, PROCESSES) == sorted([[first.pid, GIB], [second.pid, 0]])
    assert machine.nvml_of(0, PROCESSES) == []
    assert idle.process.poll() is None
    older = "[[p.pid, p.usedGpuMemory] for p in n.nvmlDeviceGetComputeRunningProcesses_v2(h)]"
    assert machine.nvml_of(2, older) == sorted([[first.pid, GIB], [second.pid, 0]])


def test_a_list_that_is_too_short_says_how_long_it_must_be(machine: Any) -> None:
    machine.cuda()
    machine.cuda()
    code = """
import ctypes
n.nvmlInit()
h = n.nvmlDeviceGetHandleByIndex(0)
room, infos = ctypes.c_uint(1), (n.c_nvmlProcessInfo_v2_t * 1)()
result = [n.nvmlLib.nvmlDeviceGetComputeRunningProcesses_v3(h, ctypes.byref(room), infos), room.value]
"""
    assert machine.nvml(code) == [7, 2]


def test_more_than_is_free_is_out_of_memory(machine: Any) -> None:
    machine.gpus.set(0, memory_used_bytes=20 * GIB)
    process = machine.cuda()

    assert process.do(f"alloc {3 * GIB}") == OUT_OF_MEMORY
    assert process.do(f"alloc {2**64 - 1}") == OUT_OF_MEMORY
    assert machine.memory_used_bytes() == 20 * GIB
    assert process.do(f"alloc {2 * GIB}") == 0


def test_two_processes_at_once_cannot_take_more_than_there_is(machine: Any) -> None:
    step, usable = 61 * MIB, (23028 - 439) * MIB
    processes = [machine.cuda() for _ in range(3)]

    for process in processes:
        process.send(f"greedy {step}")
    taken = [process.answer() for process in processes]

    assert sum(taken) == usable // step
    assert machine.memory_used_bytes() == sum(taken) * step


def test_the_last_free_bytes_go_to_one_process_however_often_they_race_for_them(machine: Any) -> None:
    chunk = 64 * MIB
    machine.gpus.set(0, memory_used_bytes=(23028 - 439) * MIB - chunk)
    processes = [machine.cuda() for _ in range(3)]

    for process in processes:
        process.send(f"contend {chunk} 2500")

    assert [process.answer() for process in processes] == [0, 0, 0]


def test_a_forked_child_does_not_keep_its_parents_memory(machine: Any) -> None:
    parent = machine.cuda()
    parent.do(f"alloc {GIB}")
    child = parent.do("fork")  # the client checks that CUDA refuses to work in the child
    try:
        assert machine.memory_used_bytes() == GIB
        parent.kill()
        os.kill(child, 0)
        assert machine.memory_used_bytes() == 0
    finally:
        os.kill(child, signal.SIGKILL)


def test_an_unprivileged_user_reads_and_allocates(machine: Any, unprivileged_user_id: int) -> None:
    process = machine.cuda(user_id=unprivileged_user_id)
    assert process.do(f"alloc {GIB}") == 0

    query = "n.nvmlDeviceGetMemoryInfo(h, version=n.nvmlMemory_v2).used"
    assert machine.nvml_of(0, query, user_id=unprivileged_user_id) == GIB
    (record,) = (machine.state / "processes").iterdir()
    assert record.stat().st_uid == unprivileged_user_id


def test_an_unprivileged_user_sees_what_root_allocates(machine: Any, unprivileged_user_id: int) -> None:
    process = machine.cuda()
    process.do(f"alloc {GIB}")

    assert machine.nvml_of(0, PROCESSES, user_id=unprivileged_user_id) == [[process.pid, GIB]]


def test_anyone_may_record_allocations_but_only_the_owner_may_change_the_state(machine: Any) -> None:
    assert stat.S_IMODE((machine.state / "processes").stat().st_mode) == 0o1777
    assert stat.S_IMODE(machine.state.stat().st_mode) == 0o755
    assert {stat.S_IMODE(path.stat().st_mode) for path in machine.state.glob("gpu*")} == {0o644}


@pytest.mark.parametrize("content", ["", "rubbish", "pid=0000000001\n" + "gpu00=" * 200])
def test_a_file_that_is_no_record_counts_for_nothing(machine: Any, content: str) -> None:
    import fcntl

    with (machine.state / "processes" / "1-0").open("w") as stray:
        stray.write(content)
        stray.flush()
        fcntl.flock(stray, fcntl.LOCK_EX)
        os.mkfifo(machine.state / "processes" / "2-0")
        (machine.state / "processes" / "3-0").symlink_to("/etc/passwd")

        assert machine.memory_used_bytes() == 0
        assert machine.nvml_of(0, PROCESSES) == []
