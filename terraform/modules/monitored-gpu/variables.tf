# REQUIRED: no run can guess these.

variable "ami_id" {
  description = "Image to launch, made by `invoke build-ami`, such as ami-0123456789abcdef0."
  type        = string

  validation {
    condition     = can(regex("^ami-[0-9a-f]{8,17}$", var.ami_id))
    error_message = "The ami_id must be \"ami-\" followed by 8 to 17 hexadecimal digits."
  }
}

variable "instance_type" {
  description = "EC2 instance type with NVIDIA GPUs, such as g5.12xlarge."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]*\\.[a-z0-9-]+$", var.instance_type))
    error_message = "The instance_type must look like g5.12xlarge."
  }
}

variable "name" {
  description = "Beginning of the name of everything made here. AWS completes it, so that runs in parallel do not clash."
  type        = string

  validation {
    # IAM allows 38 characters for the prefix of a role name; the module adds the hyphen at its end.
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9-]{0,36}$", var.name))
    error_message = "The name must be 1 to 37 letters, digits or hyphens and begin with a letter or digit."
  }
}

# OPTIONAL: null leaves the choice to AWS.

variable "subnet_id" {
  description = "Subnet to launch in; null means the default subnet of the default VPC."
  type        = string
  default     = null

  validation {
    condition     = var.subnet_id == null || can(regex("^subnet-[0-9a-f]{8,17}$", var.subnet_id))
    error_message = "The subnet_id must be \"subnet-\" followed by 8 to 17 hexadecimal digits, or null."
  }
}

variable "key_name" {
  description = "EC2 key pair that may log in; null means that only Session Manager can."
  type        = string
  default     = null
}

variable "tags" {
  description = "Tags for everything made here, beside Name; a run id belongs here."
  type        = map(string)
  default     = {}
}
