"""The page of a proof: one HTML file that needs nothing else, made from the proof's document."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from gpunodes.evidence import image_page
from gpunodes.proof_report import evidence_view, metric_plots, plots, quantities
from gpunodes.proof_report.figure import Figure
from gpunodes.proof_report.proof_document import CheckEntry, ProofDocument, read, writable

_TEMPLATE = "proof_page.html.j2"
_FOLDERS = (Path(__file__).parent, Path(image_page.__file__).parent)  # the second for the style that pages share
_GROUP_TITLES = {
    "image": "Image",
    "boot": "Boot",
    "services": "Services",
    "gpus": "GPUs",
    "memory": "GPU memory",
    "datapoints": "Datapoints",
}
_OUTCOME_WORDS = {"passed": "passed", "failed": "failed", "unanswered": "not answered"}
_FAILED_FIRST = {"failed": 0, "unanswered": 1, "passed": 2}


def page(document: Mapping[str, Any]) -> str:
    """The page's HTML.

    Args:
        document: of a proof, as `proof.json` has it; only `checks` with id, name, outcome and reason need be there.

    Raises:
        UsageError: a field is of another type than the schema says.
    """
    proof = read(document)
    figures = metric_plots.figures(proof)
    html = _template().render(
        proof=proof,
        verdict=_verdict(proof),
        groups=_groups(proof.checks),
        headlines=_headlines(proof, len(figures.legend)),
        figures=figures,
        moving=_by_namespace([figure for figure in figures.metrics if figure.moves]),
        still=_by_namespace([figure for figure in figures.metrics if not figure.moves]),
        styles=range(plots.STYLES),
        longest=max((timing.seconds for timing in proof.timings), default=0.0),
    )
    return writable(html)


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDERS),
        autoescape=True,  # reasons and evidence come from the instance
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "clock": evidence_view.clock,
        "duration": quantities.duration,
        "shape": evidence_view.shape,
        "outcome": _OUTCOME_WORDS.__getitem__,
    }
    return environment.get_template(_TEMPLATE)


def _verdict(proof: ProofDocument) -> tuple[str, str]:
    """The word, and the mark that colours it."""
    if proof.passed:
        return "Passed", "passed"
    return ("Failed", "failed") if proof.result == "failed" else ("No verdict", "unproven")


def _groups(checks: Sequence[CheckEntry]) -> list[tuple[str, list[tuple[int, CheckEntry]]]]:
    """The checks with their number on the page, by group in the order in which they came; failed ones first in each."""
    groups: dict[str, list[tuple[int, CheckEntry]]] = {}
    for number, check in enumerate(checks, 1):
        groups.setdefault(check.group, []).append((number, check))
    return [
        (
            _GROUP_TITLES.get(name, name.replace("_", " ").capitalize() or "Checks"),
            sorted(group, key=lambda numbered: _FAILED_FIRST[numbered[1].outcome]),
        )
        for name, group in groups.items()
    ]


def _headlines(proof: ProofDocument, gpus: int) -> list[tuple[str, str]]:
    """The figures that people ask for first; what is not known is left out."""
    counts = {outcome: len(proof.with_outcome(outcome)) for outcome in _OUTCOME_WORDS}
    rows = [("checks passed", f"{counts['passed']} of {len(proof.checks)}"), ("failed", str(counts["failed"]))]
    if counts["unanswered"]:
        rows.append(("not answered", str(counts["unanswered"])))
    if gpus:
        rows.append(("GPUs", str(gpus)))
    if proof.seconds is not None:
        rows.append(("took", quantities.duration(proof.seconds)))
    if proof.cost.usd is not None:
        rows.append(("cost", f"{proof.cost.usd:.2f} USD"))
    return rows


def _by_namespace(figures: Sequence[Figure]) -> dict[str, list[Figure]]:
    names = dict.fromkeys(figure.namespace for figure in figures)
    return {name: [figure for figure in figures if figure.namespace == name] for name in names}
