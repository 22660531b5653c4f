"""The whole program as a process, and everything around it: simulated driver, CloudWatch, instance metadata."""

from __future__ import annotations

import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localaws.simgpu.gpus import SimulatedGpus
from tests.gpumon.cloudwatch_endpoint import Endpoint, cloudwatch_endpoint
from tests.gpumon.test_identity import DOCUMENT, FakeMetadata, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ROOT = Path(__file__).parents[2]
MIB = 2**20
SAMPLE_SECONDS = 0.1
STOP_SECONDS = 3
CLOSED_PORT = "http://127.0.0.1:1"  # nobody listens on tcpmux


@dataclass(frozen=True)
class Sent:
    """A datum as it came over the wire."""

    metric: str
    gpu: str | None
    unix_seconds: float
    values: tuple[float, ...]
    counts: tuple[float, ...]

    @property
    def key(self) -> tuple[str, str | None, float]:
        return self.metric, self.gpu, self.unix_seconds

    @property
    def samples(self) -> float:
        return sum(self.counts)


class Program:
    """A ``gpumon run`` that writes its log and its output to files."""

    def __init__(
        self, environment: dict[str, str], directory: Path, arguments: Sequence[str], *, is_read: bool
    ) -> None:
        directory.mkdir()
        self._log, self._output = directory / "log", directory / "output"
        # SIGHUP as a service gets it, also where the tests themselves run under nohup.
        command = ["env", "--default-signal=HUP", sys.executable, "-m", "gpumon", "run", *arguments]
        with self._log.open("w") as log, self._output.open("w") as output:
            self.process = subprocess.Popen(
                command, env=environment, stdout=output if is_read else subprocess.PIPE, stderr=log
            )
        if self.process.stdout is not None:
            self.process.stdout.close()

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def output(self) -> str:
        return self._output.read_text()

    @property
    def reads(self) -> bool:
        return "reading GPUs" in self.log

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float = 20.0) -> int:
        """Wait for the end; return the exit code."""
        return self.process.wait(seconds)

    def stop(self) -> None:
        self.signal(signal.SIGTERM)
        assert self.wait() == 0, self.log

    def end(self) -> None:
        """Make sure that nothing of it is left."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class World:
    """Everything around gpumon, on loopback and in a temporary directory."""

    def __init__(self, directory: Path, libraries: Path, cloudwatch: Endpoint, metadata: str) -> None:
        self.directory = directory
        self.gpus = SimulatedGpus(directory / "simgpu")
        self.gpus.install("g5.xlarge", "i-1")
        self.cloudwatch = cloudwatch
        self.state, self.runtime, self.config = (directory / name for name in ("state", "runtime", "gpumon.toml"))
        self.state.mkdir()
        self.runtime.mkdir()
        self.programs: list[Program] = []
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "LD_LIBRARY_PATH": str(libraries),
            "SIMGPU_STATE": str(directory / "simgpu"),
            "STATE_DIRECTORY": str(self.state),
            "RUNTIME_DIRECTORY": str(self.runtime),
            "AWS_ENDPOINT_URL": cloudwatch.url,
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        }
        self.settings: dict[str, Any] = {
            "sample_seconds": SAMPLE_SECONDS,
            "slow_seconds": 1,
            "publish_seconds": 1,
            "publish_phase_seconds": 0,
            "stop_seconds": STOP_SECONDS,
            "kernel_log": str(directory / "simgpu" / "kmsg"),
            "prometheus_listen": "127.0.0.1:0",
        }
        self.configure()

    def configure(self, **changes: Any) -> None:
        """Write the settings file."""
        self.settings |= changes
        lines = [f"{key} = {json.dumps(value)}\n" for key, value in self.settings.items()]
        self.config.write_text("".join(lines))

    def start(self, **environment: str) -> Program:
        return self._start(environment, is_read=True)

    def start_unread(self) -> Program:
        """Start a process whose standard output nobody reads."""
        return self._start({}, is_read=False)

    def _start(self, environment: dict[str, str], *, is_read: bool) -> Program:
        where = self.directory / f"program{len(self.programs)}"
        arguments = ("--config", str(self.config))
        program = Program(self.environment | environment, where, arguments, is_read=is_read)
        self.programs.append(program)
        return program

    def start_reading(self, **environment: str) -> Program:
        """Start, and wait until the GPUs are read."""
        program = self.start(**environment)
        wait_for(lambda: program.reads, program)
        return program

    def end(self) -> None:
        for program in self.programs:
            program.end()

    def command(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run another command with the same settings to its end."""
        return subprocess.run(
            [sys.executable, "-m", "gpumon", *arguments, "--config", str(self.config)],
            env=self.environment | environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def sent(self, metric: str | None = None) -> list[Sent]:
        """Return what CloudWatch was sent so far, of one metric or of all."""
        found = [datum for _, _, datums in self.calls() for datum in datums]
        return [datum for datum in found if metric in {None, datum.metric}]

    def calls(self) -> list[tuple[str, str, list[Sent]]]:
        """Return namespace, User-Agent and datums of each call."""
        calls = []
        for headers, body in list(self.cloudwatch.requests):
            named = {name.lower(): value for name, value in headers.items()}
            text = gzip.decompress(body) if named.get("content-encoding") == "gzip" else body
            document = json.loads(text)
            datums = [_sent(datum) for datum in document["MetricData"]]
            calls.append((document["Namespace"], named["user-agent"], datums))
        return calls

    def samples(self, metric: str) -> float:
        """Return how many samples of a metric were sent."""
        return sum(datum.samples for datum in self.sent(metric))


@contextmanager
def a_world(directory: Path, libraries: Path) -> Iterator[World]:
    """Make a world with one A10G; end every process in it at the end."""
    with ExitStack() as stack:
        cloudwatch = stack.enter_context(cloudwatch_endpoint())
        handler = type("Metadata", (FakeMetadata,), {"document": json.dumps(DOCUMENT).encode()})
        world = World(directory, libraries, cloudwatch, stack.enter_context(serve(handler)))
        stack.callback(world.end)
        yield world


def wait_for(condition: Callable[[], object], program: Program | None = None, seconds: float = 12.0) -> float:
    """Wait until `condition()` holds; return how long that took."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, "it did not happen" if program is None else program.log
        assert program is None or program.process.poll() is None, program.log
        time.sleep(0.02)
    return time.monotonic() - start


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _sent(datum: dict[str, Any]) -> Sent:
    dimensions = {entry["Name"]: entry["Value"] for entry in datum["Dimensions"]}
    values = tuple(datum["Values"])
    return Sent(
        datum["MetricName"],
        dimensions.get("GpuUuid"),
        float(datum["Timestamp"]),
        values,
        tuple(datum.get("Counts") or [1] * len(values)),
    )
