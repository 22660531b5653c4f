"""Whether the model would notice: `python -m benchmarks.lifecycle_mutants [SEQUENCES]`.

Each mutant is gpunodes with one thought left out, in a copy of this checkout. Printed is how many sequences it survived
before an invariant fell.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

_CHECKOUT = Path(__file__).parents[1]
_COPIED = ("gpunodes", "localaws", "tests", "packer", "pyproject.toml")
_TEST = "tests/gpunodes/lifecycle/test_lifecycle_model.py"


@dataclass(frozen=True)
class Mutant:
    """One thought left out.

    Attributes:
        name: what it does not do.
        file: where, below gpunodes.
        before: text that stands there once.
        after: what stands there instead.
    """

    name: str
    file: str
    before: str
    after: str


MUTANTS = (
    Mutant(
        "prune ignores stopped instances",
        "prune/compute_references.py",
        "                    yield Reference(instance[",
        '                    if instance["State"]["Name"] == "stopped":\n                        continue\n'
        "                    yield Reference(instance[",
    ),
    Mutant(
        "prune ignores the history of parameters",
        "prune/parameter_references.py",
        "    for name in _with_history(clients):",
        "    for name in _with_history(clients)[:0]:",
    ),
    Mutant(
        "prune ignores all but the newest version of a launch template",
        "prune/compute_references.py",
        "    found = list(_versions(clients))",
        "    found = list(_versions(clients))[-1:]",
    ),
    Mutant(
        "prune goes on where a source did not answer",
        "prune/prune_plan.py",
        "        if not account.references.are_complete:",
        "        if False:",
    ),
    Mutant(
        "prune keeps no way back",
        "prune/prune_plan.py",
        '            return f"the way back of channel {channel}"',
        "            pass",
    ),
    Mutant(
        "prune forgets with whom an image is shared",
        "prune/prune.py",
        "(shared := last_look.accounts(clients, ami_id))",
        "(shared := [])",
    ),
    Mutant(
        "promote takes an image that is not proven",
        "channel/promotable.py",
        "    if state != STATE_PROVEN:",
        "    if False:",
    ),
    Mutant(
        "promote does not lock",
        "channel/promote.py",
        "    locked = [] if held_lock else [",
        "    locked = [] if True else [",
    ),
    Mutant(
        "the lock has no condition",
        "channel/channel_lock.py",
        '        return int(answer["Version"]) == state.version + 1',
        "        return True",
    ),
    Mutant(
        "an expired lock is never taken over",
        "channel/channel_lock.py",
        "        elif state.expires_at <= self.clock():",
        "        elif False:",
    ),
    Mutant(
        "rollback forgets to enable",
        "channel/revive.py",
        "        if was_disabled:",
        "        if False:",
    ),
    Mutant(
        "rollback takes an image that failed",
        "channel/rollback.py",
        " if ami_id in images and ami_id not in failed)",
        " if ami_id in images)",
    ),
    Mutant(
        "refresh decides only once, without the lock",
        "refresh/refresh.py",
        "        planned = decide()\n        progress.say",
        "        progress.say",
    ),
    Mutant(
        "refresh bakes although a candidate waits",
        "refresh/decide.py",
        "    if begun and begun.state == STATE_CANDIDATE:",
        "    if False:",
    ),
    Mutant(
        "refresh promotes what failed its proof",
        "refresh/refresh.py",
        "        if not proof.has_passed:",
        "        if False:",
    ),
    Mutant(
        "refresh does not extend its lock",
        "refresh/refresh.py",
        "    lock.extend(LIFE)",
        "    pass",
    ),
    Mutant(
        "reap leaves images whose bake did not end",
        "cleanup/reap.py",
        "            if resource.is_sealed:",
        '            if resource.is_sealed or resource.kind == "image":',
    ),
)


def main() -> int:
    """Exit code 1 where a mutant survived all sequences."""
    sequences = sys.argv[1] if len(sys.argv) > 1 else "200"
    survivors = 0
    for mutant in MUTANTS:
        survived, has_fallen = _survived(mutant, sequences)
        survivors += not has_fallen
        print(f"{survived:>6} {'fell' if has_fallen else 'SURVIVED':<9} {mutant.name}", flush=True)
    return 1 if survivors else 0


def _survived(mutant: Mutant, sequences: str) -> tuple[int, bool]:
    with tempfile.TemporaryDirectory() as folder:
        for name in _COPIED:
            source, copy = _CHECKOUT / name, Path(folder, name)
            shutil.copytree(source, copy) if source.is_dir() else shutil.copy(source, copy)
        _mutate(Path(folder, "gpunodes", mutant.file), mutant)
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "-x",
                "-p",
                "no:cacheprovider",
                "--hypothesis-show-statistics",
                _TEST,
            ],
            cwd=folder,
            env={**os.environ, "GPUNODES_SEQUENCES": sequences, "GPUNODES_SHRINK": "0"},
            capture_output=True,
            text=True,
            check=False,
        )
    passing = re.search(r"(\d+) passing", done.stdout)
    if passing is None:
        raise SystemExit(f"{mutant.name}: the model did not run\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return int(passing[1]), done.returncode != 0


def _mutate(path: Path, mutant: Mutant) -> None:
    text = path.read_text()
    if mutant.before not in text:
        raise SystemExit(f"{mutant.name}: what it changes does not stand in {mutant.file} any more")
    path.write_text(text.replace(mutant.before, mutant.after))


if __name__ == "__main__":
    sys.exit(main())
