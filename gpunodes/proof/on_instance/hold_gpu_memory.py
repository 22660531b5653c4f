"""Allocates memory on every GPU through the CUDA driver API, step by step, and holds it until told to let go.

Runs on the instance with any Python 3.9 or newer; uses libcuda alone, so that what gpumon reads through NVML is checked
against something that is not NVML. Protocol, one JSON document a line:

    {"gpus": [{"index", "uuid", "name", "total_bytes", "free_bytes"}, ...]}   after the contexts exist
    {"allocated_bytes": [...], "time": Unix time}                                after each GPU holds that many bytes
    {"freed": true, "time": Unix time}                                       after they were freed

Arguments: FOLDER SECONDS. The lines go to FOLDER/status. FOLDER/allocate-1, then allocate-2 and so on say how many
bytes each GPU shall have, as a JSON list, each more than the last; FOLDER/free ends it, as does the end of SECONDS.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import pathlib
import sys
import time
import uuid


class CudaError(Exception):
    """A call of the CUDA driver API failed."""


class Cuda:
    """The few calls that are needed, with errors as exceptions."""

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL("libcuda.so.1")
        except OSError as error:
            raise CudaError(f"libcuda.so.1 cannot be loaded: {error}") from error
        self("cuInit", 0)

    def __call__(self, name: str, *arguments: object) -> None:
        """Call a function by its name."""
        code = getattr(self._library, name)(*arguments)
        if code != 0:
            raise CudaError(f"{name} returned {code}")

    def devices(self) -> list[ctypes.c_int]:
        """Every device, in PCI order."""
        count = ctypes.c_int()
        self("cuDeviceGetCount", ctypes.byref(count))
        found = []
        for ordinal in range(count.value):
            device = ctypes.c_int()
            self("cuDeviceGet", ctypes.byref(device), ordinal)
            found.append(device)
        return found


class Gpu:
    """A device with a context of this process."""

    def __init__(self, cuda: Cuda, index: int, device: ctypes.c_int) -> None:
        self._cuda = cuda
        self.index = index
        self._device = device
        self._context = ctypes.c_void_p()
        self._held: list[ctypes.c_uint64] = []
        self._held_bytes = 0
        cuda("cuCtxCreate_v2", ctypes.byref(self._context), 0, device)

    def describe(self) -> dict[str, object]:
        """Identity and memory."""
        name, identity = ctypes.create_string_buffer(100), (ctypes.c_ubyte * 16)()
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._cuda("cuDeviceGetName", name, 100, self._device)
        self._cuda("cuDeviceGetUuid", identity, self._device)
        self._cuda("cuCtxSetCurrent", self._context)
        self._cuda("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return {
            "index": self.index,
            "uuid": f"GPU-{uuid.UUID(bytes=bytes(identity))}",
            "name": name.value.decode(),
            "free_bytes": free.value,
            "total_bytes": total.value,
        }

    def allocate(self, total_bytes: int) -> None:
        """Take as much more memory as makes that total."""
        more_bytes = total_bytes - self._held_bytes
        if more_bytes <= 0:
            raise CudaError(f"GPU {self.index} holds {self._held_bytes} bytes already and shall have {total_bytes}")
        memory = ctypes.c_uint64()
        self._cuda("cuCtxSetCurrent", self._context)
        self._cuda("cuMemAlloc_v2", ctypes.byref(memory), ctypes.c_size_t(more_bytes))
        self._held.append(memory)
        self._held_bytes = total_bytes

    def free(self) -> None:
        """Give all of it back."""
        self._cuda("cuCtxSetCurrent", self._context)
        for memory in self._held:
            self._cuda("cuMemFree_v2", memory)


def main(folder: pathlib.Path, seconds: float) -> None:
    """Walk through the protocol."""
    deadline = time.monotonic() + seconds
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # the order of NVML's indices
    try:
        cuda = Cuda()
        gpus = [Gpu(cuda, index, device) for index, device in enumerate(cuda.devices())]
        tell(folder, {"gpus": [gpu.describe() for gpu in gpus]})
        for number in itertools.count(1):
            asked = wait_for([folder / f"allocate-{number}", folder / "free"], deadline)
            if asked.name == "free":
                break
            sizes = json.loads(asked.read_text())
            for gpu, size_bytes in zip(gpus, sizes):  # noqa: B905 - strict= needs Python 3.10
                gpu.allocate(size_bytes)
            tell(folder, {"allocated_bytes": sizes, "time": time.time()})
        for gpu in gpus:
            gpu.free()
        tell(folder, {"freed": True, "time": time.time()})
    except (CudaError, TimeoutError) as error:
        tell(folder, {"error": str(error)})
        sys.exit(1)


def tell(folder: pathlib.Path, document: dict[str, object]) -> None:
    """Append a line to the status file."""
    with (folder / "status").open("a") as status:
        status.write(json.dumps(document) + "\n")


def wait_for(paths: list[pathlib.Path], deadline: float) -> pathlib.Path:
    """The first of these files that is there."""
    while True:
        for path in paths:
            if path.exists():
                return path
        if time.monotonic() > deadline:
            raise TimeoutError(f"nobody wrote {paths[0].name} in time")
        time.sleep(0.1)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), float(sys.argv[2]))
