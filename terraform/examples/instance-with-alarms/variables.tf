# REQUIRED

variable "ami_id" {
  description = "Image to launch, made by `invoke build-ami`."
  type        = string
}

variable "email" {
  description = "Address of whoever is on call."
  type        = string

  validation {
    condition     = can(regex("^[^@[:space:]]+@[^@[:space:]]+$", var.email))
    error_message = "The email must be an address, such as on-call@example.com."
  }
}

# OPTIONAL

variable "region" {
  description = "AWS region that holds the image; null means the one of the environment."
  type        = string
  default     = null
}

variable "instance_type" {
  description = "EC2 instance type with NVIDIA GPUs."
  type        = string
  default     = "g5.12xlarge"
}

variable "name" {
  description = "Beginning of the name of everything made here."
  type        = string
  default     = "trainer"
}
