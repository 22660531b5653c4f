"""Invoke's entry: each task parses its options, calls one function of gpunodes, and prints what it returns."""

from __future__ import annotations

import shlex
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from invoke import Collection, Context, Exit, task

from gpunodes import aws, offline_target, report, settings, target
from gpunodes.bake import bake
from gpunodes.destroy import destroy as destroy_runs
from gpunodes.errors import GpunodesError
from gpunodes.progress import TerminalProgress
from gpunodes.proof import prove
from gpunodes.settings import Settings
from gpunodes.target import Target

_OFFLINE = {"offline": "Use the offline cloud of this machine instead of AWS."}
_JSON = {"json": "Print one JSON document on standard output."}


@task(help={**_OFFLINE, **_JSON, "source_ami": "Id of the base image, instead of the target's own."})
def build_ami(_context: Context, offline: bool = False, json: bool = False, source_ami: str = "") -> None:
    """Bake a GPU image with gpumon and the CloudWatch agent; it becomes a candidate."""
    with _errors():
        progress = TerminalProgress()
        progress.title("build-ami")
        chosen, options = _target(offline, progress)
        baked = bake(chosen, options, progress, source_ami or None)
        report.print_json(report.baked_document(baked)) if json else report.print_baked(baked)


@task(
    help={
        **_OFFLINE,
        **_JSON,
        "ami": "Id of the image to prove; without it the newest candidate.",
        "type": "Instance type, such as g5.12xlarge.",
        "keep": "Leave the instance running when all is done; `invoke destroy` removes it.",
    }
)
def test_instance(
    _context: Context,
    offline: bool = False,
    json: bool = False,
    ami: str = "",
    type: str = "",  # noqa: A002 - the name of the option
    keep: bool = False,
) -> None:
    """Launch a fresh instance from an image and prove that its datapoints arrive; exit code 1 when a check fails."""
    with _errors():
        progress = TerminalProgress()
        progress.title("test-instance")
        chosen, options = _target(offline, progress)
        verdict = prove(chosen, options, progress, ami_id=ami or None, instance_type=type or None, keep=keep)
        report.print_json(report.verdict_document(verdict)) if json else report.print_verdict(verdict)
    if verdict.result != "passed":
        raise Exit(code=1)


@task(help={**_OFFLINE, **_JSON, "run": "Id of one run; without it every run of this checkout."})
def destroy(_context: Context, offline: bool = False, json: bool = False, run: str = "") -> None:
    """Destroy what runs left: test instances that were kept, and the remains of a run that was killed."""
    with _errors():
        progress = TerminalProgress()
        progress.title("destroy")
        chosen, options = _target(offline, progress)
        destroyed = destroy_runs(chosen, options, progress, run or None)
        report.print_json(report.destroyed_document(destroyed)) if json else report.print_destroyed(destroyed)


@task
def up(_context: Context) -> None:
    """Start the offline cloud of this machine."""
    with _errors():
        report.print_parts(offline_target.up(TerminalProgress().say), [])


@task
def down(_context: Context) -> None:
    """Stop the offline cloud; nothing but its cache stays."""
    with _errors():
        was_up = offline_target.down()
        report.console().print("  the offline cloud is down" if was_up else "  the offline cloud was not up")


@task
def status(_context: Context) -> None:
    """Show the parts of the offline cloud and its instances."""
    with _errors():
        report.print_parts(*offline_target.status())


@task
def env(_context: Context) -> None:
    """Print shell exports that lead any AWS client to the offline cloud: eval "$(invoke offline.env)"."""
    with _errors():
        variables = offline_target.environment()
        sys.stdout.writelines(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())


def _target(offline: bool, progress: TerminalProgress) -> tuple[Target, Settings]:
    options = settings.load()
    chosen = offline_target.offline_target(progress.say) if offline else target.aws_target(options)
    aws.check_credentials(chosen)
    return chosen, options


@contextmanager
def _errors() -> Iterator[None]:
    """One sentence on standard error and the right exit code, whatever went wrong on purpose."""
    try:
        yield
    except GpunodesError as error:
        raise Exit(f"error: {error}", code=error.exit_code) from error
    except KeyboardInterrupt as error:
        raise Exit("error: Stopped as asked; run `invoke destroy` if anything was begun.", code=130) from error
    except Exception as error:  # exit code 1 means that a check failed, so a defect of ours must not look like one
        traceback.print_exc()
        raise Exit("error: This is a defect of gpunodes; please report it with the lines above.", code=3) from error


namespace = Collection(build_ami, test_instance, destroy)
namespace.add_collection(Collection("offline", up, down, status, env))
