"""What scripts/demo runs: one image baked and proven offline, and a summary at the end."""

from __future__ import annotations

import argparse
import signal
import sys
import time
import traceback

from rich.console import Console
from rich.text import Text

from gpunodes import offline_target, report
from gpunodes.bake.bake import Baked, bake
from gpunodes.errors import GpunodesError
from gpunodes.operation.progress import TerminalProgress
from gpunodes.operation.steps import Timing
from gpunodes.proof.proof import Verdict, prove
from gpunodes.settings import load

_BAR_WIDTH = 24


def main() -> int:
    """Run the demo; returns its exit code."""
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__)
    parser.add_argument("--set-up-seconds", type=float, default=0.0, help="what scripts/bootstrap took")
    set_up_seconds = parser.parse_args().set_up_seconds
    progress = TerminalProgress()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what was started is taken down
    try:
        return _run(progress, set_up_seconds)
    except GpunodesError as error:
        progress.say(f"error: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        progress.say("error: Stopped as asked.")
        return 130
    except Exception:  # noqa: BLE001 - exit code 1 means that a check failed, so a defect must not look like one
        traceback.print_exc()
        return GpunodesError.exit_code


def _run(progress: TerminalProgress, set_up_seconds: float) -> int:
    settings = load()
    begin = time.monotonic()
    progress.title("the offline cloud")
    target = offline_target.offline_target(progress.say)
    timings = [
        Timing("set up this checkout", set_up_seconds),
        Timing("start the offline cloud", time.monotonic() - begin),
    ]
    try:
        progress.title("build-ami")
        baked = bake(target, settings, progress)
        progress.title("test-instance")
        verdict = prove(target, settings, progress, ami_id=baked.ami_id)
    finally:
        if target.was_started:
            offline_target.down()
    _print_summary(baked, verdict, timings + baked.timings + verdict.timings)
    return 0 if verdict.result == "passed" else 1


def _print_summary(baked: Baked, verdict: Verdict, timings: list[Timing]) -> None:
    out = report.console()
    passed = verdict.result == "passed"
    total = sum(timing.seconds for timing in timings)
    headline = "The image proved itself" if passed else "The image failed its proof"
    out.print()
    out.print(
        Text.assemble((f"{headline} in {total:.0f} s, without an AWS account.", "bold green" if passed else "bold red"))
    )
    out.print()
    report.print_facts(
        out,
        [
            ("image", f"{baked.ami_id}  {baked.name}"),
            ("baked from", baked.source_ami),
            ("proven on", f"{verdict.instance_id}  {verdict.instance_type}, destroyed"),
            ("evidence", str(baked.evidence)),
        ],
    )
    out.print()
    report.print_checks(out, verdict.checks)
    out.print()
    _print_timings(out, timings)
    out.print()
    out.print("Next, look inside: `. .venv/bin/activate`, then `invoke --list`; README.md says more.")


def _print_timings(out: Console, timings: list[Timing]) -> None:
    """The steps that took a second or more, each with a bar; the others in one line."""
    longest = max(timing.seconds for timing in timings)
    short = 0.0
    for timing in timings:
        if timing.seconds < 1:
            short += timing.seconds
            continue
        bar = "█" * max(1, round(timing.seconds / longest * _BAR_WIDTH))
        out.print(Text.assemble(f"  {timing.name:<46}", (f"{timing.seconds:6.1f} s  ", "dim"), (bar, "cyan")))
    out.print(Text.assemble(f"  {'all shorter steps':<46}", (f"{short:6.1f} s", "dim")))


if __name__ == "__main__":
    sys.exit(main())
