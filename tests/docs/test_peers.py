"""docs/gpumon-and-its-peers.md: each row of its comparison names the tests that prove it, and they exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "gpumon-and-its-peers.md"
NODE_ID = re.compile(r"tests/[\w/]+\.py::\w+")
SECTIONS = {"Row by row": 24, "Ten behaviours": 10}  # and how many rows each has


def tables() -> dict[str, list[list[str]]]:
    """Return the cells of every table with a column "proof", header first, by the title of its section."""
    found = {}
    for section in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        title, _, text = section.partition("\n")
        lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
        header, *rows = ([cell.strip() for cell in cells] for cells in lines if not set("".join(cells)) <= set("- "))
        if header[-1] == "proof":
            found[title] = [header, *rows]
    return found


ROWS = [row for header, *rows in tables().values() for row in rows]


@cache
def names_in(path: str) -> set[str]:
    """Return the names of the test functions in a file of the repository; none where it does not exist."""
    file = ROOT / path
    if not file.is_file():
        return set()
    nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_the_page_has_the_whole_comparison() -> None:
    assert {title: len(rows) for title, (_, *rows) in tables().items()} == SECTIONS


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_claim_is_proved_by_tests_that_exist(row: list[str]) -> None:
    proofs = NODE_ID.findall(row[-1])

    assert proofs
    assert "<br>".join(f"`{proof}`" for proof in proofs) == row[-1]
    assert [proof for proof in proofs if proof.partition("::")[2] not in names_in(proof.partition("::")[0])] == []


def test_every_row_has_a_cell_for_every_column() -> None:
    widths = {title: {len(row) for row in rows} for title, rows in tables().items()}

    assert {title: len(found) for title, found in widths.items()} == dict.fromkeys(SECTIONS, 1)


def test_no_cell_is_empty() -> None:
    assert [row[0] for row in ROWS if "" in row] == []
