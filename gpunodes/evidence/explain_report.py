"""What `explain` and `compare` print: text for people on standard error, or one JSON document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.text import Text

from gpunodes.evidence import evidence
from gpunodes.evidence.compare import Change, Comparison, PackageChange
from gpunodes.evidence.explain import Explanation, InAws
from gpunodes.evidence.image_page import VERSION_TITLES, moment, titled_versions
from gpunodes.evidence.image_record import ImageRecord
from gpunodes.evidence.sbom import Package
from gpunodes.report import console, print_facts

_SHOWN_PACKAGES = 40  # of each kind; more is what --json is for
_DIRECTIONS = {"newer": ("↑", "green"), "older": ("↓", "yellow"), None: ("·", "dim")}
_MARKS = {"passed": ("✓", "green"), "failed": ("✗", "red")}
_TAG_PREFIX = "gpunodes:"


def explanation_document(explanation: Explanation) -> dict[str, Any]:
    """`explain --json`."""
    result = "explained" if explanation.is_ours else "not made by gpunodes"
    return {"result": result, **asdict(explanation)}


def comparison_document(comparison: Comparison) -> dict[str, Any]:
    """`compare --json`."""
    return {"result": "identical" if comparison.is_identical else "different", **asdict(comparison)}


def print_explanation(explanation: Explanation) -> None:
    """What it is first, then what is in it, then what is wrong and what is not known."""
    out = console()
    out.print()
    if not explanation.is_ours:
        _print_foreign(out, explanation)
        return
    state = explanation.state or "not sealed"
    out.print(Text.assemble((f"{state}  ", "bold cyan"), (explanation.ami_id, "bold"), f"  {explanation.name}"))
    record = explanation.record
    facts = _facts_of_record(record) if record else _facts_of_tags(explanation)
    print_facts(out, [("why", explanation.reason), *facts, *_facts_in_aws(explanation.aws)])
    _print_proofs(out, explanation)
    _print_digest(out, explanation)
    for problem in explanation.problems:
        out.print(Text(f"  problem: {problem}", style="red"))
    for note in record.to_know if record else []:
        out.print(Text(f"  note: {note}", style="yellow"))
    for sentence in explanation.not_known:
        out.print(Text(f"  not known: {sentence}", style="yellow"))


def _print_foreign(out: Console, explanation: Explanation) -> None:
    out.print(Text.assemble(("not made by gpunodes  ", "bold yellow"), (explanation.ami_id, "bold")))
    aws = explanation.aws
    print_facts(
        out,
        [
            ("name", explanation.name),
            ("owner", f"{aws.owner_id}, the only account that sees its tags"),
            *_facts_in_aws(aws),
        ],
    )


def _facts_of_record(record: ImageRecord) -> list[tuple[str, str]]:
    recipe, packages = record.recipe, record.packages
    commit = f", commit {recipe.git_commit[:12]}" if recipe.git_commit else ""
    dirty = " with changes that were not committed" if recipe.git_is_dirty else ""
    versions = [(title, value or "not found") for title, value in titled_versions(record.versions)]
    seconds = record.durations.packer_seconds + record.durations.own_seconds
    usd = "unknown" if record.cost.usd is None else f"about {record.cost.usd:.2f} USD"
    return [
        ("baked", f"{moment(record.baked_at)}, run {record.run_id}"),
        ("flavor", record.flavor),
        ("base image", f"{record.base.image_id}  {record.base.name}"),
        ("recipe", f"{recipe.fingerprint[:16]}{commit}{dirty}"),
        *versions,
        ("held", ", ".join(record.held_packages) or "no package"),
        ("packages", f"{packages.count:,} in {packages.file}; gpumon from {len(record.wheels)} wheels"),
        ("sealed", ", ".join(record.seal.done) or "nothing was recorded"),
        ("bake took", f"{seconds:.1f} s, {record.durations.packer_seconds:.1f} s of it in Packer"),
        ("bake cost", f"{usd} ({record.cost.reason})"),
    ]


def _facts_of_tags(explanation: Explanation) -> list[tuple[str, str]]:
    """What the tags alone say: on a machine that does not have the evidence."""
    tags = {key.removeprefix(_TAG_PREFIX): value for key, value in explanation.tags.items() if ":" in key}
    shown = {key: value for key, value in tags.items() if key not in {"state", "evidence-sha256", "reason"}}
    return [(key.replace("-", " "), value) for key, value in sorted(shown.items())]


def _facts_in_aws(aws: InAws) -> list[tuple[str, str]]:
    words = [
        aws.state,
        "public" if aws.is_public else "private",
        "IMDSv2 only" if aws.requires_imdsv2 else "does not itself require IMDSv2",
    ]
    if aws.snapshots:
        words.append("encrypted" if all(snapshot.is_encrypted for snapshot in aws.snapshots) else "not encrypted")
    if aws.deregistration_protection:
        words.append(f"deregistration protection {aws.deregistration_protection}")
    if aws.deprecation_time:
        words.append(f"deprecated from {moment(aws.deprecation_time)}")
    facts = [("in AWS", ", ".join(words)), ("created", moment(aws.creation_date))]
    if aws.last_launched_time:
        facts.append(("last launched", moment(aws.last_launched_time)))
    snapshots = [f"{snapshot.snapshot_id} ({snapshot.size_gib} GiB)" for snapshot in aws.snapshots]
    return [*facts, *([("snapshots", ", ".join(snapshots))] if snapshots else [])]


def _print_proofs(out: Console, explanation: Explanation) -> None:
    if explanation.proofs:
        out.print(Text.assemble(("  proofs            ", "dim"), evidence.standing(explanation.proofs).text))
    for proof in reversed(explanation.proofs):
        failed = f": {', '.join(proof.failed_checks)}" if proof.failed_checks else ""
        words = f" {proof.result} on {proof.instance_type}, {moment(proof.proved_at)}, run {proof.run_id}{failed}"
        out.print(Text.assemble("    ", _MARKS.get(proof.result, _MARKS["failed"]), words))


def _print_digest(out: Console, explanation: Explanation) -> None:
    mark = {"matches": ("✓ ", "green"), "differs": ("✗ ", "red")}.get(explanation.digest.outcome, "")
    out.print(Text.assemble(("  digest            ", "dim"), mark, explanation.digest.text))
    if explanation.evidence:
        print_facts(out, [("evidence", str(explanation.evidence))])


def print_comparison(comparison: Comparison) -> None:
    """The summary first, then each group that differs."""
    out = console()
    out.print()
    verdict = ("identical  ", "bold green") if comparison.is_identical else ("different  ", "bold cyan")
    out.print(Text.assemble(verdict, (comparison.first, "bold"), " → ", (comparison.second, "bold")))
    out.print(f"  {comparison.summary}", markup=False)
    for title, changes in (
        ("base image", comparison.base),
        ("recipe", comparison.recipe),
        ("checkout", comparison.checkout),
        ("pins", comparison.pins),
        ("versions", comparison.versions),
        ("wheels", comparison.wheels),
    ):
        _print_changes(out, title, changes)
    _print_changed_packages(out, comparison.packages.changed)
    _print_packages(out, "packages added", ("+", "green"), comparison.packages.added)
    _print_packages(out, "packages removed", ("-", "red"), comparison.packages.removed)
    for note in comparison.notes:
        out.print(Text(f"  note: {note}", style="yellow"))


def _print_changes(out: Console, title: str, changes: Sequence[Change]) -> None:
    if changes:
        out.print(Text(f"  {title}", style="bold"))
    for change in changes:
        name = VERSION_TITLES.get(change.name, change.name.replace("_", " "))
        out.print(Text.assemble((f"    {name:<24}", "dim"), f"{change.before or 'none'} → {change.after or 'none'}"))


def _print_changed_packages(out: Console, changes: Sequence[PackageChange]) -> None:
    if not changes:
        return
    out.print(Text(f"  packages changed ({len(changes):,})", style="bold"))
    shown = changes[:_SHOWN_PACKAGES]
    width = max(len(change.name) for change in shown)
    for change in shown:
        versions = f" {change.name:<{width}}  {change.before} → {change.after}"
        out.print(Text.assemble("    ", _DIRECTIONS[change.direction], versions))
    _print_rest(out, len(changes))


def _print_packages(out: Console, title: str, mark: tuple[str, str], packages: Sequence[Package]) -> None:
    if not packages:
        return
    out.print(Text(f"  {title} ({len(packages):,})", style="bold"))
    shown = packages[:_SHOWN_PACKAGES]
    width = max(len(package.name) for package in shown)
    for package in shown:
        out.print(Text.assemble("    ", mark, f" {package.name:<{width}}  {package.version}"))
    _print_rest(out, len(packages))


def _print_rest(out: Console, count: int) -> None:
    if count > _SHOWN_PACKAGES:
        out.print(Text(f"    and {count - _SHOWN_PACKAGES:,} more; --json has all of them", style="dim"))
