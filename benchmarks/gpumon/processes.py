"""Processes that are measured: started, read in /proc, scraped, and ended for certain."""

from __future__ import annotations

import os
import subprocess
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.gpumon.machine import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_STOP_SECONDS = 10.0
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass
class Measured:
    """A process that runs.

    Attributes:
        name: For people.
        process: It.
        log: What it writes.
        scrape_url: Of its Prometheus endpoint; "" if it has none.
        scrape_bytes: Size of each scrape.
    """

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    scrape_url: str = ""
    scrape_bytes: list[int] = field(default_factory=list)

    @property
    def is_running(self) -> bool:
        """Say whether it lives."""
        return self.process.poll() is None

    def processor_seconds(self) -> float:
        """Return its user and system time so far, with that of all its threads and of children that have ended."""
        text = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii", errors="replace")
        utime_to_cstime = text.rpartition(")")[2].split()[11:15]  # proc(5)
        return sum(map(int, utime_to_cstime)) / _TICKS_PER_SECOND

    def resident_mib(self) -> float:
        """Return its resident memory, shared pages included."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024

    def scrape(self) -> None:
        """Ask its endpoint, if it has one.

        Raises:
            OSError: It does not answer.
        """
        if self.scrape_url:
            # Proxies of the environment have nothing to do with loopback.
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(self.scrape_url, timeout=10) as answer:
                self.scrape_bytes.append(len(answer.read()))

    def last_words(self) -> str:
        """Return the end of what it wrote."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-2000:]


@contextmanager
def running(
    name: str, command: Sequence[str], environment: Mapping[str, str], scratch: Path, scrape_url: str = ""
) -> Iterator[Measured]:
    """Start a process, and end it with the block."""
    log = scratch / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=dict(environment), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        yield Measured(name, process, log, scrape_url)
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def output_of(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """Run a program to its end and return what it printed.

    Raises:
        RuntimeError: It failed; ends with what it said.
    """
    done = subprocess.run(
        command, env=dict(environment), cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command[:4])} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout
