# REQUIRED

variable "repository" {
  description = "GitHub repository whose workflow may use the role, as owner/name; GitHub's spelling, for it is compared letter by letter."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9-]+/[A-Za-z0-9._-]+$", var.repository))
    error_message = "The repository must look like owner/name, without a wildcard."
  }
}

variable "region" {
  description = "AWS region in which images are baked, as in gpunodes.toml, such as eu-central-1."
  type        = string
  # The module refresh-permissions validates it.
}

# OPTIONAL

variable "channel" {
  description = "Channel that is refreshed."
  type        = string
  default     = "stable"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9-]{1,40}$", var.channel))
    error_message = "The channel must be 1 to 40 letters, digits or hyphens."
  }
}

variable "branch" {
  description = "Only a workflow that runs on this branch may use the role."
  type        = string
  default     = "main"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9._/-]+$", var.branch))
    error_message = "The branch must be the name of one, without a wildcard."
  }
}

variable "oidc_provider_arn" {
  description = "The account's OIDC provider for token.actions.githubusercontent.com, where it has one; null makes it: an account can have only one."
  type        = string
  default     = null

  validation {
    condition     = var.oidc_provider_arn == null || can(regex("^arn:[a-z-]+:iam::[0-9]{12}:oidc-provider/token\\.actions\\.githubusercontent\\.com$", var.oidc_provider_arn))
    error_message = "The oidc_provider_arn must be that of token.actions.githubusercontent.com, or null."
  }
}

variable "afterwards" {
  description = "What runs after a refresh: `reap` removes what killed runs left, `prune` lets old images go."
  type        = set(string)
  default     = ["reap"]
  nullable    = false
  # The module refresh-permissions validates it.
}

variable "regions" {
  description = "Regions beside the first that refresh.toml names for the channel; none where images stay at home."
  type        = set(string)
  default     = []
  nullable    = false
  # The module refresh-permissions validates it.
}

variable "permissions_boundary_arn" {
  description = "IAM policy that bounds the role; null for none."
  type        = string
  default     = null

  validation {
    condition     = var.permissions_boundary_arn == null || can(regex("^arn:[a-z-]+:iam::([0-9]{12}|aws):policy/.+$", var.permissions_boundary_arn))
    error_message = "The permissions_boundary_arn must be the ARN of an IAM policy, or null."
  }
}

variable "tags" {
  description = "Tags for everything made here."
  type        = map(string)
  default     = {}
  nullable    = false
}
