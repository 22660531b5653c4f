"""The proofs of a matrix, several at once: begun, heard, limited in time, moved where there is capacity, ended."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from gpunodes.errors import GpunodesError
from gpunodes.operation.steps import Progress
from gpunodes.proof import capacity, matrix_verdict
from gpunodes.proof.matrix_child import Child, Children, Outcome
from gpunodes.proof.matrix_fallback import Fallback, Place
from gpunodes.proof.matrix_policy import Entry, Policy
from gpunodes.proof.matrix_verdict import EntryVerdict

GRACE_SECONDS = 600.0  # an instance with GPUs may take minutes to terminate
_POLL_SECONDS = 0.2


@dataclass
class _Proof:
    """An entry while it is being proven."""

    entry: Entry
    fallback: Fallback
    began: float
    child: Child
    child_began: float
    asked_to_end_at: float | None = None
    is_late: bool = False
    is_killed: bool = False


@dataclass
class Pool:
    """Proves the entries of a policy.

    One thread: a signal only sets a flag, so nothing is torn between the start of a proof and its being known.

    Attributes:
        policy: what is proven.
        zones: that offer each type.
        children: starts a proof.
        progress: told about each entry, as a phase.
        is_asked_to_stop: whether somebody wants all to end.
        clock: seconds, monotonic.
        wait: until so many seconds passed.
    """

    policy: Policy
    zones: Mapping[str, Sequence[str]]
    children: Children
    progress: Progress
    is_asked_to_stop: Callable[[], bool]
    clock: Callable[[], float]
    wait: Callable[[float], None]
    _running: list[_Proof] = field(default_factory=list)
    _verdicts: dict[Entry, EntryVerdict] = field(default_factory=dict)
    _is_stopping: bool = False

    def run(self) -> list[EntryVerdict]:
        """Prove all; returns a verdict for each entry, in their order, when the last process has ended."""
        waiting = deque(self.policy.entries)
        try:
            while waiting or self._running:
                if self.is_asked_to_stop() and not self._is_stopping:
                    self._stop(waiting)
                while waiting and len(self._running) < self.policy.limit:
                    self._begin(waiting.popleft())
                self._look()
                if self._running:
                    self.wait(_POLL_SECONDS)
        finally:  # a defect or a full disk here must not leave instances running
            self._end_all()
        return [self._verdicts[entry] for entry in self.policy.entries]

    def _begin(self, entry: Entry) -> None:
        fallback = Fallback(entry, self.zones, self.policy.zone)
        began = self.clock()
        self.progress.phase(entry.name)
        try:
            child = self.children.start(fallback.first)
        except GpunodesError as error:
            self._settle(entry, began, EntryVerdict(entry.name, matrix_verdict.ERROR, str(error)))
            return
        self._running.append(_Proof(entry, fallback, began, child, began))
        self._tell()

    def _stop(self, waiting: deque[Entry]) -> None:
        self._is_stopping = True
        for proof in self._running:
            self._ask_to_end(proof)
        self.progress.say("cleaning up, a moment please")
        for entry in waiting:
            reason = "It was not begun: the matrix was stopped before."
            self._verdicts[entry] = EntryVerdict(entry.name, matrix_verdict.ERROR, reason)
        waiting.clear()

    def _ask_to_end(self, proof: _Proof) -> None:
        """Once: a second signal would tear Terraform from its state."""
        if proof.asked_to_end_at is None:
            proof.asked_to_end_at = self.clock()
            proof.child.process.terminate()

    def _look(self) -> None:
        for proof in list(self._running):
            outcome = proof.child.poll()
            if outcome is None:
                self._watch_time(proof)
            elif not self._goes_on_elsewhere(proof, outcome):
                self._running.remove(proof)
                self._settle(proof.entry, proof.began, self._verdict(proof, outcome))

    def _watch_time(self, proof: _Proof) -> None:
        now = self.clock()
        if proof.asked_to_end_at is not None:
            if now - proof.asked_to_end_at > GRACE_SECONDS and not proof.is_killed:
                # `destroy` leaves a run alone whose process lives.
                proof.is_killed = True
                proof.child.process.kill()
        elif now - proof.child_began > self.policy.time_ceiling_seconds:
            proof.is_late = True
            self.progress.say(f"{proof.child.place}: {self._late}; it is asked to clean up")
            self._ask_to_end(proof)

    def _goes_on_elsewhere(self, proof: _Proof, outcome: Outcome) -> bool:
        """Try the entry's next place where AWS has no capacity for this one."""
        if proof.asked_to_end_at is not None or not _is_without_capacity(outcome):
            return False
        place = proof.fallback.after(proof.child.place, outcome.reason)
        if place is None:
            return False
        self.progress.say(f"{proof.child.place}: AWS has no capacity; trying {place}")
        try:
            proof.child = self.children.start(place)
        except GpunodesError as error:
            self._running.remove(proof)
            verdict = EntryVerdict(proof.entry.name, matrix_verdict.ERROR, str(error), place.instance_type, place.zone)
            self._settle(proof.entry, proof.began, verdict)
            return True
        proof.child_began = self.clock()
        return True

    def _verdict(self, proof: _Proof, outcome: Outcome) -> EntryVerdict:
        child = proof.child
        result, reason = outcome.result, outcome.reason
        if proof.is_late:
            said = f" ({reason})" if outcome.exit_code > 1 and outcome.exit_code != 130 else ""
            result, reason = matrix_verdict.FAILED, f"{self._late}{said}."
        elif proof.asked_to_end_at is None and _is_without_capacity(outcome):
            reason = _nowhere(proof)
        if _ended_outside_of_steps(proof, outcome):
            reason = reason if proof.is_late else "Stopped as asked; nothing of it is left."
        elif proof.is_killed or outcome.exit_code < 0:
            command = self.children.destroy_command(child.run_id)
            left = f"run {child.run_id}" if child.run_id else "something"
            reason = f"{reason.rstrip('.')}; {left} may be left behind, and `{command}` removes it."
        return EntryVerdict(
            entry=proof.entry.name,
            result=result,
            reason=reason,
            instance_type=child.place.instance_type,
            zone=child.place.zone or matrix_verdict.zone_in(outcome.evidence),
            run_id=child.run_id,
            evidence=outcome.evidence if outcome.result == result else None,  # one that passed proves no failure
            log=child.log,
            seconds=self.clock() - proof.began,
            without_capacity=tuple(proof.fallback.tried),
        )

    def _settle(self, entry: Entry, began: float, verdict: EntryVerdict) -> None:
        self._verdicts[entry] = verdict
        passed = verdict.result == matrix_verdict.PASSED
        self.progress.phase_end(entry.name, self.clock() - began, "done" if passed else "failed")
        self._tell()

    def _tell(self) -> None:
        running = ", ".join(str(proof.child.place) for proof in self._running)
        self.progress.detail(f"{len(self._verdicts)} of {len(self.policy.entries)} done; running: {running or 'none'}")

    @property
    def _late(self) -> str:
        return f"It did not finish within {self.policy.time_ceiling_seconds:g} s"

    def _end_all(self) -> None:
        """Whatever went wrong here: every process is asked to end, and waited for."""
        for proof in self._running:
            self._ask_to_end(proof)
        deadline = self.clock() + GRACE_SECONDS
        while any(proof.child.process.poll() is None for proof in self._running) and self.clock() < deadline:
            self.wait(_POLL_SECONDS)
        for proof in self._running:
            if proof.child.process.poll() is None:
                proof.child.process.kill()


def _is_without_capacity(outcome: Outcome) -> bool:
    return outcome.exit_code == 3 and capacity.is_lacking(outcome.reason)


def _ended_outside_of_steps(proof: _Proof, outcome: Outcome) -> bool:
    """Whether our SIGTERM found it before its first step or after its clean-up: in between, it listens to signals."""
    return proof.asked_to_end_at is not None and not proof.is_killed and outcome.exit_code == -signal.SIGTERM


def _nowhere(proof: _Proof) -> str:
    tried: list[Place] = proof.fallback.tried
    places = ", ".join(str(place) for place in tried)
    return f"AWS has no capacity anywhere (tried {places}); try later, or add another type with `|`."
