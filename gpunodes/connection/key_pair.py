"""An ed25519 key pair that lives as long as a run; for a bake EC2 knows it, too (ImportKeyPair, DeleteKeyPair).

Packer 1.6.6 can make RSA keys only, which current OpenSSH refuses; so every run brings its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gpunodes.aws import Clients, aws_errors
from gpunodes.operation.runs import Run, temporary_tags


@dataclass(frozen=True)
class KeyPair:
    """The key pair of a run.

    Attributes:
        name: in EC2.
        private_key: file of the private half, readable by its owner only.
    """

    name: str
    private_key: Path

    @classmethod
    def of(cls, run: Run) -> KeyPair:
        """The key pair that a run has, imported or not."""
        return cls(f"gpunodes-{run.run_id}", run.folder / "ssh_key")

    def make(self) -> str:
        """Make the key in the run's folder; return its public half, in OpenSSH's format."""
        key = Ed25519PrivateKey.generate()
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
        self.private_key.touch(mode=0o600)
        self.private_key.write_bytes(private)
        public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        return public.decode()

    def import_into(self, clients: Clients, run: Run) -> str:
        """Make the key and give EC2 its public half, which is returned.

        Raises:
            AwsError: EC2 refused it.
        """
        public = self.make()
        specification = {
            "ResourceType": "key-pair",
            "Tags": [{"Key": name, "Value": value} for name, value in temporary_tags(run).items()],
        }
        with aws_errors("importing the SSH key"):
            clients.ec2.import_key_pair(
                KeyName=self.name, PublicKeyMaterial=public.encode(), TagSpecifications=[specification]
            )
        return public

    def delete_from(self, clients: Clients) -> None:
        """Delete both halves; a key pair that is gone already is no error (EC2 says so, too)."""
        self.forget()
        with aws_errors("deleting the SSH key"):
            clients.ec2.delete_key_pair(KeyName=self.name)

    def forget(self) -> None:
        """Delete the private half."""
        self.private_key.unlink(missing_ok=True)
