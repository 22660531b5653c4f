"""The command line: ``gpumon run | once | check | show-config | release | resume``."""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from gpumon import __version__, control, logs
from gpumon.clock import SystemClock
from gpumon.errors import DriverUnavailableError, GpumonError, SettingsError
from gpumon.settings import SYSTEM_FILE, LoadedSettings, load_settings
from gpumon.signals import Requests, watch_signals
from gpumon.systemd import Notifier

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_EPILOG = """exit codes: 0 done (check: healthy); 1 an error (check: degraded); 2 wrong usage or settings (check:
broken); 3 no NVIDIA driver answers; 4 the driver's library must be loaded anew (systemd restarts run)"""
WEDGED_FACTOR = 2  # opening the driver, too, may take half a minute
BROKEN = 2  # exit code of check

log = logging.getLogger("gpumon.main")  # __name__ is "__main__" under `python -m gpumon`, whose messages nobody sees


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    arguments = _parser().parse_args(argv)
    logs.configure("warning", sys.stderr, os.environ)
    try:
        environment = dict(os.environ)
        loaded = _load(arguments, environment)
        if arguments.command == "run":
            return _run(loaded, arguments, environment)
        if arguments.command not in {"release", "resume"}:
            _end_if_wedged(loaded, arguments)
        commands = {
            "once": _once,
            "check": _check,
            "show-config": _show_config,
            "release": _control,
            "resume": _control,
        }
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
    words = "print the effective settings, where each comes from, and what they cost"
    commands.add_parser("show-config", parents=[common], help=words)
    words = "make the service let go of the driver, for a driver update or a change of MIG mode"
    commands.add_parser("release", parents=[common], help=words)
    commands.add_parser("resume", parents=[common], help="let the service take the driver back")
    return parser


def _load(arguments: argparse.Namespace, environment: Mapping[str, str]) -> LoadedSettings:
    """Load the settings from the environment as it was at the start, and let boto3 know what concerns it."""
    loaded = load_settings(environment, arguments.config)
    os.environ.update(loaded.settings.aws_environment())
    return loaded


def _run(loaded: LoadedSettings, arguments: argparse.Namespace, environment: Mapping[str, str]) -> int:
    # Only the service needs all its parts.
    from gpumon.assembly import Assembly  # noqa: PLC0415
    from gpumon.service import Ending  # noqa: PLC0415

    logs.configure(loaded.settings.log_level, sys.stderr, os.environ)
    requests = Requests()
    watch_signals(requests)
    assembly = Assembly(loaded.settings, requests, Notifier.from_environment(os.environ), SystemClock())
    latest = [loaded]

    def reload() -> bool:
        try:
            new = _load(arguments, environment)
            assembly.check(new.settings)
            latest[0] = new
        except SettingsError as error:
            log.error("the settings stay as they are: %s", error)  # noqa: TRY400 - the user's mistake, not ours
            return False
        logs.set_level(latest[0].settings.log_level)
        return True

    try:
        while assembly.run(latest[0].settings, reload) is Ending.RELOAD:
            log.info("going on with new settings")
    finally:
        assembly.close()
    return 0


def _end_if_wedged(loaded: LoadedSettings, arguments: argparse.Namespace) -> None:
    """Let nobody wait for a call into the driver that does not come back; such a call lets no signal handler run."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    limit_seconds = WEDGED_FACTOR * loaded.settings.wedged_seconds
    exit_code = BROKEN if arguments.command == "check" else DriverUnavailableError.exit_code

    def end() -> None:
        sys.stderr.write(
            "gpumon: Look for NVRM lines in the kernel log, and reboot the host: a call into the NVIDIA driver has not"
            f" come back for {limit_seconds:g} s.\n"
        )
        sys.stderr.flush()
        os._exit(exit_code)

    watch = threading.Timer(limit_seconds, end)
    watch.daemon = True
    watch.start()


def _once(loaded: LoadedSettings, arguments: argparse.Namespace) -> int:
    from gpumon import inspection  # noqa: PLC0415 - see _run

    columns = shutil.get_terminal_size().columns
    _print(inspection.once(loaded.settings, columns, as_json=arguments.json))
    return 0


def _check(loaded: LoadedSettings, arguments: argparse.Namespace) -> int:
    from gpumon import check, inspection  # noqa: PLC0415 - see _run

    findings = inspection.findings(loaded.settings)
    _print(check.as_json(findings) if arguments.json else check.as_text(findings))
    return int(check.verdict(findings))


def _show_config(loaded: LoadedSettings, _arguments: argparse.Namespace) -> int:
    from gpumon import inspection  # noqa: PLC0415 - see _run

    _print(inspection.configuration(loaded))
    return 0


def _control(loaded: LoadedSettings, arguments: argparse.Namespace) -> int:
    directory = Path(loaded.settings.runtime_directory or control.DEFAULT_DIRECTORY)
    command = control.release if arguments.command == "release" else control.resume
    outcome = command(directory, SystemClock(), control.process_exists)
    _print(f"{outcome.message}\n")
    return outcome.exit_code


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


if __name__ == "__main__":
    sys.exit(main())
