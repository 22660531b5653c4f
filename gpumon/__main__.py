"""The command line: ``gpumon run | once | check | show-config``."""

from __future__ import annotations

import argparse
import functools
import os
import random
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from gpumon import __version__, check, logs, table
from gpumon.clock import SystemClock
from gpumon.errors import GpumonError
from gpumon.identity import fetch_identity
from gpumon.metrics import load_metrics
from gpumon.publisher import Publisher
from gpumon.readers.nvml import NvmlReader
from gpumon.service import Service
from gpumon.settings import SYSTEM_FILE, LoadedSettings, Settings, load_settings
from gpumon.signals import stop_on_signals
from gpumon.sinks.cloudwatch import CloudWatchSink
from gpumon.spool import MemorySpool
from gpumon.systemd import Notifier
from gpumon.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gpumon.identity import InstanceIdentity

_EPILOG = """exit codes: 0 done (check: healthy); 1 an error (check: degraded); 2 wrong usage or settings (check:
broken); 3 no NVIDIA driver answers; 4 the driver's library must be loaded anew (systemd restarts run)"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    arguments = _parser().parse_args(argv)
    logs.configure("warning", sys.stderr, os.environ)
    try:
        loaded = load_settings(os.environ, arguments.config)
        commands = {"run": _run, "once": _once, "check": _check, "show-config": _show_config}
        return commands[arguments.command](loaded, arguments)
    except GpumonError as error:
        sys.stderr.write(f"gpumon: {error}\n")
        return error.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("gpumon", description=__doc__, epilog=_EPILOG)
    parser.add_argument("--version", action="version", version=f"gpumon {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--config", type=Path, metavar="FILE", help=f"settings file (default: {SYSTEM_FILE}, if it exists)"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run", parents=[common], help="sample and publish until SIGTERM (the service)")
    for name, words in (
        ("once", "show one reading of every GPU"),
        ("check", "say whether this host is healthy, degraded or broken"),
    ):
        command = commands.add_parser(name, parents=[common], help=words)
        command.add_argument("--json", action="store_true", help="print one JSON document")
    commands.add_parser("show-config", parents=[common], help="print the effective settings and where each comes from")
    return parser


def _run(loaded: LoadedSettings, _arguments: argparse.Namespace) -> int:
    settings = loaded.settings
    logs.configure(settings.log_level, sys.stderr, os.environ)
    stop = threading.Event()
    stop_on_signals(stop)
    clock = SystemClock()
    sink = CloudWatchSink(settings.namespace, settings.region, _identity_source(settings))
    service = Service(
        reader=NvmlReader(),
        window=Window(load_metrics(), settings.publish_seconds),
        outbox=Publisher(sink, MemorySpool(settings.queue_periods), clock),
        notifier=Notifier.from_environment(os.environ),
        clock=clock,
        stop=stop,
        settings=settings,
        phase_seconds=random.SystemRandom().uniform(0, settings.publish_phase_seconds),
    )
    service.run()
    return 0


def _once(_loaded: LoadedSettings, arguments: argparse.Namespace) -> int:
    reader = NvmlReader()
    try:
        samples = reader.read()
    finally:
        reader.close()
    show = table.as_json if arguments.json else table.as_table
    _print(show(samples, load_metrics()))
    return 0


def _check(loaded: LoadedSettings, arguments: argparse.Namespace) -> int:
    from gpumon.aws import credentials_source  # noqa: PLC0415 - boto3 is slow to import, and only this command needs it here

    settings = loaded.settings
    findings = check.run_checks(
        NvmlReader(), load_metrics(), _identity_source(settings), credentials_source, settings.region
    )
    _print(check.as_json(findings) if arguments.json else check.as_text(findings))
    return int(check.verdict(findings))


def _show_config(loaded: LoadedSettings, _arguments: argparse.Namespace) -> int:
    _print(loaded.as_toml())
    return 0


def _print(text: str) -> None:
    """Write to standard output; a reader that has seen enough (``| head -1``) is no error."""
    if sys.stdout is None:
        raise GpumonError("Open standard output: it is closed, so there is nowhere to show the answer.")
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        # What is left in the buffer goes nowhere; Python would complain about it once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise GpumonError(f"Let standard output go where it can be written: {error}.") from error


def _identity_source(settings: Settings) -> Callable[[], InstanceIdentity]:
    return functools.partial(fetch_identity, settings.metadata_endpoint)


if __name__ == "__main__":
    sys.exit(main())
