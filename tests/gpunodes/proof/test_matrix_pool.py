from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from gpunodes import commands
from gpunodes.errors import ToolError
from gpunodes.proof import matrix_policy
from gpunodes.proof.matrix_child import Children
from gpunodes.proof.matrix_pool import Pool
from gpunodes.proof.matrix_verdict import EntryVerdict
from tests.gpunodes.fakes import FakeClock, RecordingProgress
from tests.gpunodes.proof.matrix_processes import FakeProcesses, Script

ZONES = {"g5.xlarge": ["us-east-1a", "us-east-1b"], "g5.2xlarge": ["us-east-1b"]}


class Trial:
    """A pool whose processes do as they are told."""

    def __init__(self, folder: Path, types: str, scripts: dict[str, Any], **options: Any) -> None:
        self.clock = FakeClock()
        self.begin = self.clock()
        self.progress = RecordingProgress()
        self.processes = FakeProcesses(self.clock, scripts, folder)
        self.is_asked_to_stop: Callable[[], bool] = lambda: False
        self.wait: Callable[[float], None] = self.clock.wait
        self._policy = matrix_policy.read(types, **options)
        self._folder = folder

    def run(self) -> list[EntryVerdict]:
        children = Children("ami-1", self._folder, self.progress.say, True, start_process=self.processes)
        return Pool(
            self._policy, ZONES, children, self.progress,
            self.is_asked_to_stop, self.clock, self.wait,
        ).run()  # fmt: skip

    @property
    def seconds(self) -> float:
        return self.clock() - self.begin

    def said(self, words: str) -> bool:
        return any(words in event for event in self.progress.events)


def results(verdicts: list[EntryVerdict]) -> list[str]:
    return [verdict.result for verdict in verdicts]


def test_all_types_run_at_once_and_each_has_its_own_verdict(tmp_path: Path) -> None:
    trial = Trial(tmp_path, "a1,a2,a3,a4", {f"a{number}": Script() for number in range(1, 5)})

    verdicts = trial.run()

    assert results(verdicts) == ["passed"] * 4
    assert trial.seconds == pytest.approx(60, abs=1)
    assert len({verdict.run_id for verdict in verdicts}) == 4
    assert [verdict.entry for verdict in verdicts] == ["a1", "a2", "a3", "a4"]
    assert verdicts[0].evidence is not None
    assert verdicts[0].zone == "us-east-1f"
    assert verdicts[0].seconds == pytest.approx(60, abs=1)
    assert verdicts[0].log == tmp_path / "a1.log"


def test_no_more_than_the_limit_run_at_once(tmp_path: Path) -> None:
    trial = Trial(tmp_path, "a1,a2,a3,a4,a5", {f"a{number}": Script() for number in range(1, 6)}, limit="2")

    assert results(trial.run()) == ["passed"] * 5
    assert trial.processes.most_at_once == 2
    assert trial.seconds == pytest.approx(180, abs=2)


def test_one_that_fails_or_cannot_start_does_not_stop_the_others(tmp_path: Path) -> None:
    broken = ToolError("`python` cannot be started; see to that file.")
    scripts = {"a1": Script.fails("3 of 4 GPUs", 5), "a2": broken, "a3": Script(90), "a4": Script.errs("No quota.", 2)}
    trial = Trial(tmp_path, "a1,a2,a3,a4", scripts, limit="1")

    verdicts = trial.run()

    assert results(verdicts) == ["failed", "error", "passed", "error"]
    assert [verdict.reason for verdict in verdicts] == ["3 of 4 GPUs", str(broken), "", "No quota."]
    assert not any(process.asked_to_end_at for process in trial.processes.started)


def test_progress_has_the_type_in_front_and_each_entry_is_a_phase(tmp_path: Path) -> None:
    trial = Trial(tmp_path, "a1,a2", {"a1": Script(), "a2": Script.errs("Terraform broke.")})

    trial.run()

    events = [event for event in trial.progress.events if not event.startswith("detail")]
    assert "say a1: ✓ launch with Terraform          12.3 s" in events
    assert "say a2: error: Terraform broke." in events
    assert events[:2] == ["phase a1", "phase a2"]
    assert [event.split()[2:3] + event.split()[-1:] for event in events if event.startswith("phase end")] == [
        ["a2", "failed"],
        ["a1", "done"],
    ]
    assert not trial.said("test-instance")
    assert trial.said("detail 1 of 2 done; running: a1")


def test_without_capacity_the_next_zones_are_tried_then_the_next_type(tmp_path: Path) -> None:
    scripts = {
        "g5.xlarge": Script.is_full("us-east-1c"),
        "g5.xlarge us-east-1a": Script.is_full(),
        "g5.xlarge us-east-1b": Script.is_full("us-east-1b"),
        "g5.2xlarge": Script(),
    }
    trial = Trial(tmp_path, "g5.xlarge|g5.2xlarge", scripts)

    [verdict] = trial.run()

    assert trial.processes.places == list(scripts)
    assert (verdict.result, verdict.instance_type, verdict.entry) == ("passed", "g5.2xlarge", "g5.xlarge|g5.2xlarge")
    assert [str(place) for place in verdict.without_capacity] == [
        "g5.xlarge", "g5.xlarge in us-east-1a", "g5.xlarge in us-east-1b",
    ]  # fmt: skip
    assert verdict.seconds == pytest.approx(90, abs=2)
    assert trial.said("say g5.xlarge: AWS has no capacity; trying g5.xlarge in us-east-1a")


def test_no_capacity_anywhere_is_one_sentence(tmp_path: Path) -> None:
    full = {place: Script.is_full("us-east-1a") for place in ("g5.xlarge", "g5.xlarge us-east-1b")}
    trial = Trial(tmp_path, "g5.xlarge", full)

    [verdict] = trial.run()

    assert trial.processes.places == list(full)  # us-east-1a is what AWS itself had chosen
    assert verdict.result == "error"
    assert verdict.reason == (
        "AWS has no capacity anywhere (tried g5.xlarge, g5.xlarge in us-east-1b); try later, or add another type with"
        " `|`."
    )


def test_a_failing_check_is_no_reason_to_go_elsewhere(tmp_path: Path) -> None:
    trial = Trial(tmp_path, "g5.xlarge|g5.2xlarge", {"g5.xlarge": Script.fails("insufficient capacity of the disk")})

    assert results(trial.run()) == ["failed"]
    assert trial.processes.places == ["g5.xlarge"]


def test_the_next_place_that_cannot_be_started_is_an_error_of_that_entry(tmp_path: Path) -> None:
    scripts = {"g5.2xlarge": Script.is_full("us-east-1b"), "a1": Script(), "a2": ToolError("No process.")}
    trial = Trial(tmp_path, "g5.2xlarge|a2,a1", scripts)

    assert [(verdict.result, verdict.reason) for verdict in trial.run()] == [("error", "No process."), ("passed", "")]


def test_a_proof_over_its_time_is_asked_to_clean_up_once_and_counts_as_failed(tmp_path: Path) -> None:
    trial = Trial(tmp_path, "a1,a2", {"a1": Script(5000), "a2": Script(60)}, time_ceiling_seconds="100")

    late, other = trial.run()

    [process, _] = trial.processes.started
    assert len(process.asked_to_end_at) == 1
    assert process.asked_to_end_at[0] - trial.begin == pytest.approx(100, abs=1)
    assert (late.result, late.reason) == ("failed", "It did not finish within 100 s.")
    assert (late.run_id, late.evidence) == (process.run_id, None)
    assert late.seconds == pytest.approx(120, abs=1)
    assert other.result == "passed"


def test_a_late_proof_that_passed_after_all_still_counts_as_failed(tmp_path: Path) -> None:
    trial = Trial(tmp_path, "a1", {"a1": Script(105, clean_up_seconds=None)}, time_ceiling_seconds="100")

    [verdict] = trial.run()

    assert (verdict.result, verdict.evidence) == ("failed", None)


def test_a_proof_that_does_not_end_is_killed_and_its_run_is_named(tmp_path: Path) -> None:
    trial = Trial(tmp_path, "a1", {"a1": Script(9999, clean_up_seconds=None)}, time_ceiling_seconds="100")

    [verdict] = trial.run()

    [process] = trial.processes.started
    assert process.is_killed
    assert trial.seconds == pytest.approx(700, abs=2)
    assert verdict.reason == (
        f"It did not finish within 100 s; run {process.run_id} may be left behind, and"
        f" `invoke destroy --offline --run {process.run_id}` removes it."
    )


def test_a_proof_that_was_killed_names_what_it_may_have_left(tmp_path: Path) -> None:
    trial = Trial(tmp_path, "a1", {"a1": Script(60, -9, "")})

    [verdict] = trial.run()

    assert verdict.result == "error"
    assert verdict.reason.startswith("Signal 9 ended it; run 20300101-000000-0000 may be left behind")


def test_who_asks_to_stop_ends_every_proof_once_and_waits_for_it(tmp_path: Path) -> None:
    trial = Trial(tmp_path, "a1,a2,a3", {name: Script(500) for name in ("a1", "a2", "a3")}, limit="2")
    trial.is_asked_to_stop = lambda: trial.seconds > 30

    verdicts = trial.run()

    assert [len(process.asked_to_end_at) for process in trial.processes.started] == [1, 1]
    assert trial.seconds == pytest.approx(50, abs=1)
    assert results(verdicts) == ["error"] * 3
    assert verdicts[0].reason == "Stopped as asked; what this run made is removed."
    assert verdicts[2].reason == "It was not begun: the matrix was stopped before."
    assert trial.said("say cleaning up, a moment please")


def test_a_late_proof_is_not_asked_again_by_who_stops_all(tmp_path: Path) -> None:
    trial = Trial(tmp_path, "a1", {"a1": Script(5000)}, time_ceiling_seconds="100")
    trial.is_asked_to_stop = lambda: trial.seconds > 105

    assert results(trial.run()) == ["failed"]
    assert len(trial.processes.started[0].asked_to_end_at) == 1


def test_a_proof_that_was_stopped_before_its_first_step_left_nothing(tmp_path: Path) -> None:
    trial = Trial(tmp_path, "a1", {"a1": Script(500, clean_up_seconds=0, stopped_status=-signal.SIGTERM)})
    trial.is_asked_to_stop = lambda: trial.seconds > 30

    [verdict] = trial.run()

    assert (verdict.result, verdict.reason) == ("error", "Stopped as asked; nothing of it is left.")


def test_a_late_proof_whose_clean_up_failed_says_so(tmp_path: Path) -> None:
    trial = Trial(tmp_path, "a1", {"a1": Script(500, stopped_status=3)}, time_ceiling_seconds="100")

    [verdict] = trial.run()

    assert verdict.reason.startswith("It did not finish within 100 s (It ended with status 3 and no verdict")


def test_a_stopped_proof_does_not_go_on_elsewhere(tmp_path: Path) -> None:
    full = Script(25, 3, "", error=Script.is_full().error, clean_up_seconds=None)
    trial = Trial(tmp_path, "g5.xlarge", {"g5.xlarge": full})
    trial.is_asked_to_stop = lambda: trial.seconds > 20

    [verdict] = trial.run()

    assert len(trial.processes.started) == 1
    assert "InsufficientInstanceCapacity" in verdict.reason


def test_a_defect_of_the_matrix_leaves_no_proof_running(tmp_path: Path) -> None:
    trial = Trial(tmp_path, "a1,a2", {"a1": Script(500), "a2": Script(5000, clean_up_seconds=None)})

    failures: list[float] = []

    def wait(seconds: float) -> None:
        trial.clock.wait(seconds)
        if trial.seconds > 5 and not failures:
            failures.append(trial.seconds)
            raise OSError("No space left on device")

    trial.wait = wait

    with pytest.raises(OSError, match="No space"):
        trial.run()

    listens, does_not = trial.processes.started
    assert [len(process.asked_to_end_at) for process in (listens, does_not)] == [1, 1]
    assert listens.poll() == 130
    assert does_not.is_killed


REAL_PROOF = """
import json, pathlib, signal, sys, time

def stop(number, frame):
    sys.stderr.write("error: Stopped as asked; what this run made is removed.\\n")
    sys.exit(130)

signal.signal(signal.SIGTERM, stop)
name = sys.argv[sys.argv.index("--type") + 1]
sys.stderr.write(f"test-instance\\n  · run 20300101-000000-000{name[-1]}\\n  ✓ launch with Terraform   1.0 s\\n")
if name == "a2":
    time.sleep(60)
evidence = pathlib.Path(f"proof-{name}.json").absolute()
evidence.write_text('{"availability_zone": "us-east-1a"}')
print(json.dumps({"result": "passed", "reason": "", "run_id": "20300101-000000-0001", "evidence": str(evidence)}))
"""


def test_real_processes_are_heard_and_asked_to_end(tmp_path: Path) -> None:
    progress = RecordingProgress()

    def start(
        argv: Sequence[str], *, output: Path, log: Path, env: Mapping[str, str], cwd: Path
    ) -> commands.Background:
        assert (cwd / "tasks.py").exists()
        return commands.start(
            [sys.executable, "-c", REAL_PROOF, *argv[3:]], output=output, log=log, env=env, cwd=tmp_path
        )

    def has_passed_and_waits() -> bool:
        return {"phase end a1", "say a2: ✓ launch"} <= {
            words for event in progress.events for words in ("phase end a1", "say a2: ✓ launch") if words in event
        }

    children = Children("ami-1", tmp_path, progress.say, start_process=start)
    policy = matrix_policy.read("a1,a2", time_ceiling_seconds="30")
    passed, stopped = Pool(
        policy, {}, children, progress, has_passed_and_waits, time.monotonic, lambda _seconds: time.sleep(0.01)
    ).run()

    assert (passed.result, passed.zone, passed.evidence) == ("passed", "us-east-1a", tmp_path / "proof-a1.json")
    assert (stopped.result, stopped.run_id) == ("error", "20300101-000000-0002")
    assert stopped.reason == "Stopped as asked; what this run made is removed."
    assert (tmp_path / "a1.log").read_text().startswith("test-instance\n  · run")
