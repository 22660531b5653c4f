"""What can go wrong on the operator's machine, and the exit code that says so.

GpunodesError           base; one sentence that says what to do
├── UsageError          exit code 2: an argument or a setting is wrong
├── PreflightError      exit code 2: this machine or account lacks something; nothing was changed
├── ToolError           exit code 3: Packer, Terraform, SSH or another program failed
├── AwsError            exit code 3: AWS refused or did not answer
└── InterruptedRunError exit code 130: Ctrl-C or SIGTERM; what the run made was removed

A check that fails is no error: the verdict says so, and the command exits with 1.
"""

from __future__ import annotations


class GpunodesError(Exception):
    """Base of every error that gpunodes raises on purpose.

    Attributes:
        exit_code: what the command exits with.
    """

    exit_code = 3


class UsageError(GpunodesError):
    """An argument or a setting is wrong."""

    exit_code = 2


class PreflightError(GpunodesError):
    """This machine or this account lacks something; nothing was changed."""

    exit_code = 2


class ToolError(GpunodesError):
    """A program that was started failed."""


class AwsError(GpunodesError):
    """AWS refused a call or did not answer it."""


class InterruptedRunError(GpunodesError):
    """Somebody asked the run to stop."""

    exit_code = 130
