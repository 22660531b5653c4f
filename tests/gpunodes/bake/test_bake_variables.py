from __future__ import annotations

from pathlib import Path

from gpunodes.bake import bake_variables, template_check
from gpunodes.connection import connection
from gpunodes.recipe import flavors, pins, recipe
from gpunodes.settings import Settings
from tests.gpunodes import fakes

TARGET = fakes.target(packer_variables={"ec2_endpoint": "http://127.0.0.1:1"})
FLAVOR = flavors.load("al2023")


def early(folder: Path) -> dict[str, object]:
    return bake_variables.early(TARGET, Settings(), FLAVOR, pins.read(), fakes.run(folder))


def test_every_variable_is_declared_and_every_required_one_is_given(tmp_path: Path) -> None:
    declared = template_check.declared(recipe.TEMPLATE_FOLDER)

    template_check.check_names(declared, {*early(tmp_path), *bake_variables.LATER, "source_ami",
        "temporary_security_group_source_cidrs"})  # fmt: skip


def test_nothing_is_given_early_and_late(tmp_path: Path) -> None:
    assert set(early(tmp_path)) & bake_variables.LATER == set()


def test_what_the_connection_gives_is_known_to_come_later(tmp_path: Path) -> None:
    way_in = connection.of(fakes.target(ssh_source_cidr="198.51.100.7/32"), Settings(), fakes.run(tmp_path))

    given = set(way_in.packer_variables())

    assert given <= bake_variables.LATER | {"temporary_security_group_source_cidrs"}


def test_the_flavor_decides_user_and_package_family(tmp_path: Path) -> None:
    variables = early(tmp_path)

    assert (variables["ssh_username"], variables["package_family"]) == ("ec2-user", "dnf")


def test_the_image_is_named_by_its_run_and_flavor(tmp_path: Path) -> None:
    assert early(tmp_path)["ami_name"] == "gpunodes-20300101-000000-abcd-al2023"
    assert set(bake_variables.template(TARGET, Settings(), FLAVOR, pins.read(), fakes.run(tmp_path)).variables) == {
        *early(tmp_path), "source_ami", "temporary_security_group_source_cidrs"
    }  # fmt: skip
