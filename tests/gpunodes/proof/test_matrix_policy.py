from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpunodes.aws import Clients
from gpunodes.errors import UsageError
from gpunodes.plan.cost import HourlyPrice
from gpunodes.proof import matrix_policy
from gpunodes.proof.launch import Wish
from gpunodes.proof.matrix_policy import Entry

OURS = {"ImageId": "ami-1", "OwnerId": "123456789012", "Architecture": "x86_64"}
PRICES = {"g4dn.xlarge": 0.5, "g5.xlarge": 1.0, "g5.2xlarge": 1.2}


def price(_clients: Clients, name: str, *, spot: bool) -> HourlyPrice:
    usd = PRICES.get(name)
    if usd is None:
        return HourlyPrice(None, "AWS refused.")
    return HourlyPrice(usd / 2 if spot else usd, "a list")


def test_entries_have_commas_between_and_alternatives_bars() -> None:
    policy = matrix_policy.read("g4dn.xlarge, g5.xlarge|g5.2xlarge")

    assert policy.entries == (Entry(("g4dn.xlarge",)), Entry(("g5.xlarge", "g5.2xlarge")))
    assert policy.entries[1].name == "g5.xlarge|g5.2xlarge"
    assert (policy.limit, policy.cost_ceiling_usd, policy.time_ceiling_seconds) == (4, 0.0, 3600.0)


def test_options_are_read() -> None:
    policy = matrix_policy.read(
        "g4dn.xlarge", Wish(spot=True, zone="us-east-1a"), limit="2", cost_ceiling_usd="1.5", time_ceiling_seconds="900"
    )

    assert (policy.limit, policy.spot, policy.zone) == (2, True, "us-east-1a")
    assert (policy.cost_ceiling_usd, policy.time_ceiling_seconds) == (1.5, 900.0)


@pytest.mark.parametrize(
    ("types", "options", "complaint"),
    [
        ("", {}, "`--types ` has an empty entry"),
        ("a,,b", {}, "`--types a,,b` has an empty entry"),
        ("a,b|", {}, "has an empty entry; name instance types, such as --types g4dn.xlarge,g5.12xlarge."),
        ("a,b,a", {}, "`--types a,b,a` names a 2 times; name each type once."),
        ("a|b,b", {}, "names b 2 times"),
        ("a", {"limit": "0"}, "`--limit 0` must be a whole number from 1, such as 4."),
        ("a", {"limit": "-1"}, "`--limit -1` must"),
        ("a", {"limit": "many"}, "`--limit many` must"),
        ("a", {"limit": "²"}, "`--limit ²` must"),
        ("a", {"cost_ceiling_usd": "-1"}, "`--cost-ceiling -1` must be a number above 0; leave it out"),
        ("a", {"cost_ceiling_usd": "nan"}, "`--cost-ceiling nan` must"),
        ("a", {"time_ceiling_seconds": "0"}, "`--time-ceiling 0` must"),
        ("a", {"time_ceiling_seconds": "inf"}, "`--time-ceiling inf` must"),
        ("a", {"instance_type": "b"}, "`--type` is for one type and does not go with --types; leave one of them out."),
        ("a", {"wish": Wish(keep=True)}, "`--keep` is for one type"),
        ("a", {"wish": Wish(tag=False)}, "`--no-tag` is for one type"),
        ("a", {"time_ceiling_seconds": "1h"}, "`--time-ceiling 1h` must"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(types: str, options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UsageError) as refused:
        matrix_policy.read(types, **options)

    assert complaint in str(refused.value)


def test_a_policy_is_read_where_types_were_named() -> None:
    assert matrix_policy.read_if_asked("a", Wish(), limit="2") == matrix_policy.read("a", limit="2")
    assert matrix_policy.read_if_asked(None, Wish(keep=True), instance_type="a", limit="", cost_ceiling_usd="") is None
    with pytest.raises(UsageError, match="has an empty entry"):
        matrix_policy.read_if_asked("", Wish())


def test_an_option_for_several_types_needs_them() -> None:
    with pytest.raises(UsageError, match="`--time-ceiling 9` goes with --types only; name types, such as"):
        matrix_policy.read_if_asked(None, Wish(), limit="", time_ceiling_seconds="9")


def test_zones_are_those_that_offer_the_type(clients: Clients) -> None:
    zones = matrix_policy.check_types(clients, matrix_policy.read("g4dn.xlarge|g5.xlarge"), OURS)

    assert set(zones) == {"g4dn.xlarge", "g5.xlarge"}
    assert zones["g4dn.xlarge"] == sorted(zones["g4dn.xlarge"])
    assert "us-east-1a" in zones["g4dn.xlarge"]


def test_a_subnet_leaves_no_choice_of_zone(clients: Clients) -> None:
    in_subnet = Clients(replace(clients.target, subnet_id="subnet-1"))

    assert matrix_policy.check_types(in_subnet, matrix_policy.read("g4dn.xlarge"), OURS) == {"g4dn.xlarge": []}
    with pytest.raises(UsageError, match=r"Subnet subnet-1 decides the zone .*; leave --zone us-east-1a out\."):
        matrix_policy.check_types(in_subnet, matrix_policy.read("g4dn.xlarge", Wish(zone="us-east-1a")), OURS)


@pytest.mark.parametrize(
    ("types", "image", "zone", "complaint"),
    [
        ("g4dn.xlarge,g5.xlrge", OURS, "", "There is no instance type `g5.xlrge` in this region; did you mean"),
        ("g4dn.xlarge|t3.micro", OURS, "", "t3.micro has no GPU; name a type"),
        ("g5g.xlarge", OURS, "", "Image ami-1 is for x86_64 and g5g.xlarge runs arm64;"),
        ("g4dn.xlarge", {**OURS, "OwnerId": "9"}, "", "Image ami-1 belongs to account 9 and you work in 123456789012;"),
        ("g4dn.xlarge", OURS, "us-east-1q", "g4dn.xlarge is not offered in us-east-1q; choose us-east-1a or "),
    ],
)
def test_a_type_that_does_not_fit_is_one_sentence(
    clients: Clients, types: str, image: dict[str, Any], zone: str, complaint: str
) -> None:
    with pytest.raises(UsageError) as refused:
        matrix_policy.check_types(clients, matrix_policy.read(types, Wish(zone=zone)), image)

    assert str(refused.value).startswith(complaint)


def test_the_sum_of_what_each_entry_may_cost_is_compared_with_the_ceiling(clients: Clients) -> None:
    said: list[str] = []
    options = {"time_ceiling_seconds": "1800"}
    types = "g4dn.xlarge,g5.xlarge|g5.2xlarge"  # 0.25 and 0.60 USD in half an hour

    matrix_policy.check_cost(clients, matrix_policy.read(types, cost_ceiling_usd="0.85", **options), said.append, price)  # type: ignore[arg-type]
    with pytest.raises(UsageError) as refused:
        matrix_policy.check_cost(
            clients, matrix_policy.read(types, cost_ceiling_usd="0.84", **options), said.append, price  # type: ignore[arg-type]
        )  # fmt: skip

    assert str(refused.value) == (
        "The matrix may cost 0.85 USD (g4dn.xlarge 0.25, g5.xlarge|g5.2xlarge 0.60) if each proof takes 1800 s, more"
        " than the ceiling of 0.84 USD; name fewer types, a lower --time-ceiling or a higher --cost-ceiling."
    )
    assert said == []


def test_spot_instances_are_counted_at_their_price(clients: Clients) -> None:
    policy = matrix_policy.read("g5.xlarge", Wish(spot=True), cost_ceiling_usd="0.5")

    matrix_policy.check_cost(clients, policy, pytest.fail, price)
    with pytest.raises(UsageError, match=r"may cost 1\.00 USD"):
        matrix_policy.check_cost(clients, replace(policy, spot=False), pytest.fail, price)


def test_a_price_that_nobody_knows_is_refused_where_it_could_be_known(clients: Clients) -> None:
    policy = matrix_policy.read("p5.48xlarge", cost_ceiling_usd="1000")
    said: list[str] = []

    matrix_policy.check_cost(clients, policy, said.append, price)
    assert said == [
        "what p5.48xlarge costs is not known here (AWS refused), so the cost ceiling does not count it",
    ]
    on_aws = Clients(replace(clients.target, tolerates_missing_calls=False))
    with pytest.raises(UsageError, match=r"What p5\.48xlarge costs is not known \(AWS refused\); mend that"):
        matrix_policy.check_cost(on_aws, policy, said.append, price)


def test_without_a_ceiling_nobody_asks_for_prices(clients: Clients) -> None:
    matrix_policy.check_cost(clients, matrix_policy.read("p5.48xlarge"), pytest.fail)
