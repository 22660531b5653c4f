"""What a matrix of instance types costs beside one type, and where the time goes: `python -m benchmarks.proof_matrix`.

As root, on the offline cloud, everything in one go: one image, one type alone, then all types in one run. What
counts is the ratio; absolute seconds depend on the machine.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from gpunodes import offline_target
from gpunodes.bake.bake import bake
from gpunodes.errors import GpunodesError
from gpunodes.operation.progress import TerminalProgress
from gpunodes.proof import matrix_policy
from gpunodes.proof.matrix import prove_matrix
from gpunodes.proof.proof import prove
from gpunodes.settings import Settings, load
from gpunodes.target import Target

TYPES = "g4dn.xlarge,g5.xlarge,g5.12xlarge,g6.xlarge"
MOST_TIMES_ONE = 2.0
MOST_SECONDS = 120.0

_TERRAFORM, _BOOT, _MINUTE, _CHECKS = "Terraform", "boot and SSH", "waiting for the minute", "load, checks and the rest"
_ROOM = {
    "launch with Terraform": _TERRAFORM,
    "clean up: launch with Terraform": _TERRAFORM,
    "connect by SSH": _BOOT,
    "reboot and look again": _BOOT,
    "wait for first datapoints": _MINUTE,
    "see the memory fall": _MINUTE,
}


def main() -> int:
    """Measure and print; exit code 0 whatever the figures are, 1 where a proof did not pass."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--types", default=TYPES, help=f"the matrix, as `test-instance --types` takes it ({TYPES})")
    types = parser.parse_args().types
    progress = TerminalProgress()
    if offline_target.is_up():
        progress.say("error: The offline cloud is up; take it down first with `invoke offline.down`.")
        return 2
    try:
        return _measure(offline_target.offline_target(progress.say), load(), progress, types)
    except GpunodesError as error:
        progress.say(f"error: {error}")
        return error.exit_code
    finally:
        offline_target.down()


def _measure(target: Target, settings: Settings, progress: TerminalProgress, types: str) -> int:
    ami_id = bake(target, settings, progress).ami_id
    policy = matrix_policy.read(types)
    begin = time.monotonic()
    alone = prove(target, settings, progress, ami_id=ami_id, instance_type=policy.entries[0].types[0])
    one_seconds = time.monotonic() - begin
    matrix = prove_matrix(target, settings, progress, policy, ami_id=ami_id)
    columns = {f"{alone.instance_type} alone": where_time_goes(alone.evidence)}
    for verdict in matrix.verdicts:
        if verdict.evidence:
            columns[f"{verdict.instance_type} of {len(policy.entries)}"] = where_time_goes(verdict.evidence)
    _print(columns)
    ratio = matrix.seconds / one_seconds
    print(f"\none type       {one_seconds:6.1f} s  <= {MOST_SECONDS:g} s: {_met(one_seconds <= MOST_SECONDS)}")
    print(
        f"{len(policy.entries)} types        {matrix.seconds:6.1f} s  {ratio:.2f} x one type,"
        f" <= {MOST_TIMES_ONE:g}: {_met(ratio <= MOST_TIMES_ONE)}"
    )
    print(f"verdicts       {alone.result}, {matrix.result}")
    return int({alone.result, matrix.result} != {"passed"})


def where_time_goes(proof: Path) -> dict[str, float]:
    """Seconds of a proof by what they were spent on, in the order of first use.

    Args:
        proof: the JSON document that it wrote.
    """
    seconds = dict.fromkeys((_TERRAFORM, _BOOT, _MINUTE, _CHECKS), 0.0)
    for timing in json.loads(proof.read_text())["timings"]:
        seconds[_ROOM.get(timing["name"], _CHECKS)] += timing["seconds"]
    return seconds


def _print(columns: Mapping[str, Mapping[str, float]]) -> None:
    rooms = list(next(iter(columns.values())))
    print(f"\n{'seconds':<22}" + "".join(f"{room:>28}" for room in rooms))
    for name, seconds in columns.items():
        print(f"{name:<22}" + "".join(f"{seconds[room]:>28.1f}" for room in rooms))


def _met(is_met: bool) -> str:
    return "met" if is_met else "NOT MET"


if __name__ == "__main__":
    sys.exit(main())
