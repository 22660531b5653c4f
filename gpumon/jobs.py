"""Which jobs run on which GPU, as a workload manager says it in dcgm-exporter's HPC job-mapping directory.

A file is named after a GPU (``2``) or a GPU instance of it (``2.7``) and has one job id per line; prologue and epilogue
scripts of the workload manager write it. Only files of GPUs that exist are ever opened, so other names cost nothing,
however many there are. What is in them is read anew at each question: the files are small, and a change must show.
"""

from __future__ import annotations

import logging
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from gpumon.samples import Gpu

MOST_FILE_BYTES = 64 * 1024
MOST_JOBS = 64  # of one GPU or GPU instance: each is a series, or a copy of every series
MOST_JOB_LETTERS = 256

log = logging.getLogger(__name__)


class JobFiles:
    """Answers from the files of one directory; no file and no content makes it raise or wait."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._is_missing = False

    def jobs_of(self, gpus: Iterable[Gpu]) -> dict[Gpu, tuple[str, ...]]:
        """Return the ids of the jobs on each GPU or MIG instance, each once; those without jobs are left out.

        A MIG instance without a file of its own has the jobs of its GPU.
        """
        self._note_directory()
        if self._is_missing:
            return {}
        return {gpu: jobs for gpu in gpus if (jobs := self._jobs_of_one(gpu))}

    def _jobs_of_one(self, gpu: Gpu) -> tuple[str, ...] | None:
        own = None if gpu.mig is None else self._read(f"{gpu.index}.{gpu.mig.gpu_instance_id}")
        return self._read(f"{gpu.index}") if own is None else own

    def _note_directory(self) -> None:
        is_missing = not self._directory.is_dir()
        if is_missing != self._is_missing:
            self._is_missing = is_missing
            log.info("the job mapping directory %s %s", self._directory, "is missing" if is_missing else "is there now")

    def _read(self, name: str) -> tuple[str, ...] | None:
        """Return the jobs in one file, or None if there is none that can be read."""
        path = self._directory / name
        try:
            content = _first_bytes(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("Repair %s, its jobs are left out: %s.", path, error.strerror)
            return None
        if len(content) > MOST_FILE_BYTES:
            log.warning("Repair %s, the rest is left out: it has more than %d bytes.", path, MOST_FILE_BYTES)
            content = content[:MOST_FILE_BYTES].rpartition(b"\n")[0]
        jobs = tuple(dict.fromkeys(job for line in content.split(b"\n") if (job := _job(line))))
        if len(jobs) > MOST_JOBS:
            log.warning("Repair %s, the rest is left out: it has more than %d jobs.", path, MOST_JOBS)
        return jobs[:MOST_JOBS]


def _first_bytes(path: Path) -> bytes:
    """Return up to one byte more than is taken of a regular file.

    Raises:
        OSError: It cannot be read, or is no regular file (which could wait for ever, or do something when opened).
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(0, "it is no regular file")
    # What it was a moment ago it need not be now.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "it is no regular file")
        return file.read(MOST_FILE_BYTES + 1)


def _job(line: bytes) -> str:
    """Return the job id of a line, or "" if it has none (blank, no UTF-8, control characters, endless)."""
    try:
        text = line.decode().strip()
    except UnicodeDecodeError:
        return ""
    return text if text.isprintable() and len(text) <= MOST_JOB_LETTERS else ""
