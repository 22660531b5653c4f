"""Working stand-ins for the seams of gpunodes, and small makers of its values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpunodes.aws import Clients
from gpunodes.operation.runs import Run
from gpunodes.proof.datapoints import Series
from gpunodes.proof.gpu_checks import Gpu
from gpunodes.target import Target

INSTANCE_ID = "i-0123456789abcdef0"
GIB = 2**30


class RecordingProgress:
    """Remembers what it was told, in order."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.usual_seconds: Mapping[str, float] = {}

    def begin(self, name: str) -> None:
        self.events.append(f"begin {name}")

    def detail(self, text: str) -> None:
        self.events.append(f"detail {text}")

    def end(self, name: str, seconds: float, outcome: str) -> None:
        self.events.append(f"end {name} {seconds:g} {outcome}")

    def phase(self, name: str) -> None:
        self.events.append(f"phase {name}")

    def phase_end(self, name: str, seconds: float, outcome: str) -> None:
        self.events.append(f"phase end {name} {seconds:g} {outcome}")

    def expect(self, usual_seconds: Mapping[str, float]) -> None:
        self.usual_seconds = usual_seconds

    def say(self, text: str) -> None:
        self.events.append(f"say {text}")


class FakeClock:
    """Seconds that pass only while something waits."""

    def __init__(self) -> None:
        self.now = 100.0
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


@dataclass
class FakeClients:
    """Clients whose EC2 answers DescribeImages with what it was given."""

    images: list[dict[str, Any]]

    @property
    def ec2(self) -> FakeClients:
        return self

    def describe_images(self, **_arguments: Any) -> dict[str, Any]:
        return {"Images": self.images}

    def get_paginator(self, _name: str) -> FakeClients:
        return self

    def paginate(self, **_arguments: Any) -> list[dict[str, Any]]:
        """A page for each image."""
        return [{"Images": [image]} for image in self.images]


@dataclass
class FakeIndex:
    """Runs what builds a wheelhouse: a wheel appears, and nothing is fetched."""

    calls: list[str] = field(default_factory=list)
    fails: bool = False

    def __call__(self, argv: object) -> None:
        words = [str(word) for word in argv]  # type: ignore[attr-defined]
        self.calls.append(words[2])
        if self.fails:
            raise ConnectionError
        if words[2] == "build":
            folder = Path(words[words.index("--outdir") + 1])
            folder.mkdir(parents=True)
            (folder / "gpumon-1.2.3-py3-none-any.whl").write_bytes(b"wheel")


def executable(folder: Path, name: str, script: str) -> Path:
    """Put a program on a folder of PATH."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(script if script.startswith("#!") else f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


NOWHERE = "http://127.0.0.1:9"
"""Where nothing listens: no test asks the Internet which agent is published."""


def target(endpoint_url: str | None = None, **more: Any) -> Target:
    """A target with keys that open nothing."""
    facts: dict[str, Any] = {
        "name": "test",
        "region": "us-east-1",
        "flavor": "debian-12",
        "tolerates_missing_calls": True,
        "endpoint_url": endpoint_url,
        "credentials": {"aws_access_key_id": "test", "aws_secret_access_key": "test"},
        "agent_base_url": NOWHERE,
    }
    return Target(**facts | more)


def run(folder: Path, run_id: str = "20300101-000000-abcd") -> Run:
    """A run with a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    return Run(run_id, folder)


def base_image(clients: Clients) -> str:
    """An image to launch from."""
    found = clients.ec2.describe_images(Filters=[{"Name": "name", "Values": ["base"]}])["Images"]
    image = found[0] if found else clients.ec2.register_image(Name="base")
    return str(image["ImageId"])


def gpus(count: int, free_bytes: int = 15 * GIB) -> list[Gpu]:
    """GPUs of one model."""
    return [Gpu(index, f"GPU-{index}", "Tesla T4", free_bytes, 15 * GIB) for index in range(count)]


def memory_series(index: int, instance_id: str = INSTANCE_ID) -> Series:
    """The series of a GPU's memory."""
    return Series.of("GPU", "MemoryUsed", {"InstanceId": instance_id, "GpuIndex": str(index)})


def raising(error: BaseException) -> Callable[[], None]:
    """A step that fails."""

    def fail() -> None:
        raise error

    return fail
