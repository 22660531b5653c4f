from __future__ import annotations

import pytest

from gpunodes import offline_target
from gpunodes.errors import GpunodesError, PreflightError
from gpunodes.recipe import flavors
from localaws import base_image
from localaws import errors as localaws_errors


@pytest.mark.parametrize(
    ("error", "kind", "exit_code"),
    [
        (localaws_errors.PreflightError("Run this as root."), PreflightError, 2),
        (localaws_errors.AlreadyUpError("It is up."), PreflightError, 2),
        (localaws_errors.NotUpError("It is not up."), PreflightError, 2),
        (localaws_errors.NothingToPublishError("It is the newest."), PreflightError, 2),
        (localaws_errors.LocalAwsError("A part did not start."), GpunodesError, 3),
        (localaws_errors.CommandFailed(["gcc"], 1, "no header"), GpunodesError, 3),
    ],
)
def test_error_of_the_offline_cloud_keeps_its_sentence_and_exit_code(
    error: localaws_errors.LocalAwsError, kind: type[GpunodesError], exit_code: int
) -> None:
    with pytest.raises(GpunodesError) as caught, offline_target._translated():
        raise error

    assert type(caught.value) is kind
    assert caught.value.exit_code == exit_code
    assert str(caught.value) == str(error)
    assert caught.value.__cause__ is error


def test_flavor_of_the_offline_cloud_is_as_its_base_image() -> None:
    flavor = flavors.load(offline_target.FLAVOR)

    assert flavor.ssh_username == base_image.SSH_USER
    assert (flavor.package_family, flavor.architecture) == ("apt", "x86_64")


def test_other_errors_pass_through() -> None:
    with pytest.raises(ValueError, match="a bug"), offline_target._translated():
        raise ValueError("a bug")
