"""`test-instance`: launch a fresh instance from an image, look at it, say passed or failed and why, destroy it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gpunodes.aws import Clients
from gpunodes.errors import AwsError, GpunodesError, ToolError
from gpunodes.evidence import evidence
from gpunodes.operation import runs
from gpunodes.operation.steps import Progress, Step, Timing, run_steps
from gpunodes.proof import check, verdict_tags
from gpunodes.proof.check import Check
from gpunodes.proof.launch import TestInstance, Wish, destroy_command
from gpunodes.proof.proof_steps import ProofSteps
from gpunodes.recipe import ami
from gpunodes.settings import Settings
from gpunodes.target import Target


@dataclass(frozen=True)
class Verdict:
    """What `test-instance` found.

    Attributes:
        run_id: of the proof.
        ami_id: the image.
        instance_id: the test instance, destroyed unless it was kept.
        instance_type: of it.
        result: `passed` or `failed`.
        reason: in a sentence.
        checks: in the order of a report.
        state: of the image now, as its tag says; empty where the image was left alone.
        evidence: file with all of it; a page and an XML file for CI systems lie beside it.
        kept: how to log in to the instance and how to remove it; empty where it is destroyed.
        timings: seconds per step.
    """

    run_id: str
    ami_id: str
    instance_id: str
    instance_type: str
    result: str
    reason: str
    checks: list[Check]
    state: str
    evidence: Path
    kept: dict[str, str]
    timings: list[Timing]


def prove(
    target: Target,
    settings: Settings,
    progress: Progress,
    *,
    ami_id: str | None = None,
    instance_type: str | None = None,
    wish: Wish | None = None,
) -> Verdict:
    """Prove an image on a fresh instance, and leave nothing behind.

    Args:
        target: where.
        settings: instance type and folders.
        progress: told about each step.
        ami_id: the image; the newest candidate without.
        instance_type: instead of the settings' one.
        wish: how; without one an on-demand instance in any zone, destroyed at the end, and the image tagged.

    Raises:
        AwsError: among others, when the image was deregistered meanwhile; then there is evidence but no verdict.
        GpunodesError: with the exit code for what went wrong; a check that fails is no error but in the verdict.
    """
    run = runs.start(settings, target.destination)
    progress.say(f"run {run.run_id}")
    instance = TestInstance(target, settings, run, Clients(target), progress)
    work = ProofSteps(target, instance, ami_id, instance_type or settings.test_instance_type, wish or Wish())
    timings: list[Timing] = []
    with runs.going_on(run):
        # Now, and once more with every timing: a clean-up that fails must not cost what was seen.
        written = Step("write the evidence", lambda: _write(work, timings))
        remedy = f"run `{destroy_command(target, run.run_id)}`"
        try:
            run_steps([*_steps(work), written], progress, keep=work.wish.keep, timings=timings, remedy=remedy)
            is_there = work.look_for_the_image() == ami.AVAILABLE
            path = _write(work, timings)
            state = _tag(work, path) if work.wish.tag and is_there else ""
        except (AwsError, ToolError) as error:
            if _is_gone(work):
                raise _image_is_gone(work, _write(work, timings) if instance.instance_id else None) from error
            raise
        if not is_there:
            raise _image_is_gone(work, path, is_kept=work.wish.keep)
        result, reason = _verdict(work)
    return Verdict(
        run_id=run.run_id,
        ami_id=work.ami_id,
        instance_id=instance.instance_id,
        instance_type=work.instance_type,
        result=result,
        reason=reason,
        checks=check.in_order(work.checks),
        state=state,
        evidence=path,
        kept=_kept(work) if work.wish.keep else {},
        timings=timings,
    )


def _is_gone(work: ProofSteps) -> bool:
    """Whether what went wrong did so because somebody deregistered the image meanwhile."""
    try:
        return bool(work.ami_id) and work.look_for_the_image() != ami.AVAILABLE
    except GpunodesError:  # what went wrong is said already, and may be the very same
        return False


def _image_is_gone(work: ProofSteps, path: Path | None, *, is_kept: bool = False) -> AwsError:
    """No verdict: what the image is like concerns nobody any more."""
    seen = f"; what was seen of it is in {path}" if path else ""
    kept = f"; the instance was kept, and `{_kept(work)['destroy']}` removes it" if is_kept else ""
    return AwsError(
        f"Image {work.ami_id} was taken away (deregistered or disabled) while it was being proven{seen}{kept}; bake"
        " another with `invoke build-ami`, or name one with --ami."
    )


def _steps(work: ProofSteps) -> list[Step]:
    instance = work.instance
    return [
        Step("check tools, account and image", work.preflight),
        Step("make an SSH key", instance.make_key, instance.delete_key),
        Step("launch with Terraform", work.launch, instance.destroy),
        Step("connect by SSH", instance.connect, instance.disconnect),
        Step("look at the boot", work.look_at_the_boot),
        Step("look at services", work.look_at_services),
        Step("look at GPUs", work.look_at_gpus),
        Step("wait for first datapoints", work.wait_for_first_datapoints),
        Step("allocate GPU memory in steps, see it rise", work.climb),
        Step("deny to publish, see the gap filled", work.climb_in_an_outage),
        Step("free it", work.free),
        Step("kill gpumon, see it come back", work.kill_gpumon),
        Step("see the memory fall", work.see_memory_fall),
        Step("hold every datapoint against NVML", work.look_at_datapoints),
        Step("reboot and look again", work.reboot),
        # No check may find this key on the instance.
        *([Step("leave the key there", instance.leave_key)] if work.wish.keep else []),
    ]


def _verdict(work: ProofSteps) -> tuple[str, str]:
    tolerates = work.target.tolerates_missing_calls
    return (
        check.result(work.checks, tolerates_unanswered=tolerates),
        check.reason(work.checks, tolerates_unanswered=tolerates),
    )


def _tag(work: ProofSteps, proof: Path) -> str:
    result, reason = _verdict(work)
    return verdict_tags.tag_image(
        work.clients,
        work.image,
        result=result,
        reason=reason,
        run_id=work.instance.run.run_id,
        proof=proof,
        now=datetime.now(UTC),
    )


def _kept(work: ProofSteps) -> dict[str, str]:
    return {"ssh": work.instance.ssh_command, "destroy": destroy_command(work.target, work.instance.run.run_id)}


def _write(work: ProofSteps, timings: list[Timing]) -> Path:
    instance = work.instance
    result, reason = _verdict(work)
    document: dict[str, Any] = {
        "schema": "gpunodes-proof/1",
        "result": result,
        "reason": reason,
        "ami_id": work.ami_id,
        "ami_name": work.image.get("Name", ""),
        "run_id": instance.run.run_id,
        "target": work.target.name,
        "region": work.target.region,
        "availability_zone": instance.outputs.get("availability_zone", ""),
        "instance_id": instance.instance_id,
        "instance_type": work.instance_type,
        "began_at": instance.started_at.isoformat(timespec="seconds"),
        "proved_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "checks": [asdict(made) for made in check.in_order(work.checks)],
        "series": work.series_document(),
        "load": work.load_document(),
        "timings": [asdict(timing) for timing in timings],
        "cost": {
            "usd": work.price.of((datetime.now(UTC) - instance.started_at).total_seconds()),
            "hourly_usd": work.price.usd,
            "note": work.price.reason,
        },
        "destroyed": {} if work.wish.keep else instance.destroyed,
        "kept": _kept(work) if work.wish.keep else {},
    }
    return evidence.write_proof(instance.settings, instance.run, work.ami_id, document)
