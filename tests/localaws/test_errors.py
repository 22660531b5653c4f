from __future__ import annotations

import pytest

from localaws import errors


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (errors.LocalAwsError, 3),
        (errors.PreflightError, 2),
        (errors.AlreadyUpError, 2),
        (errors.NotUpError, 2),
        (errors.CommandFailed, 3),
    ],
)
def test_every_error_is_one_of_ours_with_its_exit_code(error: type[errors.LocalAwsError], exit_code: int) -> None:
    assert issubclass(error, errors.LocalAwsError)
    assert error.exit_code == exit_code


def test_signal_and_missing_program_are_told_apart() -> None:
    assert str(errors.CommandFailed(["a", "b"], -9, "")) == "`a b` failed (exit status -9): it printed nothing"
    assert str(errors.CommandFailed(["a"], None, "a: x\n")) == "`a` failed (did not run to its end): a: x"
