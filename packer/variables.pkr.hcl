# REQUIRED: what this bake is about.

variable "region" {
  description = "AWS region in which the image is baked."
  type        = string
}

variable "source_ami" {
  description = "Id of the base image; resolved beforehand, so that a bake can be repeated."
  type        = string
  validation {
    condition     = substr(var.source_ami, 0, 4) == "ami-"
    error_message = "The source_ami must be the id of an image, such as ami-0123456789abcdef0."
  }
}

variable "instance_type" {
  description = "Type of the instance that bakes."
  type        = string
}

variable "ami_name" {
  description = "Name of the new image; unique per account and region."
  type        = string
  validation {
    condition     = length(var.ami_name) >= 3 && length(var.ami_name) <= 128
    error_message = "The ami_name must have 3 to 128 characters."
  }
}

variable "run_id" {
  description = "Id of this run; on every resource that the bake makes, so that leftovers can be found."
  type        = string
  validation {
    condition     = length(var.run_id) > 0
    error_message = "The run_id must not be empty: it is how leftovers of a bake are found."
  }
}

variable "ssh_username" {
  description = "User of the base image that may sudo without a password."
  type        = string
}

variable "ssh_private_key_file" {
  description = "Private key of ssh_keypair_name; Packer 1.6.6 could itself make RSA keys only."
  type        = string
}

variable "ssh_keypair_name" {
  description = "Name of the EC2 key pair that was imported for this run."
  type        = string
}

variable "temporary_security_group_source_cidrs" {
  description = "Networks that may reach SSH on the bake instance; Packer's own default is the whole internet."
  type        = list(string)
  validation {
    condition     = length(var.temporary_security_group_source_cidrs) > 0
    error_message = "The temporary_security_group_source_cidrs must name at least one network, such as your address with /32."
  }
}

variable "wheelhouse_dir" {
  description = "Directory of gpumon's wheels and the requirements.txt with their hashes."
  type        = string
}

variable "gpumon_version" {
  description = "Version of gpumon that the image must answer with."
  type        = string
}

variable "manifest_path" {
  description = "File that gets Packer's manifest of this bake."
  type        = string
}

# OPTIONAL: the defaults are right for AWS.

variable "provision_dir" {
  description = "Directory of the scripts that run on the instance, relative to where Packer is started."
  type        = string
  default     = "scripts/provision"
}

variable "rootfs_dir" {
  description = "Directory of the files that get the same path on the image."
  type        = string
  default     = "packer/rootfs"
}

variable "ssh_interface" {
  description = "Address to connect to: private_ip, public_ip, private_dns, public_dns or session_manager."
  type        = string
  default     = "private_ip"
}

variable "subnet_id" {
  description = "Subnet of the bake instance; empty: the default VPC's."
  type        = string
  default     = ""
}

variable "vpc_id" {
  description = "VPC of the bake instance; empty: the subnet's, or the default VPC."
  type        = string
  default     = ""
}

variable "security_group_id" {
  description = "Security group to use; empty: a temporary one, limited to temporary_security_group_source_cidrs."
  type        = string
  default     = ""
}

variable "iam_instance_profile" {
  description = "Instance profile of the bake instance; session_manager needs one that lets it speak to Session Manager."
  type        = string
  default     = ""
}

variable "spot_price" {
  description = "Most to pay for an hour of a spot instance in USD, or auto for the on-demand price; empty: on demand."
  type        = string
  default     = ""
}

variable "tags" {
  description = "Tags of the image, its snapshots and everything the bake makes; the run id is added."
  type        = map(string)
  default     = {}
}

variable "temporary_tags" {
  description = "More tags of what lives no longer than the bake: instance, volume, launch template; when they expire, say."
  type        = map(string)
  default     = {}
}

variable "root_device_name" {
  description = "Root device of the base image."
  type        = string
  default     = "/dev/xvda"
}

variable "root_volume_size_gib" {
  description = "Size of the root volume; at least that of the base image."
  type        = number
  default     = 75
}

variable "encrypted" {
  description = "Whether the root volume, and with it the image, is encrypted."
  type        = bool
  default     = true
}

variable "package_family" {
  description = "How the base image installs packages: apt or dnf."
  type        = string
  default     = "apt"
  validation {
    condition     = contains(["apt", "dnf"], var.package_family)
    error_message = "The package_family must be apt or dnf."
  }
}

variable "facts_dir" {
  description = "Folder that gets facts.json and packages.tsv, which were collected on the instance; empty: the manifest's."
  type        = string
  default     = ""
}

variable "agent_base_url" {
  description = "Where the CloudWatch agent's packages, signatures and key are."
  type        = string
  default     = "https://amazoncloudwatch-agent.s3.amazonaws.com"
}

variable "agent_version" {
  description = "Version of the CloudWatch agent, as 1.300064.0b1337, or latest; a base that ships one keeps it."
  type        = string
  default     = "latest"
}

variable "agent_sha256" {
  description = "SHA-256 of the CloudWatch agent's package; empty: its signature alone decides."
  type        = string
  default     = ""
  validation {
    condition     = contains([0, 64], length(var.agent_sha256))
    error_message = "The agent_sha256 must have 64 hexadecimal digits, or be empty."
  }
}

variable "agent_key_fingerprint" {
  description = "Full fingerprint of the key that signs the CloudWatch agent."
  type        = string
  # Published by AWS under "Verifying the signature of the CloudWatch agent package". It is pinned because the key is
  # downloaded from the same bucket as the package: whoever can replace one can replace the other.
  default = "937616F3450B7D806CBD9725D58167303B789C72"
  validation {
    condition     = length(var.agent_key_fingerprint) == 40
    error_message = "The agent_key_fingerprint must be the full one, 40 hexadecimal digits: short key ids can be forged."
  }
}

# OPTIONAL: endpoints other than AWS.

variable "ec2_endpoint" {
  description = "URL of the EC2 API; empty: AWS."
  type        = string
  default     = ""
}

variable "skip_region_validation" {
  description = "Accept regions that Packer does not know."
  type        = bool
  default     = false
}

variable "skip_metadata_api_check" {
  description = "Do not look for credentials in the metadata service of this machine."
  type        = bool
  default     = false
}

variable "skip_credential_validation" {
  description = "Do not ask STS who we are: that call does not follow ec2_endpoint."
  type        = bool
  default     = false
}

variable "skip_snapshot_tags" {
  description = "Leave the snapshots' tags to the seal step; plugin 1.8 sends them with CreateImage, which moto refuses."
  type        = bool
  default     = false
}
