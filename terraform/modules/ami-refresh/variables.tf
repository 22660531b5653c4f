# REQUIRED

variable "region" {
  description = "AWS region in which everything is made and images are baked, as in gpunodes.toml, such as eu-central-1."
  type        = string
  # The module refresh-permissions validates it.
}

variable "repository" {
  description = "HTTPS address of the Git repository that holds gpunodes and your gpunodes.toml and refresh.toml, such as https://github.com/example/gpunodes.git."
  type        = string

  validation {
    condition     = can(regex("^https://[^@?# ]+$", var.repository))
    error_message = "The repository must be an https:// address without user, password or query; for a private one set connection_arn."
  }
}

# OPTIONAL: what is refreshed, from what, and when.

variable "channel" {
  description = "Channel that is refreshed; also part of the name of everything made here, so that each channel can have its own."
  type        = string
  default     = "stable"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9-]{1,40}$", var.channel))
    error_message = "The channel must be 1 to 40 letters, digits or hyphens."
  }
}

variable "revision" {
  description = "Branch, tag or commit of the repository; a commit is what nobody can move."
  type        = string
  default     = "main"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9._/-]{0,199}$", var.revision))
    error_message = "The revision must be a branch, tag or commit, such as main."
  }
}

variable "source_type" {
  description = "Where the repository is, as CodeBuild calls it: `GITHUB`, `GITHUB_ENTERPRISE`, `GITLAB`, `BITBUCKET` or `CODECOMMIT`."
  type        = string
  default     = "GITHUB"
  nullable    = false

  validation {
    condition     = contains(["GITHUB", "GITHUB_ENTERPRISE", "GITLAB", "BITBUCKET", "CODECOMMIT"], var.source_type)
    error_message = "The source_type must be GITHUB, GITHUB_ENTERPRISE, GITLAB, BITBUCKET or CODECOMMIT."
  }
}

variable "connection_arn" {
  description = "CodeConnections connection that may read the repository; null for a public one, and for CodeCommit."
  type        = string
  default     = null

  validation {
    condition     = var.connection_arn == null || can(regex("^arn:[a-z-]+:(codeconnections|codestar-connections):[a-z0-9-]+:[0-9]{12}:connection/[a-z0-9-]+$", var.connection_arn))
    error_message = "The connection_arn must be that of a CodeConnections connection, or null."
  }
}

variable "schedule" {
  description = "When a refresh is run, UTC, as `cron(...)` or `rate(...)` of EventBridge Scheduler. It decides itself whether anything is due, so often is fine; a week's window must contain more than one run."
  type        = string
  default     = "cron(23 0/2 * * ? *)"
  nullable    = false

  validation {
    condition     = can(regex("^(cron\\([^()]+\\)|rate\\([1-9][0-9]* (minutes?|hours?|days?)\\))$", var.schedule))
    error_message = "The schedule must look like cron(23 0/2 * * ? *) or rate(2 hours)."
  }
}

variable "flexible_window_minutes" {
  description = "Within so many minutes of its time a run is begun; 0 for at its time."
  type        = number
  default     = 15
  nullable    = false

  validation {
    condition     = var.flexible_window_minutes >= 0 && var.flexible_window_minutes <= 1440 && floor(var.flexible_window_minutes) == var.flexible_window_minutes
    error_message = "The flexible_window_minutes must be a whole number, 0 to 1440."
  }
}

variable "enabled" {
  description = "Whether the schedule runs; without it everything stays, and a refresh can be begun by hand."
  type        = bool
  default     = true
  nullable    = false
}

variable "afterwards" {
  description = "What runs after a refresh: `reap` removes what killed runs left, `prune` lets old images go, where the refresh did not fail."
  type        = set(string)
  default     = ["reap"]
  nullable    = false
  # The module refresh-permissions validates it.
}

# OPTIONAL: where it runs.

variable "build_image" {
  description = "Image of CodeBuild or of a registry, with apt, git, the AWS CLI and Python 3.11 or newer."
  type        = string
  default     = "aws/codebuild/standard:7.0"
  nullable    = false
}

variable "compute_type" {
  description = "Size of the build's machine; it mostly waits for others."
  type        = string
  default     = "BUILD_GENERAL1_SMALL"
  nullable    = false

  validation {
    condition     = contains(["BUILD_GENERAL1_SMALL", "BUILD_GENERAL1_MEDIUM", "BUILD_GENERAL1_LARGE"], var.compute_type)
    error_message = "The compute_type must be BUILD_GENERAL1_SMALL, BUILD_GENERAL1_MEDIUM or BUILD_GENERAL1_LARGE."
  }
}

variable "timeout_minutes" {
  description = "A refresh that takes longer is ended; the next one goes on with what it left. At most 240, for how long a run has the channel's lock."
  type        = number
  default     = 180
  nullable    = false

  validation {
    condition     = var.timeout_minutes >= 60 && var.timeout_minutes <= 240 && floor(var.timeout_minutes) == var.timeout_minutes
    error_message = "The timeout_minutes must be a whole number, 60 to 240."
  }
}

variable "session_manager_plugin_version" {
  description = "Version of AWS's session-manager-plugin, which is installed before each refresh."
  type        = string
  default     = "1.2.764.0"
  nullable    = false

  validation {
    condition     = can(regex("^[0-9]+(\\.[0-9]+){3}$", var.session_manager_plugin_version))
    error_message = "The session_manager_plugin_version must look like 1.2.764.0."
  }
}

variable "session_manager_plugin_sha256" {
  description = "SHA-256 of the Debian package of that version; null trusts what AWS's bucket sends over HTTPS."
  type        = string
  default     = null

  validation {
    condition     = var.session_manager_plugin_sha256 == null || can(regex("^[0-9a-f]{64}$", var.session_manager_plugin_sha256))
    error_message = "The session_manager_plugin_sha256 must be 64 lower-case hexadecimal digits, or null."
  }
}

variable "evidence_bucket" {
  description = "S3 bucket of yours that gets the evidence of each new image, under evidence/; null keeps none: it ends with the build."
  type        = string
  default     = null

  validation {
    condition     = var.evidence_bucket == null || can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.evidence_bucket))
    error_message = "The evidence_bucket must be the name of a bucket, or null."
  }
}

# OPTIONAL: what it may use beside what is always needed.

variable "image_users" {
  description = "Users of the images, as whom a proof logs in: `ubuntu` on Ubuntu, `ec2-user` on Amazon Linux."
  type        = set(string)
  default     = ["ubuntu", "ec2-user"]
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

variable "image_key_arns" {
  description = "KMS keys of your own that images are encrypted with; none where EBS encrypts with the key of AWS."
  type        = set(string)
  default     = []
  nullable    = false
  # The module refresh-permissions validates it.
}

variable "permissions_boundary_arn" {
  description = "IAM policy that bounds the role of the build; null for none."
  type        = string
  default     = null

  validation {
    condition     = var.permissions_boundary_arn == null || can(regex("^arn:[a-z-]+:iam::([0-9]{12}|aws):policy/.+$", var.permissions_boundary_arn))
    error_message = "The permissions_boundary_arn must be the ARN of an IAM policy, or null."
  }
}

# OPTIONAL: who is told.

variable "email_addresses" {
  description = "Addresses that are subscribed to the topic; each must confirm. Subscribe others, such as a chat, to topic_arn."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for address in var.email_addresses : can(regex("^[^@ ]+@[^@ ]+$", address))])
    error_message = "The email_addresses must be addresses such as on-call@example.com."
  }
}

variable "announce" {
  description = "`changes`: the topic gets the summary of a refresh that did something, and every failure. `every_run`: the summary of every refresh."
  type        = string
  default     = "changes"
  nullable    = false

  validation {
    condition     = contains(["changes", "every_run"], var.announce)
    error_message = "What is announced must be \"changes\" or \"every_run\"."
  }
}

variable "alarm_days" {
  description = "Alarm when no refresh has succeeded for so many days, 1 to 7; one with nothing to do succeeds, too."
  type        = number
  default     = 2
  nullable    = false

  validation {
    condition     = var.alarm_days >= 1 && var.alarm_days <= 7 && floor(var.alarm_days) == var.alarm_days
    error_message = "The alarm_days must be a whole number, 1 to 7: a CloudWatch alarm looks back 7 days at most. Schedule refreshes at least daily; what is due is decided by refresh.toml, not by how often they run."
  }
}

variable "log_retention_days" {
  description = "Days that the log group keeps what refreshes printed; 0 means for ever."
  type        = number
  default     = 90
  nullable    = false

  validation {
    condition = contains(
      [0, 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653],
      var.log_retention_days,
    )
    error_message = "The log_retention_days must be one of CloudWatch's: 0, 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 or 3653."
  }
}

variable "tags" {
  description = "Tags for everything made here."
  type        = map(string)
  default     = {}
  nullable    = false
}
