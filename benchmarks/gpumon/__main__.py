"""What gpumon costs on a simulated host with eight GPUs, side by side with its peers: `python -m benchmarks.gpumon`.

One run prints every figure of the table "Speed and memory". Machines differ and are noisy, so judge ratios, which are
taken side by side, before absolute figures. Needs gcc and a package index (for the peers); network: loopback only.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from pathlib import Path

from benchmarks.gpumon import first_datapoint, growth, peers, same_calls, side_by_side, stub
from benchmarks.gpumon.figures import Figure, table
from benchmarks.gpumon.machine import INSTANCE_TYPE, make_machine

SECTIONS = ("cpu", "calls-in-c", "memory", "put-metric-data", "start", "growth")


def main() -> int:
    """Measure and print; exit code 1 if something is missed and `--check` was given."""
    arguments = _parser().parse_args()
    figures: list[Figure] = []
    tables: list[str] = []
    with tempfile.TemporaryDirectory(prefix="benchmark-gpumon-") as directory, stub.serving() as endpoint:
        scratch = Path(directory)
        machine = make_machine(scratch)
        print(f"8 simulated GPUs of {INSTANCE_TYPE}, {os.cpu_count()} cores, Python {platform.python_version()}")
        for section in arguments.only:
            _say(f"{section} ...")
            match section:
                case "cpu":
                    found = peers.install(arguments.venvs or scratch / "venvs", arguments.gcm)
                    figures += side_by_side.measure(
                        machine, make_machine(scratch, name="idle"), endpoint, found, arguments.seconds
                    )
                case "calls-in-c":
                    figures += same_calls.measure(machine)
                case "memory":
                    figures += growth.measure_memory(machine, endpoint)
                case "put-metric-data":
                    figures += growth.measure_calls(machine, endpoint)
                case "start":
                    figures += first_datapoint.measure(machine, endpoint)
                case "growth":
                    more, rows = growth.measure_growth(scratch, endpoint)
                    figures += more
                    tables.append(rows)
        if endpoint.strangers:
            _say(f"unexpected requests: {', '.join(sorted(set(endpoint.strangers)))}")
    print("\n\n".join(["", table(figures), *tables]))
    print(f"\nload average at the end: {' '.join(f'{load:.2f}' for load in os.getloadavg())}")
    is_missed = any(figure.is_met is False for figure in figures)
    return 1 if is_missed and arguments.check else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks.gpumon", description=__doc__)
    parser.add_argument("--seconds", type=float, default=150.0, help="how long gpumon and its peers run side by side")
    parser.add_argument(
        "--only",
        type=_sections,
        default=SECTIONS,
        metavar="SECTION,...",
        help=f"of {', '.join(SECTIONS)} (default: all)",
    )
    parser.add_argument("--check", action="store_true", help="exit with 1 if a figure is missed")
    parser.add_argument(
        "--venvs",
        type=Path,
        metavar="DIRECTORY",
        help="keep the peers' virtual environments here (default: a temporary one)",
    )
    parser.add_argument(
        "--gcm",
        default=peers.GCM,
        metavar="REQUIREMENT",
        help=f"what pip installs for gcm: {peers.GCM}, or a checkout's path",
    )
    return parser


def _sections(text: str) -> tuple[str, ...]:
    chosen = tuple(text.split(","))
    if unknown := set(chosen) - set(SECTIONS):
        raise argparse.ArgumentTypeError(f"choose from {', '.join(SECTIONS)}, not {', '.join(sorted(unknown))}")
    return chosen


def _say(text: str) -> None:
    print(f"{text} (load average {os.getloadavg()[0]:.2f})", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
