# The module's own, which also says what is allowed: terraform/modules/ami-refresh.

variable "region" {
  description = "AWS region in which everything is made and images are baked, as in gpunodes.toml, such as eu-central-1."
  type        = string
}

variable "repository" {
  description = "HTTPS address of the Git repository that holds gpunodes and your gpunodes.toml and refresh.toml, such as https://github.com/example/gpunodes.git."
  type        = string
}

variable "channel" {
  description = "Channel that is refreshed; also part of the name of everything made here, so that each channel can have its own."
  type        = string
  default     = "stable"
  nullable    = false
}

variable "revision" {
  description = "Branch, tag or commit of the repository; a commit is what nobody can move."
  type        = string
  default     = "main"
  nullable    = false
}

variable "source_type" {
  description = "Where the repository is, as CodeBuild calls it: `GITHUB`, `GITHUB_ENTERPRISE`, `GITLAB`, `BITBUCKET` or `CODECOMMIT`."
  type        = string
  default     = "GITHUB"
  nullable    = false
}

variable "connection_arn" {
  description = "CodeConnections connection that may read the repository; null for a public one, and for CodeCommit."
  type        = string
  default     = null
}

variable "schedule" {
  description = "When a refresh is run, UTC, as `cron(...)` or `rate(...)` of EventBridge Scheduler. It decides itself whether anything is due, so often is fine; a week's window must contain more than one run."
  type        = string
  default     = "cron(23 0/2 * * ? *)"
  nullable    = false
}

variable "flexible_window_minutes" {
  description = "Within so many minutes of its time a run is begun; 0 for at its time."
  type        = number
  default     = 15
  nullable    = false
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
}

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
}

variable "timeout_minutes" {
  description = "A refresh that takes longer is ended; the next one goes on with what it left. At most 240, for how long a run has the channel's lock."
  type        = number
  default     = 180
  nullable    = false
}

variable "session_manager_plugin_version" {
  description = "Version of AWS's session-manager-plugin, which is installed before each refresh."
  type        = string
  default     = "1.2.764.0"
  nullable    = false
}

variable "session_manager_plugin_sha256" {
  description = "SHA-256 of the Debian package of that version; null trusts what AWS's bucket sends over HTTPS."
  type        = string
  default     = null
}

variable "evidence_bucket" {
  description = "S3 bucket of yours that gets the evidence of each new image, under evidence/; null keeps none: it ends with the build."
  type        = string
  default     = null
}

variable "image_users" {
  description = "Users of the images, as whom a proof logs in: `ubuntu` on Ubuntu, `ec2-user` on Amazon Linux."
  type        = set(string)
  default     = ["ubuntu", "ec2-user"]
  nullable    = false
}

variable "regions" {
  description = "Regions beside the first that refresh.toml names for the channel; none where images stay at home."
  type        = set(string)
  default     = []
  nullable    = false
}

variable "image_key_arns" {
  description = "KMS keys of your own that images are encrypted with; none where EBS encrypts with the key of AWS."
  type        = set(string)
  default     = []
  nullable    = false
}

variable "permissions_boundary_arn" {
  description = "IAM policy that bounds the role of the build; null for none."
  type        = string
  default     = null
}

variable "email_addresses" {
  description = "Addresses that are subscribed to the topic; each must confirm. Subscribe others, such as a chat, to topic_arn."
  type        = set(string)
  default     = []
  nullable    = false
}

variable "announce" {
  description = "`changes`: the topic gets the summary of a refresh that did something, and every failure. `every_run`: the summary of every refresh."
  type        = string
  default     = "changes"
  nullable    = false
}

variable "alarm_days" {
  description = "Alarm when no refresh has succeeded for so many days, 1 to 7; one with nothing to do succeeds, too."
  type        = number
  default     = 2
  nullable    = false
}

variable "log_retention_days" {
  description = "Days that the log group keeps what refreshes printed; 0 means for ever."
  type        = number
  default     = 90
  nullable    = false
}

variable "tags" {
  description = "Tags for everything made here."
  type        = map(string)
  default     = {}
  nullable    = false
}
