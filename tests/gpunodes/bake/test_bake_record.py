from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from gpunodes.bake import bake_record
from gpunodes.errors import ToolError
from gpunodes.operation.steps import Timing
from gpunodes.recipe import pins
from gpunodes.recipe.checkout import Checkout
from gpunodes.recipe.recipe import Recipe
from gpunodes.recipe.wheelhouse import Wheelhouse

FACTS = {
    "collected_at": "2026-11-22T07:00:00Z",
    "instance_id": "i-1",
    "kernel_running": "6.1.0",
    "nvidia_driver_version": "595.64",
    "dcgm_version": None,
    "cloudwatch_agent_version": "1.300064",
    "os_id": "debian",
    "os_version": "12",
    "free_disk_bytes": "1000",
    "held_packages": "linux-image-amd64 nvidia-driver",
}


def test_versions_are_what_is_in_the_image_and_none_where_it_could_not_be_read() -> None:
    versions = bake_record.versions(FACTS)

    assert versions["nvidia_driver_version"] == "595.64"
    assert versions["dcgm_version"] is None
    assert not {"instance_id", "collected_at", "free_disk_bytes"} & versions.keys()


@pytest.mark.parametrize(
    ("value", "names"),
    [("a b", ("a", "b")), (["a", "b"], ("a", "b")), ("", ()), (None, ())],
)
def test_held_packages_are_names(value: object, names: tuple[str, ...]) -> None:
    assert bake_record.held({"held_packages": value}) == names


@pytest.mark.parametrize("content", [None, "{"])
def test_facts_that_did_not_arrive_are_one_sentence(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "facts.json").write_text(content)

    with pytest.raises(ToolError, match=r"The facts of the image did not arrive in .*facts\.json .*; bake again"):
        bake_record.facts(tmp_path)


def test_package_list_belongs_to_the_images_distribution() -> None:
    subject = bake_record.subject("ami-1", "one", FACTS, datetime(2026, 11, 22, tzinfo=UTC))

    assert (subject.distribution.id, subject.distribution.version) == ("debian", "12")


def test_only_the_digest_of_the_images_own_flavor_is_recorded() -> None:
    pinned = pins.Pins("1.2", "A" * 40, {"al2023": "0" * 64, "debian-12": "1" * 64})

    assert bake_record.pins_record(pinned, "al2023")["cloudwatch_agent.sha256"] == "0" * 64


def test_wheels_are_recorded_with_their_digests(tmp_path: Path) -> None:
    (tmp_path / "gpumon-1.whl").write_bytes(b"wheel")

    [wheel] = bake_record.wheels(Wheelhouse(tmp_path, "digest", "1"))

    assert wheel.file == "gpumon-1.whl"
    assert wheel.sha256 == "ba59926159d2aa256eb8739b8da7e2b574b960e1202c6d624cbe981cef996c91"


def test_what_is_not_packers_time_is_ours() -> None:
    found = bake_record.durations([Timing("one", 4.0), Timing("bake with Packer", 16.5)], 16.0)

    assert (found.packer_seconds, found.own_seconds) == (16.0, 4.5)


def test_tags_name_the_versions_that_matter() -> None:
    assert bake_record.version_tags({**FACTS, "cloudwatch_agent_version": None}) == {
        "gpunodes:driver-version": "595.64",
        "gpunodes:agent-version": "unknown",
        "gpunodes:bake-instance": "i-1",
    }


def test_the_commit_is_that_of_the_beginning_whatever_the_checkout_is_now() -> None:
    recipe = Recipe("ami-1", "al2023", "a", "b", "c", "latest", "", "A" * 40, 75)

    record = bake_record.recipe_record(recipe, Checkout("f" * 40, True))

    assert (record.fingerprint, record.git_commit, record.git_is_dirty) == (recipe.fingerprint, "f" * 40, True)
