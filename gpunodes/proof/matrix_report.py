"""What `test-instance --types` prints for people: the verdict first, then a table with a row for each entry."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gpunodes.proof.matrix_verdict import ERROR, FAILED, PASSED, EntryVerdict, Matrix
from gpunodes.report import print_facts

_MARKS = {PASSED: ("✓", "green"), FAILED: ("✗", "red"), ERROR: ("?", "yellow")}
_COLOURS = {PASSED: "green", FAILED: "red", ERROR: "yellow"}
_WIDEST = 1000


def show(matrix: Matrix, out: Console) -> None:
    """Print a matrix."""
    out.print()
    passed = sum(verdict.result == PASSED for verdict in matrix.verdicts)
    out.print(
        Text.assemble(
            (f"{matrix.result}  ", f"bold {_COLOURS[matrix.result]}"),
            (matrix.ami_id, "bold"),
            f"  on {passed} of {len(matrix.verdicts)}",
        )
    )
    _print_whole(_table(matrix), out)
    for verdict in matrix.verdicts:
        if verdict.reason:
            out.print(Text.assemble("  ", _MARKS[verdict.result], f" {verdict.entry}: {verdict.reason}"))
    print_facts(
        out,
        [
            *([("image is now", matrix.state)] if matrix.state else []),
            ("evidence", str(matrix.evidence)),
            ("took", f"{matrix.seconds:.1f} s"),
        ],
    )


def _table(matrix: Matrix) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("", "entry", "type", "zone", "result", "seconds", "run"):
        table.add_column(heading, no_wrap=True, justify="right" if heading == "seconds" else "left")
    for verdict in matrix.verdicts:
        table.add_row(*_cells(verdict))
    return table


def _cells(verdict: EntryVerdict) -> list[Text]:
    sign, colour = _MARKS[verdict.result]
    texts = [
        verdict.entry,
        verdict.instance_type or "-",
        verdict.zone or "-",
        verdict.result,
        f"{verdict.seconds:.1f}",
        verdict.run_id or "-",
    ]
    return [Text(f"  {sign}", colour), *map(Text, texts)]


def _print_whole(table: Table, out: Console) -> None:
    """As wide as it is, not as the terminal: an id that was cut could not be copied."""
    width = out.width
    out.width = max(width, out.measure(table, options=out.options.update(max_width=_WIDEST)).maximum)
    out.print(table)
    out.width = width
