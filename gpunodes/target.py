"""Where a run happens: AWS or the offline cloud. The pipeline is one; endpoints, credentials and variables differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gpunodes.settings import Settings

AGENT_BASE_URL = "https://amazoncloudwatch-agent.s3.amazonaws.com"
_SESSION_MANAGER = (
    "aws ssm start-session --region {region} --target {instance_id}"
    " --document-name AWS-StartSSHSession --parameters portNumber=22"
)


@dataclass(frozen=True)
class Target:
    """Everything that differs between AWS and the offline cloud.

    Attributes:
        name: `aws` or `offline`, for people and evidence.
        region: of every call.
        environment: set for every process that is started, before it starts.
        endpoint_url: for boto3; None for AWS's own.
        credentials: `aws_access_key_id` and `aws_secret_access_key` for boto3; empty for the default chain.
        base_parameter: SSM parameter that names its only base image; None where the flavor has one.
        flavor: kind of base image that is baked from where nobody asks for another.
        subnet_id: of instances; empty for the default VPC's.
        ssh_interface: address at which instances are reached, as Packer names it.
        ssh_source_cidr: network that may reach SSH on the instance that bakes.
        ssh_proxy_command: reaches port 22 of a test instance, which has no ingress; `{instance_id}` and `{region}`
            stand for its own; empty where its private address can be reached directly.
        agent_base_url: where the CloudWatch agent's package lies.
        agent_key_fingerprint: of the key that signed it; empty for the pinned one.
        packer_variables: more variables for the template.
        tolerates_missing_calls: whether a call that this API does not have is only noted; on AWS it fails the run.
        cloud_id: tells one offline cloud from the next; empty on AWS.
        was_started: whether it was started for this very run, so that nobody else uses it.
        datapoint_patience_seconds: how long a datapoint may take from instance to CloudWatch's answer.
    """

    name: str
    region: str
    flavor: str
    environment: Mapping[str, str] = field(default_factory=dict)
    endpoint_url: str | None = None
    credentials: Mapping[str, str] = field(default_factory=dict)
    base_parameter: str | None = None
    subnet_id: str = ""
    ssh_interface: str = "session_manager"
    ssh_source_cidr: str = ""
    ssh_proxy_command: str = ""
    agent_base_url: str = AGENT_BASE_URL
    agent_key_fingerprint: str = ""
    packer_variables: Mapping[str, str] = field(default_factory=dict)
    was_started: bool = False
    tolerates_missing_calls: bool = False
    cloud_id: str = ""
    datapoint_patience_seconds: float = 300.0

    @property
    def destination(self) -> str:
        """Where exactly, for the record of a run: one offline cloud is not the next."""
        return f"{self.name} {self.region} {self.cloud_id}".strip()


def aws_target(settings: Settings) -> Target:
    """AWS, with the credentials that every AWS tool would find; `aws.check_credentials` says whether there are any."""
    return Target(
        name="aws",
        region=settings.region,
        flavor=settings.flavor,
        subnet_id=settings.subnet_id,
        ssh_interface=settings.ssh_interface,
        ssh_source_cidr=settings.ssh_source_cidr,
        ssh_proxy_command=_SESSION_MANAGER,
        environment={"AWS_REGION": settings.region, "AWS_DEFAULT_REGION": settings.region},
    )
