"""Invoke's entry: each task parses its options, calls one function of gpunodes, and prints what it returns."""

from __future__ import annotations

from invoke import Collection, Context, Exit, task

import channel_tasks
import offline_tasks
from gpunodes import report
from gpunodes.aws import Clients
from gpunodes.bake.bake import bake, diagnose
from gpunodes.cleanup import reap_report
from gpunodes.cleanup.destroy import destroy as destroy_runs
from gpunodes.cleanup.reap import reap_region
from gpunodes.destination import select
from gpunodes.evidence import explain_report
from gpunodes.evidence.compare import compare as compare_images
from gpunodes.evidence.explain import explain as explain_image
from gpunodes.exit_codes import errors_as_exit_codes
from gpunodes.operation.progress import TerminalProgress
from gpunodes.plan.plan import plan as plan_bake
from gpunodes.preflight.doctor_report import print_diagnosis
from gpunodes.proof import matrix_policy, matrix_report
from gpunodes.proof.launch import Wish
from gpunodes.proof.matrix import prove_matrix
from gpunodes.proof.proof import prove
from gpunodes.refresh import refresh_report
from gpunodes.refresh.situation import plan_refresh
from gpunodes.task_options import BAKE, BASE, JSON, OFFLINE, SPOT


@task(help={**OFFLINE, **JSON, **BAKE})
def build_ami(  # noqa: PLR0917 - each is an option
    _context: Context, offline: bool = False, json: bool = False, source_ami: str = "", flavor: str = "",
    channel: str = "", spot: bool = False,
) -> None:  # fmt: skip
    """Bake a GPU image with gpumon and the CloudWatch agent; it becomes a candidate."""
    with errors_as_exit_codes():
        progress = TerminalProgress()
        progress.title("build-ami")
        chosen, options = select(offline, progress.say, flavor=flavor, channel=channel, spot=spot)
        baked = bake(chosen, options, progress, source_ami or None)
        report.print_json(report.baked_document(baked)) if json else report.print_baked(baked)


@task(help={**OFFLINE, **JSON, **BAKE, "refresh": "Say, too, whether a refresh would bake now, and why."})
def plan(  # noqa: PLR0917 - each is an option
    _context: Context, offline: bool = False, json: bool = False, source_ami: str = "", flavor: str = "",
    channel: str = "", spot: bool = False, refresh: bool = False,
) -> None:  # fmt: skip
    """Show what a bake would do: base image, pins, fingerprint, what is new, duration and cost."""
    with errors_as_exit_codes():
        progress = TerminalProgress()
        chosen, options = select(offline, progress.say, flavor=flavor, channel=channel, spot=spot)
        planned = plan_bake(chosen, options, progress.say, source_ami or None)
        due = plan_refresh(Clients(chosen), planned) if refresh else None
        document = refresh_report.document
        report.print_json(document(planned, due)) if json else refresh_report.show(planned, due, report.console())


@task(help={**OFFLINE, **JSON, **BASE, **SPOT})
def doctor(
    _context: Context, offline: bool = False, json: bool = False, source_ami: str = "", flavor: str = "",
    spot: bool = False,
) -> None:  # fmt: skip
    """Check everything that a bake needs, and change nothing; exit code 1 when something is missing."""
    with errors_as_exit_codes():
        chosen, options = select(offline, TerminalProgress().say, flavor=flavor, spot=spot)
        diagnosis = diagnose(chosen, options, source_ami or None)
        report.print_json(diagnosis.document()) if json else print_diagnosis(report.console(), diagnosis)
    if diagnosis.exit_code:
        raise Exit(code=diagnosis.exit_code)


@task(help={**OFFLINE, **JSON, "ami": "Id of the image."})
def explain(_context: Context, ami: str, offline: bool = False, json: bool = False) -> None:
    """Say what an image is: base, recipe, packages, proofs, and whether its evidence is the one it was sealed with."""
    with errors_as_exit_codes():
        chosen, options = select(offline, TerminalProgress().say)
        found = explain_image(Clients(chosen), options, ami)
        document = explain_report.explanation_document
        report.print_json(document(found)) if json else explain_report.print_explanation(found)


@task(
    help={**OFFLINE, **JSON, "before": "Id of one image.", "after": "Id of the other."},
    positional=["before", "after"],
)
def compare(_context: Context, before: str, after: str, offline: bool = False, json: bool = False) -> None:
    """Show what differs between two images: packages, versions, base, recipe, pins."""
    with errors_as_exit_codes():
        chosen, options = select(offline, TerminalProgress().say)
        found = compare_images(Clients(chosen), options, before, after)
        document = explain_report.comparison_document
        report.print_json(document(found)) if json else explain_report.print_comparison(found)


@task(
    help={
        **OFFLINE,
        **JSON,
        "ami": "Id of the image to prove; without it the newest candidate, else the newest proven one.",
        "type": "Instance type, such as g5.12xlarge.",
        "types": "Several types, such as g4dn.xlarge,g5.xlarge|g5.2xlarge, instead of --type (docs/matrix.md).",
        "limit": "With --types: so many instances at once (4).",
        "cost_ceiling": "With --types: USD that all may cost together.",
        "time_ceiling": "With --types: seconds for each proof (3600).",
        "keep": "Leave the instance running when all is done; `invoke destroy` removes it.",
        "spot": "Launch a spot instance.",
        "zone": "Availability zone to launch in, such as us-east-1a.",
        "tag": "Let the verdict become the image's tag; --no-tag leaves the image as it is.",
    }
)
def test_instance(  # noqa: PLR0917 - each is an option
    _context: Context, offline: bool = False, json: bool = False, ami: str = "",
    type: str = "",  # noqa: A002 - the name of the option
    keep: bool = False, spot: bool = False, zone: str = "", tag: bool = True,
    types: str | None = None, limit: str = "", cost_ceiling: str = "", time_ceiling: str = "",
) -> None:  # fmt: skip
    """Launch a fresh instance from an image and prove that its datapoints arrive; exit code 1 when a check fails."""
    with errors_as_exit_codes():
        progress = TerminalProgress()
        progress.title("test-instance")
        wish = Wish(spot=spot, zone=zone, keep=keep, tag=tag)
        ceilings = {"cost_ceiling_usd": cost_ceiling, "time_ceiling_seconds": time_ceiling}
        policy = matrix_policy.read_if_asked(types, wish, instance_type=type, limit=limit, **ceilings)
        chosen, options = select(offline, progress.say)
        if policy:
            matrix = prove_matrix(chosen, options, progress, policy, ami_id=ami or None)
            report.print_json(matrix.document()) if json else matrix_report.show(matrix, report.console())
            exit_code = matrix.exit_code
        else:
            verdict = prove(chosen, options, progress, ami_id=ami or None, instance_type=type or None, wish=wish)
            report.print_json(report.verdict_document(verdict)) if json else report.print_verdict(verdict)
            exit_code = int(verdict.result != "passed")
    if exit_code:
        raise Exit(code=exit_code)


@task(help={**OFFLINE, **JSON, "run": "Id of one run.", "all": "Every run of this checkout that is over."})
def destroy(_context: Context, offline: bool = False, json: bool = False, run: str = "", all: bool = False) -> None:  # noqa: A002
    """Destroy what runs left: test instances that were kept, and the remains of a run that was killed."""
    with errors_as_exit_codes():
        progress = TerminalProgress()
        progress.title("destroy")
        chosen, options = select(offline, progress.say)
        destroyed = destroy_runs(chosen, options, progress, run or None, everything=all)
        report.print_json(report.destroyed_document(destroyed)) if json else report.print_destroyed(destroyed)


@task(help={**OFFLINE, **JSON, "apply": "Delete it; without this it is only shown.", "run": "Id of one run."})
def reap(_context: Context, offline: bool = False, json: bool = False, apply: bool = False, run: str = "") -> None:
    """Find what killed runs left in the account, from any machine, once it has expired; with --apply delete it."""
    with errors_as_exit_codes():
        chosen, options = select(offline, TerminalProgress().say)
        reaped = reap_region(chosen, options, apply=apply, run_id=run or None)
        report.print_json(reap_report.document(reaped)) if json else reap_report.show(reaped, report.console())
    if reaped.exit_code:
        raise Exit(code=reaped.exit_code)


namespace = Collection(build_ami, plan, doctor, test_instance, explain, compare, destroy, reap)
channel_tasks.add_to(namespace)
offline_tasks.add_to(namespace)
