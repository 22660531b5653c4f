from __future__ import annotations

import json

import pytest

from gpunodes.proof.terraform_output import Diagnostic, TerraformOutput, readable

PROVIDER_CRASHED = """
╷
│ Error: Plugin did not respond
│
│   with module.instance.aws_instance.gpu,
│   on ../../modules/monitored-gpu/main.tf line 65, in resource "aws_instance" "gpu":
│   65: resource "aws_instance" "gpu" {
│
│ The plugin encountered an error, and failed to respond to the
│ plugin6.(*GRPCProvider).ApplyResourceChange call. The plugin logs may contain
│ more details.
╵
"""
NO_REGISTRY = """Initializing the backend...
Initializing provider plugins...
- Finding hashicorp/aws versions matching ">= 5.100.0, < 7.0.0"...
╷
│ Error: Failed to query available provider packages
│
│ Could not retrieve the list of available versions for provider
│ hashicorp/aws: could not connect to registry.terraform.io: failed to
│ request discovery document: Get
│ "https://registry.terraform.io/.well-known/terraform.json": context
│ deadline exceeded (Client.Timeout exceeded while awaiting headers)
╵
"""


def message(kind: str, text: str, **more: object) -> str:
    """A line of `terraform -json`."""
    return json.dumps(
        {
            "@level": "info",
            "@message": text,
            "@module": "terraform.ui",
            "@timestamp": "2026-11-22T15:34:08.969413+01:00",
            "type": kind,
            **more,
        }
    )


def diagnostic(severity: str, summary: str, detail: str = "", **more: str) -> str:
    facts = {"severity": severity, "summary": summary, "detail": detail, **more}
    return message("diagnostic", f"{severity.capitalize()}: {summary}", diagnostic=facts)


def read(*lines: str) -> tuple[list[Diagnostic], list[str]]:
    steps: list[str] = []
    output = TerraformOutput(steps.append)
    for line in lines:
        output.take(line)
    return output.errors, steps


def test_progress_is_told_and_plans_are_not() -> None:
    errors, steps = read(
        message("version", "Terraform 1.11.4"),
        message("planned_change", "aws_instance.gpu: Plan to create"),
        message("apply_start", "aws_instance.gpu: Creating..."),
        message("apply_progress", "aws_instance.gpu: Still creating... [10s elapsed]"),
        message("apply_complete", "aws_instance.gpu: Creation complete after 11s [id=i-1]"),
        message("change_summary", "Apply complete! Resources: 1 added, 0 changed, 0 destroyed."),
    )

    assert errors == []
    assert steps == [
        "aws_instance.gpu: Creating...",
        "aws_instance.gpu: Still creating...",
        "aws_instance.gpu: Creation complete after 11s",
    ]


def test_errors_are_kept_in_their_order_and_warnings_are_not() -> None:
    errors, _ = read(
        diagnostic("warning", "Deprecated flag"),
        diagnostic("error", "first", address="aws_instance.gpu"),
        diagnostic("error", "second", "and why"),
    )

    assert errors == [Diagnostic("first", "", "aws_instance.gpu"), Diagnostic("second", "and why")]


@pytest.mark.parametrize(
    ("box", "error"),
    [
        (
            PROVIDER_CRASHED,
            Diagnostic(
                "Plugin did not respond",
                "The plugin encountered an error, and failed to respond to the plugin6.(*GRPCProvider)"
                ".ApplyResourceChange call. The plugin logs may contain more details.",
                "module.instance.aws_instance.gpu",
            ),
        ),
        (
            NO_REGISTRY,
            Diagnostic(
                "Failed to query available provider packages",
                "Could not retrieve the list of available versions for provider hashicorp/aws: could not connect to"
                " registry.terraform.io: failed to request discovery document: Get"
                ' "https://registry.terraform.io/.well-known/terraform.json": context deadline exceeded'
                " (Client.Timeout exceeded while awaiting headers)",
            ),
        ),
    ],
)
def test_a_box_for_people_is_read_as_one_error(box: str, error: Diagnostic) -> None:
    assert read(*box.splitlines())[0] == [error]


def test_two_boxes_are_two_errors() -> None:
    errors, _ = read("│ Error: one", "│ ", "│ because", "╵", "╷", "│ Error: two", "╵", "afterwards")

    assert errors == [Diagnostic("one", "because"), Diagnostic("two")]


@pytest.mark.parametrize(
    "line", ["{", "{}", '{"@message": ', "[1]", "", "panic: runtime error", '{"type": "diagnostic"}']
)
def test_what_is_neither_is_passed_over(line: str) -> None:
    assert read(line) == ([], [])


def test_log_is_for_people() -> None:
    line = diagnostic("error", "Resource postcondition failed", "t3.small has no GPU.\nName another.", address="a.b")

    assert readable(f"{line}\n") == (
        "14:34:08Z Error: Resource postcondition failed\n"
        "    t3.small has no GPU.\n"
        "    Name another.\n"
        "    with a.b\n"
    )  # fmt: skip
    assert readable('{"@message": "\\nInterrupt received.\\n\\nGoing.\\n"}\n') == "Interrupt received.\n    Going.\n"
    assert readable("panic: runtime error\n") == "panic: runtime error\n"
    assert readable('{"@message": "no time"}\n') == "no time\n"
