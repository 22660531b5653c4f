from __future__ import annotations

import errno

import pytest

from gpunodes.errors import AwsError, InterruptedRunError, PreflightError, ToolError, UsageError
from gpunodes.exit_codes import errors_as_exit_codes


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (UsageError("There is no such type."), 2, "There is no such type."),
        (PreflightError("Packer is missing."), 2, "Packer is missing."),
        (ToolError("Packer failed."), 3, "Packer failed."),
        (AwsError("AWS did not answer."), 3, "AWS did not answer."),
        (InterruptedRunError("Stopped."), 130, "Stopped."),
        (KeyboardInterrupt(), 130, "Stopped as asked; run `invoke destroy` if anything was begun."),
        (
            OSError(errno.ENOSPC, "No space left on device", "/a"),
            3,
            "/a: No space left on device; mend that.",
        ),
    ],
)
def test_what_goes_wrong_is_one_sentence(
    error: BaseException, code: int, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended, errors_as_exit_codes():
        raise error

    assert ended.value.code == code
    shown = capsys.readouterr()
    assert shown.err == f"error: {sentence}\n"
    assert shown.out == ""


def test_a_defect_does_not_look_like_a_check_that_failed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, errors_as_exit_codes():
        raise AssertionError("never")

    assert ended.value.code == 3
    *lines, last = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("Traceback")
    assert last == "error: This is a defect of gpunodes; please report it with the lines above."


def test_nothing_is_said_when_all_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    with errors_as_exit_codes():
        pass
    assert capsys.readouterr().err == ""
