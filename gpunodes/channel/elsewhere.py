"""A channel beyond its home: copies of its image in the policy's regions, shares, and a parameter in each region.

Everything that takes long or can be refused comes before the first parameter is written, and the home region's is the
last: what it names, all the others name, too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from gpunodes.aws import Clients, aws_errors
from gpunodes.channel import copies, reach, shares
from gpunodes.channel.parameter import ChannelParameter, Pointer
from gpunodes.channel.policy import Policy
from gpunodes.channel.reach import region_errors
from gpunodes.errors import GpunodesError
from gpunodes.operation.steps import Progress, Step

LABEL_PREVIOUS = "previous"


@dataclass
class Elsewhere:
    """What a promotion or a rollback does beside the home region's parameter.

    Attributes:
        home: clients of the home region.
        channel: whose.
        policy: of it: regions and shares.
        progress: told what is waited for.
        wait: sleeps for so many seconds.
        copy_ids: region -> the copy that the channel names there; filled by `prepare`.
        written: regions whose parameter was changed.
    """

    home: Clients
    channel: str
    policy: Policy
    progress: Progress
    wait: Callable[[float], None] = time.sleep
    copy_ids: dict[str, str] = field(default_factory=dict)
    written: list[str] = field(default_factory=list)

    def steps(self, prepare: Callable[[], None]) -> list[Step]:
        """Of a promotion or a rollback, before it writes; none where the policy names no region and no share.

        Args:
            prepare: lets `prepare` have the image.
        """
        if not self.policy.regions and not self.policy.share_with:
            return []
        doing = f"copy it to {', '.join(self.policy.regions)}" if self.policy.regions else "share it"
        return [Step("check regions and shares", self.check), Step(f"{doing} and check that", prepare)]

    def check(self) -> None:
        """Whether regions and shares can be what they are, before anything is made.

        Raises:
            UsageError: the policy names a region that does not exist, or the home region, or the account itself.
            PreflightError: a region is switched off.
            AwsError: AWS refused.
        """
        reach.check(self.home, self.policy.regions, self.policy.share_with, self.channel)

    def prepare(self, image: Mapping[str, Any]) -> None:
        """Copy an image to each region, check each copy, and share all of them; what is done already stays so.

        Args:
            image: in the home region, available, as in DescribeImages.

        Raises:
            UsageError: nobody knows somebody it is shared with.
            PreflightError: a region is switched off, or its key cannot be shared.
            AwsError: AWS refused, a copy failed, or is not what it was copied from.
        """
        source = copies.source_of(self.home, image)
        is_shared = bool(self.policy.share_with)
        if is_shared:
            shares.require_shareable(self.home, source.ami_id, source.snapshots)
        begun: dict[str, str] = {}
        for region in self.policy.regions:  # all of them work at the same time
            with region_errors(region):
                begun[region] = copies.begin(self.home.in_region(region), source, is_shared=is_shared)
        for region, copy_id in begun.items():
            self.progress.detail(f"{copy_id} in {region}")
            with region_errors(region):
                there = self.home.in_region(region)
                copy = copies.finish(there, source, copy_id, self.wait)
                if is_shared:
                    shares.require_shareable(there, copy_id, copies.source_of(there, copy).snapshots)
        for region, copy_id in begun.items():
            with region_errors(region):
                self._share(self.home.in_region(region), copy_id)
        self._share(self.home, source.ami_id)
        self.copy_ids = begun

    @contextmanager
    def named(self, is_done_at_home: Callable[[], bool]) -> Iterator[None]:
        """Let the channel name the copies, while the block lets it name the image at home.

        Where something fails, the regions name again what they named before; where the process is killed, the next
        promotion or rollback goes on.

        Args:
            is_done_at_home: whether the home region's parameter names the image in spite of a failure.

        Raises:
            AwsError: SSM refused, or did not take a copy.
        """
        before: dict[str, Pointer | None] = {}
        try:
            for region, copy_id in self.copy_ids.items():
                with region_errors(region):
                    parameter = self._parameter(region)
                    pointer = parameter.read()
                    if pointer and pointer.ami_id == copy_id:
                        continue
                    before[region] = pointer
                    parameter.write(copy_id)
                    if pointer:
                        parameter.label(pointer, LABEL_PREVIOUS)
                    self.written.append(region)
            yield
        except BaseException:
            self._put_back(before, is_done_at_home)
            raise

    def _put_back(self, before: Mapping[str, Pointer | None], is_done_at_home: Callable[[], bool]) -> None:
        try:
            if not before or is_done_at_home():
                return
        except GpunodesError as error:
            self.progress.say(f"channel {self.channel} may name the new image in {', '.join(before)}: {error}")
            return
        for region, pointer in before.items():
            try:
                self._restore(region, pointer)
            except GpunodesError as error:
                self.progress.say(f"channel {self.channel} names the new image in {region} already: {error}")

    def _restore(self, region: str, pointer: Pointer | None) -> None:
        parameter = self._parameter(region)
        now = parameter.read()
        if now is None or (pointer and now.ami_id == pointer.ami_id):
            return
        if pointer:
            parameter.write(pointer.ami_id)
            return
        with aws_errors(f"removing the parameter of channel {self.channel} in {region}"):
            parameter.clients.ssm.delete_parameter(Name=parameter.name)

    def _parameter(self, region: str) -> ChannelParameter:
        return ChannelParameter(self.home.in_region(region), self.channel, self.wait)

    def _share(self, clients: Clients, ami_id: str) -> None:
        if self.policy.share_with:
            shares.share(clients, ami_id, self.policy.share_with, self.channel, self.wait)
