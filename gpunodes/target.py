"""Where a run happens: AWS or the offline cloud. The pipeline is one; endpoints, credentials and variables differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gpunodes.settings import Settings

AGENT_BASE_URL = "https://amazoncloudwatch-agent.s3.amazonaws.com"
# Published by AWS under "Verifying the signature of the CloudWatch agent package".
AGENT_KEY_FINGERPRINT = "937616F3450B7D806CBD9725D58167303B789C72"
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
        source_ami: the base image to bake from; None where it must be looked up.
        ssh_username: user of the base image that may sudo.
        root_device_name: of the base image.
        root_volume_size_gib: of instances.
        subnet_id: of instances; empty for the default VPC's.
        ssh_interface: address at which instances are reached, as Packer names it.
        ssh_source_cidr: network that may reach SSH on the instance that bakes.
        ssh_proxy_command: reaches port 22 of a test instance, which has no ingress; `{instance_id}` and `{region}`
            stand for its own; empty where its private address can be reached directly.
        agent_base_url: where the CloudWatch agent's package lies.
        agent_key_fingerprint: of the key that signed it.
        packer_variables: more variables for the template.
        cloud_id: tells one offline cloud from the next; empty on AWS.
        was_started: whether it was started for this very run, so that nobody else uses it.
        datapoint_patience_seconds: how long a datapoint may take from instance to CloudWatch's answer.
    """

    name: str
    region: str
    ssh_username: str
    root_device_name: str
    root_volume_size_gib: int
    environment: Mapping[str, str] = field(default_factory=dict)
    endpoint_url: str | None = None
    credentials: Mapping[str, str] = field(default_factory=dict)
    source_ami: str | None = None
    subnet_id: str = ""
    ssh_interface: str = "public_ip"
    ssh_source_cidr: str = ""
    ssh_proxy_command: str = ""
    agent_base_url: str = AGENT_BASE_URL
    agent_key_fingerprint: str = AGENT_KEY_FINGERPRINT
    packer_variables: Mapping[str, str] = field(default_factory=dict)
    was_started: bool = False
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
        ssh_username=settings.ssh_username,
        root_device_name=settings.root_device_name,
        root_volume_size_gib=settings.root_volume_size_gib,
        subnet_id=settings.subnet_id,
        ssh_interface=settings.ssh_interface,
        ssh_source_cidr=settings.ssh_source_cidr,
        ssh_proxy_command=_SESSION_MANAGER,
        environment={"AWS_REGION": settings.region, "AWS_DEFAULT_REGION": settings.region},
    )
