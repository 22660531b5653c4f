"""Processes of a matrix that run on a fake clock, as the test has written them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.gpunodes.fakes import FakeClock

NO_CAPACITY = (
    "`terraform apply` failed: creating EC2 Instance: operation error EC2: RunInstances, https response error"
    " StatusCode: 500, RequestID: 1-2, api error InsufficientInstanceCapacity: We currently do not have sufficient"
    " g5.xlarge capacity in the Availability Zone you requested ({zone}). Our system will be working on provisioning"
    " additional capacity; all that it printed is in /runs/1/terraform.log."
)


@dataclass(frozen=True)
class Script:
    """What one process does.

    Attributes:
        seconds: that it takes.
        status: that it exits with.
        result: in the verdict that it prints; empty for none.
        reason: in it.
        error: the sentence that it ends with.
        clean_up_seconds: that it takes once it is asked to end; None: it does not listen.
        stopped_status: that it exits with then.
    """

    seconds: float = 60.0
    status: int = 0
    result: str = "passed"
    reason: str = ""
    error: str = ""
    clean_up_seconds: float | None = 20.0
    stopped_status: int = 130

    @staticmethod
    def fails(reason: str = "3 of 4 GPUs", seconds: float = 60.0) -> Script:
        return Script(seconds, 1, "failed", reason)

    @staticmethod
    def errs(error: str, status: int = 3) -> Script:
        return Script(10.0, status, "", error=error)

    @staticmethod
    def is_full(zone: str = "us-east-1a") -> Script:
        return Script.errs(NO_CAPACITY.format(zone=zone))


@dataclass
class FakeProcess:
    """Ends when its time has come."""

    place: str
    script: Script
    clock: Callable[[], float]
    run_id: str
    evidence: Path
    began: float
    asked_to_end_at: list[float] = field(default_factory=list)
    is_killed: bool = False
    _said: int = 0

    def poll(self) -> int | None:
        if self.is_killed:
            return -9
        if self.asked_to_end_at and self.script.clean_up_seconds is not None:
            is_over = self.clock() >= self.asked_to_end_at[0] + self.script.clean_up_seconds
            return self.script.stopped_status if is_over else None
        return self.script.status if self.clock() >= self.began + self.script.seconds else None

    def new_lines(self) -> list[str]:
        lines = ["test-instance", f"  · run {self.run_id}", "  ✓ launch with Terraform          12.3 s"]
        status = self.poll()
        if status == 130:
            lines.append("error: Stopped as asked; what this run made is removed.")
        elif status is not None and self.script.error:
            lines.append(f"error: {self.script.error}")
        new, self._said = lines[self._said :], len(lines)
        return new

    def output(self) -> str:
        if self.poll() != self.script.status or not self.script.result:
            return ""
        if not self.evidence.exists():
            self.evidence.parent.mkdir(parents=True, exist_ok=True)
            self.evidence.write_text(json.dumps({"availability_zone": "us-east-1f", "run_id": self.run_id}))
        verdict = {"result": self.script.result, "reason": self.script.reason, "run_id": self.run_id}
        return json.dumps({**verdict, "evidence": str(self.evidence)})

    def terminate(self) -> None:
        self.asked_to_end_at.append(self.clock())

    def kill(self) -> None:
        self.is_killed = True


@dataclass
class FakeProcesses:
    """Starts processes by what they are to run on; several scripts of one place are used one after another.

    Attributes:
        clock: that they run on.
        scripts: by `TYPE` or `TYPE ZONE`.
        evidence: folder of the proofs.
    """

    clock: FakeClock
    scripts: Mapping[str, Script | Exception]
    evidence: Path
    started: list[FakeProcess] = field(default_factory=list)
    arguments: list[list[str]] = field(default_factory=list)
    most_at_once: int = 0

    def __call__(
        self, argv: Sequence[str], *, output: Path, log: Path, env: Mapping[str, str], cwd: Path
    ) -> FakeProcess:
        assert output.parent.is_dir()
        assert log != output
        assert env["PYTHONIOENCODING"] == "utf-8"
        assert (cwd / "tasks.py").exists()
        words = list(argv)
        self.arguments.append(words)
        place = words[words.index("--type") + 1]
        if "--zone" in words:
            place += f" {words[words.index('--zone') + 1]}"
        script = self.scripts[place]
        if isinstance(script, Exception):
            raise script
        run_id = f"20300101-000000-{len(self.started):04x}"
        process = FakeProcess(
            place, script, self.clock, run_id, self.evidence / f"proof-{run_id}.json", self.clock()
        )  # fmt: skip
        self.started.append(process)
        self.most_at_once = max(self.most_at_once, sum(process.poll() is None for process in self.started))
        return process

    @property
    def places(self) -> list[str]:
        return [process.place for process in self.started]
