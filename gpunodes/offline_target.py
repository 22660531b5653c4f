"""The offline cloud as a target: the only module that knows localaws."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gpunodes.errors import GpunodesError, PreflightError
from gpunodes.target import Target
from localaws import cloud, preflight
from localaws.errors import AlreadyUpError, LocalAwsError, NothingToPublishError, NotUpError
from localaws.layout import REGION, SUBNET_CIDR, Layout

FLAVOR = "debian-12"


def offline_target(say: Callable[[str], None]) -> Target:
    """The offline cloud of this machine, started where it is not up.

    Args:
        say: told what takes longer.

    Raises:
        PreflightError: it cannot run here.
        GpunodesError: a part did not start.
    """
    with _translated():
        layout = Layout.from_environment()
        was_started = False
        try:
            facts = cloud.facts(layout)
        except NotUpError:
            say("starting the offline cloud")
            facts = cloud.up(layout, say)
            was_started = True
        preflight.check_disk(layout.state)
    variables = cloud.environment(facts)
    os.environ.update(variables)  # boto3 in this process, too, sees nothing of the operator's own AWS configuration
    return Target(
        name="offline",
        was_started=was_started,
        cloud_id=facts.subnet_id,
        region=REGION,
        flavor=FLAVOR,
        tolerates_missing_calls=True,
        environment=variables,
        endpoint_url=facts.endpoint_url,
        credentials={
            "aws_access_key_id": variables["AWS_ACCESS_KEY_ID"],
            "aws_secret_access_key": variables["AWS_SECRET_ACCESS_KEY"],
        },
        base_parameter=facts.base_parameter,
        subnet_id=facts.subnet_id,
        ssh_interface="private_ip",
        ssh_source_cidr=SUBNET_CIDR,
        agent_base_url=facts.downloads_url,
        agent_key_fingerprint=facts.downloads_key_fingerprint,
        packer_variables={
            "ec2_endpoint": facts.endpoint_url,
            "skip_region_validation": "true",
            "skip_metadata_api_check": "true",
            "skip_credential_validation": "true",
            "skip_snapshot_tags": "true",
        },
        datapoint_patience_seconds=90.0,
    )


def up(say: Callable[[str], None]) -> list[tuple[str, str]]:
    """Start the offline cloud; return its parts and where each is."""
    with _translated():
        return cloud.up(Layout.from_environment(), say).parts()


def down() -> bool:
    """Stop the offline cloud and remove everything but its cache; False where it was not up."""
    with _translated():
        return cloud.down(Layout.from_environment())


def status() -> tuple[list[tuple[str, str]], list[dict[str, str]]]:
    """The parts of the cloud that is up, and a row for each instance."""
    with _translated():
        layout = Layout.from_environment()
        return cloud.facts(layout).parts(), cloud.machines(layout)


def publish_base() -> str:
    """Let a newer base image appear, as its publisher would; return its id."""
    with _translated():
        return cloud.publish_base(Layout.from_environment()).base_image_id


def is_up() -> bool:
    """Whether the offline cloud of this machine is up."""
    try:
        status()
    except PreflightError:
        return False
    return True


def environment() -> dict[str, str]:
    """Variables that lead any AWS client to the offline cloud."""
    with _translated():
        return cloud.environment(cloud.facts(Layout.from_environment()))


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (AlreadyUpError, NotUpError, NothingToPublishError) as error:
        raise PreflightError(str(error)) from error
    except LocalAwsError as error:
        kind = PreflightError if error.exit_code == PreflightError.exit_code else GpunodesError
        raise kind(str(error)) from error
