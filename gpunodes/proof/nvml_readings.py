"""What NVML and the host say on the instance, minute by minute: `on_instance/read_nvml.py`, run over SSH."""

from __future__ import annotations

import base64
import gzip
import json
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gpunodes.errors import ToolError
from gpunodes.proof.clone import Shell
from gpunodes.proof.datapoints import Minute, floor_minute

_PROGRAM = Path(__file__).parent / "on_instance" / "read_nvml.py"
_FOLDER = "/run/gpunodes-nvml"
_UNIT = "gpunodes-nvml"
# gpumon's own Python has pynvml; what it imports of that is NVIDIA's, and nothing of gpumon.
_PYTHONS = ("/opt/gpumon/bin/python", "python3")
_ANSWER_SECONDS = 60.0  # without persistence mode the driver takes up to half a minute for the first client
_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class NvmlReadings:
    """What was read on the instance; units are those of the readers' names.

    Attributes:
        minutes: by UUID of a GPU, empty for the host, and name of a reader, oldest first, by the instance's clock.
        unsupported: by UUID: readers for which NVML says that this GPU has no such value.
        indices: by UUID: index of the GPU, in PCI order.
    """

    minutes: Mapping[tuple[str, str], list[Minute]] = field(default_factory=dict)
    unsupported: Mapping[str, frozenset[str]] = field(default_factory=dict)
    indices: Mapping[str, int] = field(default_factory=dict)


class NvmlReader:
    """A program on the instance that reads NVML once a second; it ends by itself.

    Args:
        shell: a connection, of a user who may sudo.
        clock: seconds that pass, for the patience.
        wait: sleeps for so many seconds.
    """

    def __init__(
        self,
        shell: Shell,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._shell = shell
        self._clock = clock
        self._wait = wait

    def start(self, longest_seconds: int = 3600) -> None:
        """Begin to read, anew if it was started before; returns after the first reading.

        Args:
            longest_seconds: after which the program ends by itself.

        Raises:
            ToolError: no Python of the instance has pynvml, or NVML cannot be used; the message says why.
        """
        python = self._python()
        self.stop()
        self._shell.run(f"sudo install -d -m 0755 -o $(id -un) {_FOLDER}")
        self._shell.write(f"{_FOLDER}/program.py", _PROGRAM.read_text(encoding="utf-8"))
        # A transient unit: it outlives this connection, and its end is systemd's to see to.
        self._shell.run(
            f"sudo systemd-run --quiet --collect --unit={_UNIT} --property=RuntimeMaxSec={longest_seconds + 60}"
            f" {python} -I -B {_FOLDER}/program.py {_FOLDER} {longest_seconds}"
        )
        deadline = self._clock() + _ANSWER_SECONDS
        while not (first := self._shell.run(f"head -n 1 {_FOLDER}/readings 2>/dev/null || true")).endswith("\n"):
            if self._clock() > deadline:
                raise ToolError(f"NVML gives no reading; look at `journalctl -u {_UNIT}` on the instance.")
            self._wait(_POLL_SECONDS)
        _document(first)

    def collect(self) -> NvmlReadings:
        """Everything that was read since `start`; the program goes on.

        Raises:
            ToolError: there is nothing to be read on the instance, or NVML cannot be used.
        """
        # Hundreds of kilobytes a minute, all of them nearly the same.
        packed = self._shell.run(f"test -e {_FOLDER}/readings && gzip -c {_FOLDER}/readings | base64")
        try:
            text = gzip.decompress(base64.b64decode(packed)).decode()
        except (ValueError, OSError, EOFError, zlib.error) as error:
            raise ToolError(f"The readings of NVML did not come over ({error}); try again.") from error
        return summed_up(text)

    def stop(self) -> None:
        """End the program and remove it, with what it read, from the instance."""
        self._shell.run(f"sudo systemctl stop {_UNIT} 2>/dev/null; sudo rm -rf {_FOLDER}")

    def _python(self) -> str:
        tries = " || ".join(f"{{ {python} -I -c 'import pynvml' && echo {python}; }}" for python in _PYTHONS)
        found = self._shell.run(f"{{ {tries}; }} 2>/dev/null || true").strip()
        if not found:
            raise ToolError(
                f"No Python on the instance has pynvml ({', '.join(_PYTHONS)} were tried): gpumon is not installed."
            )
        return found


def summed_up(text: str) -> NvmlReadings:
    """What `read_nvml.py` wrote, by GPU, value and minute.

    Args:
        text: its lines; a last one that is not whole is left out.

    Raises:
        ToolError: NVML could not be used, or what was read is not what the program writes.
    """
    documents = [_document(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    samples: dict[tuple[str, str], dict[datetime, list[float]]] = {}
    for document in documents:
        if "time" in document:
            minute = floor_minute(datetime.fromtimestamp(document["time"], UTC))
            for uuid, values in document["values"].items():
                for reader, value in values.items():
                    samples.setdefault((uuid, reader), {}).setdefault(minute, []).append(float(value))
    began: Mapping[str, Any] = next((document for document in documents if "gpus" in document), {})
    return NvmlReadings(
        {key: _minutes(by_minute) for key, by_minute in samples.items()},
        {uuid: frozenset(readers) for uuid, readers in began.get("unsupported", {}).items()},
        {uuid: int(index) for uuid, index in began.get("gpus", {}).items()},
    )


def _minutes(samples: Mapping[datetime, Iterable[float]]) -> list[Minute]:
    found = []
    for minute, values in sorted(samples.items()):
        seen = list(values)
        found.append(Minute(minute, min(seen), max(seen), sum(seen) / len(seen), len(seen)))
    return found


def _document(line: str) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(line)
    except ValueError as error:
        raise ToolError(f"The readings of NVML cannot be understood ({error}); prove the image once more.") from error
    if "error" in document:
        raise ToolError(f"NVML cannot be used on the instance: {document['error']}.")
    return document
