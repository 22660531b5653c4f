# REQUIRED

variable "ami_id" {
  description = "Image to launch, made by `invoke build-ami`."
  type        = string
}

# OPTIONAL

variable "region" {
  description = "AWS region that holds the image; null means the one of the environment."
  type        = string
  default     = null
}

variable "instance_types" {
  description = "EC2 instance types with NVIDIA GPUs, by the name that the instance gets."
  type        = map(string)

  default = {
    inference = "g4dn.xlarge"
    training  = "g5.12xlarge"
  }
}

variable "name" {
  description = "Beginning of the name of everything made here."
  type        = string
  default     = "gpus"
}

variable "alarm_actions" {
  description = "ARNs, such as of SNS topics, that are told when an alarm begins and when it ends."
  type        = set(string)
  default     = []
}
