"""What an instance costs, and what snapshots do: AWS's price list and the spot price history."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpunodes.aws import Clients
from gpunodes.errors import GpunodesError

_PRICE_LIST_REGION = "us-east-1"  # the price list is served in a few regions only, for all of them
_SNAPSHOT_USAGE = "EBS:SnapshotUsage"  # with the region before it; other kinds are archived or restored fast
_SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True)
class HourlyPrice:
    """Price of an instance.

    Attributes:
        usd: per hour; None where it could not be read.
        reason: why not, or where it comes from.
    """

    usd: float | None
    reason: str

    def of(self, seconds: float) -> float | None:
        """Cost of so many seconds, USD: instances are billed by the second, at least a minute."""
        return None if self.usd is None else self.usd * max(seconds, 60.0) / _SECONDS_PER_HOUR


def hourly_price(clients: Clients, instance_type: str, *, spot: bool = False) -> HourlyPrice:
    """Price of a Linux instance in the target's region (Price List GetProducts, EC2 DescribeSpotPriceHistory).

    Nothing fails for it: who may not read prices sees that.
    """
    try:
        price = _spot(clients, instance_type) if spot else _on_demand(clients, instance_type)
    except GpunodesError as error:  # also where credentials of another partition are unknown to the price list
        return HourlyPrice(None, str(error))
    if price is None:
        return HourlyPrice(None, f"the price list has no price of {instance_type} in {clients.target.region}")
    return HourlyPrice(price, "spot price now" if spot else "on-demand price")


@dataclass(frozen=True)
class SnapshotPrice:
    """Price of snapshots.

    Attributes:
        usd: per GiB and month; None where it could not be read.
        reason: why not, or where it comes from.
    """

    usd: float | None
    reason: str

    def of(self, gib: int) -> float | None:
        """Cost of so many GiB for a month, USD."""
        return None if self.usd is None else self.usd * gib


def snapshot_price(clients: Clients) -> SnapshotPrice:
    """Price of snapshots of the standard tier in the target's region (Price List GetProducts).

    Nothing fails for it: who may not read prices sees that.
    """
    wanted = {"productFamily": "Storage Snapshot", "regionCode": clients.target.region}
    try:
        products = _products(clients, wanted)
    except GpunodesError as error:
        return SnapshotPrice(None, str(error))
    for product in products:
        usage = str(product.get("product", {}).get("attributes", {}).get("usagetype", ""))
        if usage.endswith(_SNAPSHOT_USAGE) and (usd := next((usd for usd in _usd_in(product) if usd > 0), None)):
            return SnapshotPrice(usd, "price list")
    return SnapshotPrice(None, f"the price list has no price of snapshots in {clients.target.region}")


def _products(clients: Clients, wanted: Mapping[str, str]) -> list[dict[str, Any]]:
    """What the price list has of EC2; empty where the API does not have it."""
    filters = [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in wanted.items()]
    answer = clients.ask(
        "pricing",
        "reading the price list",
        lambda pricing: pricing.get_products(ServiceCode="AmazonEC2", Filters=filters, MaxResults=100),
        region=_PRICE_LIST_REGION,
    )
    return [json.loads(product) for product in (answer or {}).get("PriceList", [])]


def _on_demand(clients: Clients, instance_type: str) -> float | None:
    wanted = {
        "instanceType": instance_type,
        "regionCode": clients.target.region,
        "operatingSystem": "Linux",
        "preInstalledSw": "NA",
        "tenancy": "Shared",
        "capacitystatus": "Used",
    }
    prices = [usd for product in _products(clients, wanted) for usd in _usd_in(product)]
    return next((usd for usd in prices if usd > 0), None)


def _usd_in(product: dict[str, Any]) -> list[float]:
    """Its on-demand prices; a product may have terms of other kinds only, or prices in another currency."""
    terms = product.get("terms", {}).get("OnDemand", {}).values()
    prices = [dimension.get("pricePerUnit", {}) for term in terms for dimension in term["priceDimensions"].values()]
    return [float(price["USD"]) for price in prices if "USD" in price]


def _spot(clients: Clients, instance_type: str) -> float | None:
    answer = clients.ask(
        "ec2",
        "reading the spot price",
        lambda ec2: ec2.describe_spot_price_history(
            InstanceTypes=[instance_type], ProductDescriptions=["Linux/UNIX"], MaxResults=10
        ),
    )
    prices = [float(row["SpotPrice"]) for row in answer["SpotPriceHistory"]] if answer else []
    return min(prices, default=None)
