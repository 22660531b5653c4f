"""What can go wrong in localaws.

LocalAwsError           base; one sentence that says what to do, and an exit code
├── PreflightError      this machine cannot run the offline cloud as asked (exit code 2)
│   └── AlreadyUpError  the offline cloud of this machine is up already
├── NotUpError          something was asked of a cloud that is not up (exit code 2)
└── CommandFailed       a program that localaws started ended with an error (exit code 3)
"""

from __future__ import annotations


class LocalAwsError(Exception):
    """Base of every error that localaws raises on purpose.

    Attributes:
        exit_code: what a command line program should exit with.
    """

    exit_code = 3


class PreflightError(LocalAwsError):
    """This machine lacks something that the offline cloud needs; nothing was changed."""

    exit_code = 2


class AlreadyUpError(PreflightError):
    """The offline cloud of this machine is up already."""


class NotUpError(LocalAwsError):
    """The offline cloud is not up."""

    exit_code = 2


class NothingToPublishError(LocalAwsError):
    """The newest release of the base image is published already."""

    exit_code = 2


class CommandFailed(LocalAwsError):  # noqa: N818 - reads as what happened
    """A program ended with an error.

    Attributes:
        argv: the command line that was run.
        returncode: its exit status; negative for the signal that ended it, None when it could not run or timed out.
        output: the end of what it printed, standard error last.
    """

    def __init__(self, argv: list[str], returncode: int | None, output: str) -> None:
        self.argv = argv
        self.returncode = returncode
        self.output = output
        last_line = (output.strip().splitlines() or ["it printed nothing"])[-1]
        super().__init__(f"`{' '.join(argv)}` failed ({_reason(returncode)}): {last_line}")


def _reason(returncode: int | None) -> str:
    return "did not run to its end" if returncode is None else f"exit status {returncode}"
