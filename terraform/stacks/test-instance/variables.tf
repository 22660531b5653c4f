# REQUIRED

variable "region" {
  description = "AWS region that holds the image, such as eu-central-1."
  type        = string
}

variable "run_id" {
  description = "Names and tags everything of this run, so that it can be found and removed."
  type        = string

  validation {
    # "gpunodes-" goes before it, and the module allows 37 characters.
    condition     = can(regex("^[a-z0-9][a-z0-9-]{0,27}$", var.run_id))
    error_message = "The run_id must be 1 to 28 lower-case letters, digits or hyphens and begin with a letter or digit."
  }
}

variable "ami_id" {
  description = "Image to prove, made by `invoke build-ami`."
  type        = string
}

variable "instance_type" {
  description = "EC2 instance type with NVIDIA GPUs, such as g5.12xlarge."
  type        = string
}

# OPTIONAL

variable "subnet_id" {
  description = "Subnet to launch in; null means the default subnet of the default VPC."
  type        = string
  default     = null
}

variable "availability_zone" {
  description = "Availability zone to launch in, such as eu-central-1a; null means any. Not together with subnet_id."
  type        = string
  default     = null
}

variable "spot" {
  description = "Whether to launch on spare capacity."
  type        = bool
  default     = false
}

variable "key_name" {
  description = "EC2 key pair that may log in; null where the key is pushed by EC2 Instance Connect."
  type        = string
  default     = null
}

variable "permissions" {
  description = "What the instance may do: `least_privilege` or `managed`, as in the module."
  type        = string
  default     = "least_privilege"
}

variable "tags" {
  description = "More tags for everything of this run, such as gpunodes:expires-at."
  type        = map(string)
  default     = {}
}
