"""The vCPU quotas of a matrix: whether all that may run at once fits, before the first proof of it is begun."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gpunodes.aws import Clients, aws_errors
from gpunodes.errors import PreflightError
from gpunodes.preflight import quotas
from gpunodes.preflight.diagnosis import require
from gpunodes.preflight.finding import Seen, look
from gpunodes.preflight.quotas import Quota, Room
from gpunodes.proof import second_clone
from gpunodes.proof.matrix_policy import Entry, Policy

Needs = Mapping[Quota, Sequence[int]]


def check(clients: Clients, policy: Policy, image: Mapping[str, Any]) -> None:
    """Hold the most that may run at once against what the quotas have left, second clones included.

    Args:
        clients: of the target.
        policy: what to prove.
        image: as in DescribeImages.

    Raises:
        PreflightError: a quota does not allow it; each type alone may well fit.
        AwsError: AWS refused or did not answer.
    """
    clone = second_clone.TYPES[image["Architecture"]]
    names = [clone, *(name for entry in policy.entries for name in entry.types)]
    with aws_errors("looking up the vCPUs of the instance types"):
        vcpus = quotas.vcpus_of(clients.ec2, names)
    needs = needs_of(policy.entries, vcpus, clone, spot=policy.spot)
    looked = look(
        "vCPU quotas of the matrix",
        lambda: _fits(clients, policy, needs),
        tolerates_missing_calls=clients.target.tolerates_missing_calls,
    )
    require([looked.finding])


def needs_of(entries: Sequence[Entry], vcpus: Mapping[str, int], clone: str, *, spot: bool) -> Needs:
    """What each entry uses of each quota at most, in vCPUs: its largest type of that quota, and its second clone.

    Args:
        entries: of the matrix.
        vcpus: of each type.
        clone: type of the second clone, which is always on demand.
        spot: whether the others are spot instances.
    """
    most: dict[Quota, list[int]] = {}
    for place, entry in enumerate(entries):
        for names, is_spot in ((entry.types, spot), ((clone,), False)):
            largest: dict[Quota, int] = {}
            for name in names:
                if quota := quotas.quota_of(name, spot=is_spot):
                    largest[quota] = max(vcpus[name], largest.get(quota, 0))
            for quota, needed in largest.items():
                most.setdefault(quota, [0] * len(entries))[place] += needed
    return most


def at_once(needs: Sequence[int], limit: int) -> int:
    """The most vCPUs that so many entries need, whichever of them run side by side."""
    return sum(sorted(needs, reverse=True)[:limit])


def _fits(clients: Clients, policy: Policy, needs: Needs) -> Seen[None]:
    service_quotas = clients.client("service-quotas")
    rooms = {quota: quotas.room(clients.ec2, service_quotas, quota) for quota in needs}
    limit = min(policy.limit, len(policy.entries))
    evidence = {quota.code: at_once(needs[quota], limit) for quota in needs}
    for quota, room in rooms.items():
        if evidence[quota.code] > room.allowed - room.used:
            needed, fitting = evidence[quota.code], _fitting_limit(needs, rooms, limit)
            text = (
                f"What may run at once ({limit} of the entries) needs {needed} vCPUs of quota {quota.code}"
                f" ({quota.name}), which allows {room.allowed:g} in {clients.target.region}"
                f"{f', of which {room.used} are in use' if room.used else ''};"
                f" {f'use --limit {fitting}' if fitting else 'stop what you do not need'},"
                f" or ask for at least {room.used + needed} in Service Quotas."
            )
            return Seen(None, text, evidence, PreflightError)
    return Seen(None, "The vCPU quotas allow all that may run at once.", evidence)


def _fitting_limit(needs: Needs, rooms: Mapping[Quota, Room], limit: int) -> int:
    """The greatest `--limit` for which every quota suffices; 0 where not even one entry fits."""

    def fits(count: int) -> bool:
        return all(at_once(needs[quota], count) <= room.allowed - room.used for quota, room in rooms.items())

    return next((count for count in range(limit - 1, 0, -1) if fits(count)), 0)
