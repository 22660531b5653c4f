# REQUIRED

variable "region" {
  description = "AWS region in which images are baked, as in gpunodes.toml, such as eu-central-1."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "The region must look like eu-central-1."
  }
}

variable "channel" {
  description = "Channel that is refreshed, such as stable; no other channel's image can be changed."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9-]{1,64}$", var.channel))
    error_message = "The channel must be 1 to 64 letters, digits or hyphens."
  }
}

# OPTIONAL

variable "afterwards" {
  description = "What runs after a refresh: `reap` removes what killed runs left, `prune` lets old images go."
  type        = set(string)
  default     = ["reap"]
  nullable    = false

  validation {
    condition     = length(setsubtract(var.afterwards, ["reap", "prune"])) == 0
    error_message = "What runs afterwards must be \"reap\", \"prune\", both or nothing."
  }
}

variable "image_users" {
  description = "Users of the images, as whom a proof logs in: `ubuntu` on Ubuntu, `ec2-user` on Amazon Linux."
  type        = set(string)
  default     = ["ubuntu", "ec2-user"]
  nullable    = false

  validation {
    condition     = length(var.image_users) > 0 && alltrue([for user in var.image_users : can(regex("^[a-z_][a-z0-9_-]*$", user))])
    error_message = "The image_users must be one or more names of users, such as ubuntu."
  }
}

variable "regions" {
  description = "Regions beside the first that refresh.toml names for the channel; none where images stay at home."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = length(var.regions) <= 3 && alltrue([for region in var.regions : can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]+$", region))])
    error_message = "The regions must be names such as eu-west-1, three at most: a policy of IAM has no room for more."
  }
}

variable "image_key_arns" {
  description = "KMS keys of your own that images are encrypted with; none where EBS encrypts with the key of AWS."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for arn in var.image_key_arns : can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+$", arn))])
    error_message = "The image_key_arns must be ARNs of KMS keys, such as arn:aws:kms:eu-central-1:123456789012:key/ID, not of aliases."
  }
}
