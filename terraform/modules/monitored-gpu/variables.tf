# REQUIRED: no run can guess these.

variable "ami_id" {
  description = "Image to launch, made by `invoke build-ami`, such as ami-0123456789abcdef0; read before anything is made."
  type        = string

  validation {
    condition     = can(regex("^ami-[0-9a-f]{8,17}$", var.ami_id))
    error_message = "The ami_id must be \"ami-\" followed by 8 to 17 hexadecimal digits."
  }
}

variable "instance_type" {
  description = "EC2 instance type with NVIDIA GPUs, such as g5.12xlarge, of the image's architecture."
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

# OPTIONAL: where and how to launch; null leaves the choice to AWS.

variable "subnet_id" {
  description = "Subnet to launch in; null means the default subnet of the default VPC."
  type        = string
  default     = null

  validation {
    condition     = var.subnet_id == null || can(regex("^subnet-[0-9a-f]{8,17}$", var.subnet_id))
    error_message = "The subnet_id must be \"subnet-\" followed by 8 to 17 hexadecimal digits, or null."
  }
}

variable "availability_zone" {
  description = "Availability zone to launch in, such as eu-central-1a; null means any. Not together with subnet_id."
  type        = string
  default     = null

  validation {
    # A Local Zone has a longer name, such as us-west-2-lax-1a.
    condition     = var.availability_zone == null || can(regex("^[a-z]{2}(-[a-z]+)+-[0-9][a-z0-9-]*[a-z]$", var.availability_zone))
    error_message = "The availability_zone must look like eu-central-1a, or be null."
  }
}

variable "spot" {
  description = "Whether to launch on spare capacity, which costs less and which AWS may take back two minutes after it said so."
  type        = bool
  default     = false
  nullable    = false
}

variable "key_name" {
  description = "EC2 key pair that may log in; null means that only Session Manager can."
  type        = string
  default     = null
}

variable "tags" {
  description = "Tags for everything made here that can have some, beside Name; a run id belongs here."
  type        = map(string)
  default     = {}
  nullable    = false
}

# OPTIONAL: what the instance may do.

variable "permissions" {
  description = "`least_privilege`: an inline policy that allows PutMetricData for the namespaces of gpumon and the CloudWatch agent, and what the options below need. `managed`: CloudWatchAgentServerPolicy and AmazonSSMManagedInstanceCore of AWS, which allow more."
  type        = string
  default     = "least_privilege"
  nullable    = false

  validation {
    condition     = contains(["least_privilege", "managed"], var.permissions)
    error_message = "The permissions must be \"least_privilege\" or \"managed\"."
  }
}

variable "session_manager" {
  description = "Whether people can reach the instance through Session Manager, for a shell or SSH."
  type        = bool
  default     = true
  nullable    = false
}

# OPTIONAL: alarms.

variable "alarms" {
  description = "Whether to make the alarms: a GPU missing, a GPU unhealthy, GPU memory, temperature, no heartbeat."
  type        = bool
  default     = true
  nullable    = false
}

variable "alarm_actions" {
  description = "ARNs, such as of SNS topics, that are told when an alarm begins and when it ends; without any, alarms are only seen."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = length(var.alarm_actions) <= 5 && alltrue([for arn in var.alarm_actions : startswith(arn, "arn:")])
    error_message = "The alarm_actions must be at most 5 ARNs, such as arn:aws:sns:eu-central-1:123456789012:on-call."
  }
}

variable "alarm_memory_percent" {
  description = "GPU memory: alarm when the fullest GPU has more than this share of its memory allocated for 5 minutes. Frameworks that take all memory at once, such as TensorFlow, need 100, which is never exceeded."
  type        = number
  default     = 98
  nullable    = false

  validation {
    condition     = var.alarm_memory_percent > 0 && var.alarm_memory_percent <= 100
    error_message = "The alarm_memory_percent must be above 0 and at most 100."
  }
}

variable "alarm_temperature_celsius" {
  description = "Temperature: alarm when the hottest GPU is above this for 5 minutes. Data centre GPUs slow down at about 90."
  type        = number
  default     = 85
  nullable    = false

  validation {
    condition     = var.alarm_temperature_celsius >= 30 && var.alarm_temperature_celsius <= 120
    error_message = "The alarm_temperature_celsius must be 30 to 120."
  }
}

variable "alarm_heartbeat_minutes" {
  description = "Heartbeat: alarm after so many minutes without one."
  type        = number
  default     = 3
  nullable    = false

  validation {
    condition     = var.alarm_heartbeat_minutes >= 2 && var.alarm_heartbeat_minutes <= 1440 && floor(var.alarm_heartbeat_minutes) == var.alarm_heartbeat_minutes
    error_message = "The alarm_heartbeat_minutes must be a whole number, 2 to 1440."
  }
}

# OPTIONAL: graphs and logs.

variable "dashboard" {
  description = "Whether to make a CloudWatch dashboard of the instance."
  type        = bool
  default     = true
  nullable    = false
}

variable "dashboard_tiers" {
  description = "Tiers of metrics that the dashboard shows, in its order: `core`, `health`, `extended`. An image publishes the first two unless its gpumon is told otherwise."
  type        = list(string)
  default     = ["core", "health"]
  nullable    = false

  validation {
    condition     = length(var.dashboard_tiers) > 0 && length(setsubtract(var.dashboard_tiers, ["core", "health", "extended"])) == 0 && length(distinct(var.dashboard_tiers)) == length(var.dashboard_tiers)
    error_message = "The dashboard_tiers must be one or more of \"core\", \"health\" and \"extended\", each once."
  }
}

variable "log_group" {
  description = "Whether to make a log group that the instance may write to."
  type        = bool
  default     = false
  nullable    = false
}

variable "log_group_name" {
  description = "Name of the log group; null means `/gpunodes/` and the name, completed by AWS."
  type        = string
  default     = null

  validation {
    condition     = var.log_group_name == null || can(regex("^[A-Za-z0-9_./#-]{1,512}$", var.log_group_name))
    error_message = "The log_group_name must be 1 to 512 letters, digits and _ . / # -, or null."
  }
}

variable "log_retention_days" {
  description = "Days that the log group keeps what was written; 0 means for ever."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition = contains(
      [0, 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653],
      var.log_retention_days,
    )
    error_message = "The log_retention_days must be one of CloudWatch's: 0, 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 or 3653."
  }
}
