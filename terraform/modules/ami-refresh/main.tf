# The project that runs a refresh: one at a time, from a fresh clone, without a key of its own.

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

locals {
  # Not "gpunodes-": roles of that name are made and removed by the refresh itself, and it must not write its own policies.
  name    = "ami-refresh-${var.channel}"
  account = data.aws_caller_identity.current.account_id
  arn     = "arn:${data.aws_partition.current.partition}"

  settings = {
    REFRESH_CHANNEL               = var.channel
    REFRESH_AFTERWARDS            = join(" ", sort(var.afterwards))
    REFRESH_ANNOUNCE              = var.announce
    REFRESH_TOPIC                 = aws_sns_topic.refresh.arn
    REFRESH_EVIDENCE_BUCKET       = var.evidence_bucket
    SESSION_MANAGER_PLUGIN        = "https://s3.amazonaws.com/session-manager-downloads/plugin/${var.session_manager_plugin_version}/ubuntu_64bit/session-manager-plugin.deb"
    SESSION_MANAGER_PLUGIN_SHA256 = var.session_manager_plugin_sha256
  }
}

resource "aws_codebuild_project" "refresh" {
  name           = local.name
  description    = "Runs `invoke refresh-ami` for the channel ${var.channel}."
  service_role   = aws_iam_role.refresh.arn
  source_version = var.revision
  build_timeout  = var.timeout_minutes
  queued_timeout = 30
  tags           = var.tags

  # A second one would only be refused by the channel's lock.
  concurrent_build_limit = 1

  source {
    type            = var.source_type
    location        = var.repository
    git_clone_depth = 1
    buildspec       = file("${path.module}/buildspec.yml")

    dynamic "auth" {
      for_each = var.connection_arn[*]

      content {
        type     = "CODECONNECTIONS"
        resource = auth.value
      }
    }
  }

  environment {
    type         = "LINUX_CONTAINER"
    compute_type = var.compute_type
    image        = var.build_image

    privileged_mode = false

    dynamic "environment_variable" {
      for_each = { for name, value in local.settings : name => value if value != null && value != "" }

      content {
        name  = environment_variable.key
        value = environment_variable.value
      }
    }
  }

  artifacts {
    type = "NO_ARTIFACTS"
  }

  logs_config {
    cloudwatch_logs {
      group_name = aws_cloudwatch_log_group.refresh.name
    }
  }
}

resource "aws_cloudwatch_log_group" "refresh" {
  name              = "/gpunodes/${local.name}"
  retention_in_days = var.log_retention_days
  tags              = var.tags
}
