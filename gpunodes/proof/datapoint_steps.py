"""The datapoints of a test instance: waited for, read once, held against the promises and against NVML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from gpunodes.errors import ToolError
from gpunodes.proof import datapoint_checks, nvml_agreement
from gpunodes.proof.agent_agreement import agent_agrees_with_host
from gpunodes.proof.check import Check
from gpunodes.proof.clone import Shell
from gpunodes.proof.datapoint_checks import Outage
from gpunodes.proof.datapoints import DatapointReader, Published, Series
from gpunodes.proof.foreign_series import foreign_series
from gpunodes.proof.gpu_checks import Gpu
from gpunodes.proof.nvml_readings import NvmlReader, NvmlReadings
from gpunodes.proof.promised_metrics import (
    Promise,
    agent_series_of,
    one_of_each,
    promised,
    promised_by_agent,
    series_of,
)


@dataclass
class DatapointLook:
    """What CloudWatch has of an instance, beside what NVML says on it.

    Attributes:
        instance_id: of the instance.
        builder_id: which instance baked the image; empty where nobody knows.
        shell: a connection to the instance.
        reader: of the account's datapoints.
        gpu_count: that the instance type promises.
        gpus: that were found.
        running_since: UTC, when its services were seen running.
        series: for the record of the proof, once it was looked.
    """

    instance_id: str
    builder_id: str
    shell: Shell
    reader: DatapointReader
    gpu_count: int
    gpus: Sequence[Gpu] = ()
    running_since: datetime = field(default_factory=lambda: datetime.now(UTC))
    series: list[dict[str, Any]] = field(default_factory=list)
    _nvml: NvmlReader | None = None
    _complaint: str = ""

    def begin(self) -> None:
        """Read NVML from now on; an image that cannot is one whose datapoints agree with nothing."""
        self._nvml = NvmlReader(self.shell)
        try:
            self._nvml.start()
        except ToolError as error:
            self._nvml, self._complaint = None, str(error)

    def look(
        self,
        *,
        gpumon_patience_seconds: float,
        agent_patience_seconds: float,
        changes: Sequence[datetime],
        agent_outages: Sequence[Outage],
    ) -> list[Check]:
        """Wait until every promise is kept or patience ends, read all of it once, and judge.

        Args:
            gpumon_patience_seconds: how long a datapoint of gpumon may take from now.
            agent_patience_seconds: the same of the CloudWatch agent.
            changes: when the load on the GPUs changed, by the instance's clock.
            agent_outages: when the agent did not run.
        """
        gpumon = series_of(promised(), self.instance_id, self.gpus)
        agent = agent_series_of(promised_by_agent(), self.instance_id, self._root_file_system())
        unsupported = self._collect().unsupported
        self._wait_for(gpumon, unsupported, gpumon_patience_seconds)
        self._wait_for(agent, {}, agent_patience_seconds)
        nvml = self._collect()
        read_at = datetime.now(UTC)
        published = self.reader.read_minutes(gpumon | agent)
        read_until = datetime.now(UTC)
        self.series = nvml_agreement.series_document(gpumon | agent, published, nvml)
        of_agent = agent_agrees_with_host(agent, published, nvml)
        agree = nvml_agreement.datapoints_agree_with_nvml(gpumon, published, nvml, read_at=read_at, changes=changes)
        return [
            datapoint_checks.promised_metrics_arrive(gpumon, published, nvml.unsupported, self.gpu_count),
            datapoint_checks.agent_metrics_arrive(agent, published),
            datapoint_checks.datapoints_are_plausible(gpumon | agent, published),
            self._fresh(gpumon, agent, published, (read_at, read_until), agent_outages),
            agree if not self._complaint else _because(agree, self._complaint),
            of_agent if not self._complaint else _because(of_agent, self._complaint),
            self._own(one_of_each(gpumon | agent)),
        ]

    def end(self) -> None:
        """Stop reading NVML, and leave nothing of it on the instance."""
        if self._nvml is not None:
            self._nvml.stop()

    def _wait_for(self, wanted: dict[Series, Promise], unsupported: Any, patience_seconds: float) -> None:
        """Poll what is missing, and only that."""
        missing = list(wanted)

        def all_arrived(published: Published) -> bool:
            missing[:] = datapoint_checks.missing_series({s: wanted[s] for s in missing}, published, unsupported)
            return not missing

        self.reader.wait_for_minutes(missing.copy, all_arrived, patience_seconds)

    def _collect(self) -> NvmlReadings:
        return self._nvml.collect() if self._nvml else NvmlReadings({}, {}, {})

    def _root_file_system(self) -> str:
        return self.shell.run("findmnt --noheadings --output FSTYPE --target /").strip()

    def _fresh(
        self,
        gpumon: dict[Series, Promise],
        agent: dict[Series, Promise],
        published: Published,
        reading: tuple[datetime, datetime],
        agent_outages: Sequence[Outage],
    ) -> Check:
        """Of both services; what excuses a gap of one must not excuse the other's."""
        both = [
            datapoint_checks.datapoints_are_fresh(
                promised,
                published,
                now=reading[0],
                read_until=reading[1],
                running_since=self.running_since,
                outages=outages,
            )
            for promised, outages in ((gpumon, ()), (agent, agent_outages))
        ]
        return next((made for made in both if not made.passed), both[0])

    def _own(self, telling: list[Series]) -> Check:
        foreign = foreign_series(
            self.reader,
            telling,
            instance_id=self.instance_id,
            builder_id=self.builder_id,
            since=self.running_since,
        )
        return datapoint_checks.only_its_own_series(foreign, instance_id=self.instance_id, builder_id=self.builder_id)


def _because(made: Check, complaint: str) -> Check:
    return Check(**{**vars(made), "reason": f"{made.reason}: {complaint}"})
