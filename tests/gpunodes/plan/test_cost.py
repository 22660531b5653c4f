from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from gpunodes.aws import Clients
from gpunodes.errors import AwsError, GpunodesError, PreflightError
from gpunodes.plan import cost
from tests.gpunodes import fakes

# As the Price List API answers, shortened: each product is a JSON text.
PRODUCT = json.dumps(
    {
        "product": {"attributes": {"instanceType": "g4dn.xlarge"}},
        "terms": {
            "OnDemand": {"A.B": {"priceDimensions": {"A.B.C": {"unit": "Hrs", "pricePerUnit": {"USD": "0.526"}}}}}
        },
    }
)


@dataclass
class PriceList:
    """Clients whose price list and spot history are as given."""

    products: list[str] = field(default_factory=lambda: [PRODUCT])
    spot: list[str] = field(default_factory=lambda: ["0.2000", "0.1578"])
    error: GpunodesError | None = None
    asked: list[Any] = field(default_factory=list)
    target: Any = field(default_factory=lambda: fakes.target(region="eu-central-1"))

    def ask(self, service: str, _doing: str, call: Callable[[Any], Any], region: str | None = None) -> Any:
        self.asked.append((service, region))
        if self.error:
            raise self.error
        return call(self)

    def get_products(self, Filters: list[dict[str, str]], **_more: Any) -> dict[str, Any]:  # noqa: N803
        self.asked.append({row["Field"]: row["Value"] for row in Filters})
        return {"PriceList": self.products}

    def describe_spot_price_history(self, **_more: Any) -> dict[str, Any]:
        return {"SpotPriceHistory": [{"SpotPrice": price} for price in self.spot]}


def price(account: PriceList, *, spot: bool = False) -> cost.HourlyPrice:
    return cost.hourly_price(cast("Clients", account), "g4dn.xlarge", spot=spot)


def test_on_demand_price_is_that_of_the_targets_region() -> None:
    account = PriceList()

    assert price(account) == cost.HourlyPrice(0.526, "on-demand price")
    assert account.asked[0] == ("pricing", "us-east-1")
    assert account.asked[1]["regionCode"] == "eu-central-1"
    assert account.asked[1]["instanceType"] == "g4dn.xlarge"


def test_spot_price_is_the_lowest_zone_s() -> None:
    assert price(PriceList(), spot=True) == cost.HourlyPrice(0.1578, "spot price now")


@pytest.mark.parametrize("spot", [False, True])
def test_a_price_that_is_not_listed_is_none_and_not_zero(spot: bool) -> None:
    found = price(PriceList(products=[], spot=[]), spot=spot)

    assert found.usd is None
    assert found.reason == "the price list has no price of g4dn.xlarge in eu-central-1"
    assert found.of(3600) is None


@pytest.mark.parametrize("error", [AwsError("AWS refused."), PreflightError("Another partition's credentials.")])
def test_who_may_not_read_prices_is_told_why(error: GpunodesError) -> None:
    assert price(PriceList(error=error)) == cost.HourlyPrice(None, str(error))


@pytest.mark.parametrize(
    "terms",
    [
        {},
        {"Reserved": {}},
        {"OnDemand": {"A": {"priceDimensions": {"B": {"pricePerUnit": {"CNY": "3.5"}}}}}},
        {"OnDemand": {"A": {"priceDimensions": {"B": {"pricePerUnit": {"USD": "0.0000000000"}}}}}},
    ],
)
def test_a_product_without_an_on_demand_price_in_usd_is_passed_over(terms: dict[str, Any]) -> None:
    other = json.dumps({"product": {}, "terms": terms})

    assert price(PriceList(products=[other])).usd is None
    assert price(PriceList(products=[other, PRODUCT])).usd == 0.526


def test_the_emulated_aws_has_no_price_list(clients: Clients) -> None:
    assert cost.hourly_price(clients, "g4dn.xlarge").usd is None


@pytest.mark.parametrize(("seconds", "usd"), [(3600, 0.6), (1800, 0.3), (10, 0.01)])
def test_instances_are_billed_by_the_second_and_at_least_a_minute(seconds: float, usd: float) -> None:
    assert cost.HourlyPrice(0.6, "").of(seconds) == pytest.approx(usd)
