from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gpunodes.aws import Clients
from gpunodes.bake.bake_steps import BakeSteps, given
from gpunodes.cleanup import leftovers
from gpunodes.connection import connection
from gpunodes.errors import AwsError, GpunodesError
from gpunodes.operation.journal import Journal
from gpunodes.recipe import flavors
from gpunodes.recipe.checkout import Checkout
from gpunodes.recipe.pins import Pins
from gpunodes.settings import Settings
from tests.gpunodes import fakes

RUN_ID = "20300101-000000-abcd"


def bake(clients: Clients, folder: Path, **more: Any) -> BakeSteps:
    run, settings, progress = (
        fakes.run(folder / "runs" / RUN_ID),
        Settings(work_folder=folder),
        fakes.RecordingProgress(),
    )
    return BakeSteps(
        target=clients.target,
        settings=settings,
        run=run,
        clients=clients,
        progress=progress,
        journal=Journal(run.folder / "journal.jsonl"),
        flavor=flavors.load("debian-12"),
        pins=Pins("latest", "A" * 40),
        asked_source_ami=None,
        way_in=connection.of(clients.target, settings, run),
        checkout=Checkout("0" * 40, False),
        **more,
    )


def made_image(clients: Clients) -> str:
    launched = clients.ec2.run_instances(
        ImageId=fakes.base_image(clients), MinCount=1, MaxCount=1, KeyName=f"gpunodes-{RUN_ID}"
    )
    instance = launched["Instances"][0]["InstanceId"]
    return str(clients.ec2.create_image(InstanceId=instance, Name=f"gpunodes-{RUN_ID}-debian-12")["ImageId"])


def images(clients: Clients) -> list[str]:
    found = clients.ec2.describe_images(Filters=[{"Name": "name", "Values": ["gpunodes-*"]}])["Images"]
    return [image["ImageId"] for image in found]


@pytest.mark.parametrize("is_complete", [True, False])
def test_only_the_image_of_a_bake_that_got_to_its_end_stays(
    clients: Clients, tmp_path: Path, is_complete: bool
) -> None:
    image = made_image(clients)

    bake(clients, tmp_path, is_complete=is_complete)._remove_leftovers()

    assert images(clients) == ([image] if is_complete else [])


def test_image_goes_although_its_instance_does_not_end(
    clients: Clients, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_image(clients)
    monkeypatch.setattr(leftovers, "wait_until_ended", lambda _clients, ids, _wait: ids)

    with pytest.raises(AwsError, match="do not terminate"):
        bake(clients, tmp_path)._remove_leftovers()

    assert images(clients) == []


def test_what_no_step_has_made_yet_is_an_error_of_ours() -> None:
    with pytest.raises(GpunodesError, match="before the one that it needs"):
        given(None)
