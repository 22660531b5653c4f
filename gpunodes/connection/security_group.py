"""The security group of the instance that bakes: made by us, since Packer 1.6.6 leaves its own untagged.

With the run's tags from its first moment it is found again after any crash (CreateSecurityGroup, DeleteSecurityGroup).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gpunodes.aws import Clients, aws_errors
from gpunodes.operation import runs
from gpunodes.operation.runs import Run
from gpunodes.target import Target

_SSH_PORT = 22


@dataclass
class SecurityGroup:
    """Lets one network reach SSH on one instance, or nobody reach anything.

    Attributes:
        target: where.
        run: names and tags it.
        source_cidr: the network; empty for a group without any inbound rule.
        group_id: EC2's id; empty before `create`.
    """

    target: Target
    run: Run
    source_cidr: str = ""
    group_id: str = ""

    def create(self, clients: Clients) -> None:
        """Make the group in the subnet's VPC, or in the default VPC where no subnet was chosen.

        Raises:
            AwsError: the subnet does not exist, or EC2 refused.
        """
        wanted = [{"Key": key, "Value": value} for key, value in runs.temporary_tags(self.run).items()]
        with aws_errors("making the security group"):
            place = {}
            if self.target.subnet_id:
                subnets = clients.ec2.describe_subnets(SubnetIds=[self.target.subnet_id])["Subnets"]
                place = {"VpcId": subnets[0]["VpcId"]}
            self.group_id = clients.ec2.create_security_group(
                GroupName=f"gpunodes-{self.run.run_id}",
                Description="Who may reach the instance that bakes.",
                TagSpecifications=[{"ResourceType": "security-group", "Tags": wanted}],
                **place,
            )["GroupId"]
            if self.source_cidr:
                clients.ec2.get_waiter("security_group_exists").wait(GroupIds=[self.group_id])  # EC2 may say so late
                clients.ec2.authorize_security_group_ingress(GroupId=self.group_id, IpPermissions=[self._ssh()])

    def _ssh(self) -> dict[str, Any]:
        networks = [{"CidrIp": self.source_cidr, "Description": "where the bake was started"}]
        return {"IpProtocol": "tcp", "FromPort": _SSH_PORT, "ToPort": _SSH_PORT, "IpRanges": networks}
