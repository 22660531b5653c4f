"""What a plan of a prune is made from: our images, what channels name and named, and who refers to what.

Each region is an account of its own, for an image is: who uses a copy uses that copy. What home keeps of a channel, its
copies outlive as well.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from gpunodes.aws import Clients, aws_errors
from gpunodes.channel import policy, reach
from gpunodes.channel.parameter import ChannelParameter
from gpunodes.channel.reach import region_errors
from gpunodes.prune import builder_references, compute_references, parameter_references, prune_plan, references
from gpunodes.prune.own_images import own_images
from gpunodes.prune.permissions import named_permissions
from gpunodes.prune.prune_plan import Account
from gpunodes.prune.references import Source

SOURCES = (*compute_references.SOURCES, *parameter_references.SOURCES, *builder_references.SOURCES)
_CHANNEL = re.compile(r"/gpunodes/([A-Za-z0-9-]+)/ami-id")


def look_everywhere(clients: Clients, now: datetime, policy_file: Path = policy.POLICY_FILE) -> dict[str, Account]:
    """Ask AWS for all of it, at home and in every region that a policy names; home comes first.

    Args:
        clients: of the home region.
        now: UTC.
        policy_file: of the channels.

    Raises:
        UsageError: the policy file has a mistake.
        PreflightError: the credentials are no longer valid, or a region is switched off.
        AwsError: images or channels of a region cannot be read.
    """
    rules = policy.load_all(policy_file)
    home = look(clients, now, policy_file)
    found = {clients.target.region: home}
    kept = prune_plan.named_or_way_back(home)
    for region in reach.elsewhere(clients, [name for each in rules.values() for name in each.regions]):
        with region_errors(region):
            found[region] = replace(look(clients.in_region(region), now, policy_file), at_home=kept)
    return found


def look(
    clients: Clients,
    now: datetime,
    policy_file: Path = policy.POLICY_FILE,
    sources: Sequence[Source] | None = None,
) -> Account:
    """Ask AWS for all of one region; calls grow with pages, not with images.

    Args:
        clients: of the target.
        now: UTC.
        policy_file: of the channels.
        sources: that are asked who uses an image, all by default; without them nothing may be disabled or deleted.

    Raises:
        UsageError: the policy file has a mistake.
        PreflightError: the credentials are no longer valid.
        AwsError: images or channels cannot be read; a source of references that fails is noted in what is returned.
    """
    with named_permissions():
        images, channels = own_images(clients), channels_of(clients)
        histories = {name: _history(clients, name) for name in channels}
    return Account(
        now=now,
        images=images,
        histories=histories,
        references=references.collect(clients, SOURCES if sources is None else sources),
        policies={name: policy.load(name, policy_file) for name in {*channels, *(image.channel for image in images)}},
    )


def channels_of(clients: Clients) -> list[str]:
    """Every channel that names an image (GetParametersByPath).

    Raises:
        AwsError: SSM refused.
    """
    with aws_errors("looking for channels"):
        pages = clients.ssm.get_paginator("get_parameters_by_path").paginate(Path="/gpunodes/", Recursive=True)
        found = [_CHANNEL.fullmatch(parameter["Name"]) for page in pages for parameter in page["Parameters"]]
    return sorted(name[1] for name in found if name)


def _history(clients: Clients, channel: str) -> list[str]:
    return [pointer.ami_id for pointer in ChannelParameter(clients, channel).history()]
