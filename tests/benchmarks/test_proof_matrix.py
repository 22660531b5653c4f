from __future__ import annotations

import json
from pathlib import Path
from unittest.mock import MagicMock

from benchmarks import proof_matrix
from benchmarks.proof_matrix import where_time_goes
from gpunodes.proof import proof


def test_every_second_of_a_proof_is_spent_on_something(tmp_path: Path) -> None:
    names = [
        "launch with Terraform",
        "connect by SSH",
        "see the memory fall",
        "look at GPUs",
        "clean up: launch with Terraform",
    ]
    timings = [{"name": name, "seconds": float(2**number), "phases": []} for number, name in enumerate(names)]
    document = tmp_path / "proof.json"
    document.write_text(json.dumps({"timings": timings}))

    spent = where_time_goes(document)

    assert list(spent.items()) == [
        ("Terraform", 17.0),
        ("boot and SSH", 2.0),
        ("waiting for the minute", 4.0),
        ("load, checks and the rest", 8.0),
    ]


def test_steps_are_called_as_the_proof_calls_them() -> None:
    steps = {step.name for step in proof._steps(MagicMock())}

    assert {name.removeprefix("clean up: ") for name in proof_matrix._ROOM} <= steps
