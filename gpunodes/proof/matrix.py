"""`test-instance --types`: one image proven on several instance types, each in a process of its own."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from gpunodes import commands
from gpunodes.aws import Clients
from gpunodes.errors import AwsError, InterruptedRunError, UsageError
from gpunodes.evidence import evidence
from gpunodes.operation import runs
from gpunodes.operation.runs import Run
from gpunodes.operation.steps import Progress
from gpunodes.proof import matrix_policy, matrix_quotas, matrix_verdict, verdict_tags
from gpunodes.proof.matrix_child import Children, Start
from gpunodes.proof.matrix_policy import Policy
from gpunodes.proof.matrix_pool import Pool
from gpunodes.proof.matrix_verdict import EntryVerdict, Matrix
from gpunodes.recipe import ami
from gpunodes.settings import Settings
from gpunodes.target import Target

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass
class _Flag:
    """Whether somebody asked to stop."""

    is_up: bool = field(default=False)


def prove_matrix(
    target: Target,
    settings: Settings,
    progress: Progress,
    policy: Policy,
    *,
    ami_id: str | None = None,
    start_process: Start = commands.start,
    clock: Callable[[], float] = time.monotonic,
    wait: Callable[[float], None] = time.sleep,
) -> Matrix:
    """Prove an image on every entry of a policy, and tag it once, by the worst verdict.

    Args:
        target: where.
        settings: folders.
        progress: told about each entry and each step of its proof.
        policy: which types, and what that may take; `matrix_policy.read` makes it.
        ami_id: the image; the newest candidate without.
        start_process: starts a program.
        clock: seconds, monotonic.
        wait: until so many seconds passed.

    Raises:
        UsageError: a type or the image cannot be used, or it may cost more than the ceiling; nothing was started.
        PreflightError: there is no quota for a type, or for all that runs at once; nothing was started.
        InterruptedRunError: on Ctrl-C, SIGTERM or a closed terminal, when every proof has ended.
        AwsError: the image cannot be looked up or tagged.
    """
    clients = Clients(target)
    image = ami.describe(clients, ami_id) if ami_id else ami.newest_to_prove(clients)
    zones = matrix_policy.check_types(clients, policy, image)
    matrix_quotas.check(clients, policy, image)
    matrix_policy.check_cost(clients, policy, progress.say)
    run = runs.start(settings, target.destination)
    children = Children(
        ami_id=str(image["ImageId"]),
        folder=run.folder,
        say=progress.say,
        is_offline=target.name == "offline",
        is_spot=policy.spot,
        start_process=start_process,
    )
    flag, name = _Flag(), f"prove on {len(policy.entries)} instance types"
    with runs.going_on(run), _stop_signals_raise(flag):
        began, began_at = clock(), datetime.now(UTC)
        progress.begin(name)
        outcome = "failed"
        try:
            verdicts = Pool(policy, zones, children, progress, lambda: flag.is_up, clock, wait).run()
            outcome = "done" if matrix_verdict.result_of(verdicts) == matrix_verdict.PASSED else "failed"
        finally:
            progress.end(name, clock() - began, outcome)
        facts = _facts(target, policy, run, began_at)
        path = _write(settings, str(image["ImageId"]), run, verdicts, facts)
        state = _tag(clients, str(image["ImageId"]), verdicts, run, path)
    matrix = Matrix(
        result=matrix_verdict.result_of(verdicts),
        ami_id=str(image["ImageId"]),
        run_id=run.run_id,
        verdicts=verdicts,
        state=state,
        evidence=path,
        seconds=clock() - began,
    )
    if flag.is_up:
        raise InterruptedRunError(_stopped(matrix))
    return matrix


def _stopped(matrix: Matrix) -> str:
    left = [verdict.reason for verdict in matrix.verdicts if "invoke destroy" in verdict.reason]
    what = left[0].rstrip(".") if left else "what the proofs made is removed"
    return f"Stopped as asked; {what}; what each came to is in {matrix.evidence}."


@contextmanager
def _stop_signals_raise(flag: _Flag) -> Iterator[None]:
    """Ctrl-C, SIGTERM and a closed terminal only raise the flag, however often they come."""

    def note(_number: int, _frame: FrameType | None) -> None:
        flag.is_up = True

    # A signal that is ignored stays so: under `nohup` a closed terminal must not end a run.
    heard = [number for number in _STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in heard}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _facts(target: Target, policy: Policy, run: Run, began_at: datetime) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "target": target.name,
        "region": target.region,
        "spot": policy.spot,
        "limit": policy.limit,
        "time_ceiling_seconds": policy.time_ceiling_seconds,
        "cost_ceiling_usd": policy.cost_ceiling_usd or None,
        "began_at": began_at.isoformat(timespec="seconds"),
        "proved_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _write(settings: Settings, ami_id: str, run: Run, verdicts: Sequence[EntryVerdict], facts: dict[str, Any]) -> Path:
    """Keep the matrix beside its proofs, each named with its digest."""
    document = {
        "schema": "gpunodes-matrix/1",
        "result": matrix_verdict.result_of(verdicts),
        "reason": matrix_verdict.reason_of(verdicts),
        "ami_id": ami_id,
        **facts,
        "entries": [matrix_verdict.proof_entry(verdict) for verdict in verdicts],
    }
    folder = evidence.image_folder(settings, ami_id)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"matrix-{run.run_id}.json"
    path.write_text(json.dumps(document, indent=2, default=str) + "\n")
    return path


def _tag(clients: Clients, ami_id: str, verdicts: Sequence[EntryVerdict], run: Run, matrix: Path) -> str:
    """Tag the image by the worst verdict; a proof that could not be made says nothing of it, so it stays as it is."""
    result = matrix_verdict.result_of(verdicts)
    if result == matrix_verdict.ERROR:
        return ""
    worst = matrix_verdict.worst_of(verdicts)
    proof, run_id = (worst.evidence, worst.run_id) if worst and worst.evidence else (matrix, run.run_id)
    try:
        image = ami.describe(clients, ami_id)  # its state may have changed meanwhile
    except UsageError as error:
        raise AwsError(f"The image was {result} on {matrix} and cannot be tagged: {error}") from error
    return verdict_tags.tag_image(
        clients,
        image,
        result=result,
        reason=matrix_verdict.reason_of(verdicts),
        run_id=run_id,
        proof=proof,
        now=datetime.now(UTC),
    )
