# What the module promises, without an account: the provider is a mock. A run starts the provider anew, which takes more than
# a second, so there is one for each set of variables.

mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }

  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }

  mock_resource "aws_codebuild_project" {
    defaults = { arn = "arn:aws:codebuild:eu-central-1:123456789012:project/ami-refresh-stable" }
  }

  mock_resource "aws_cloudwatch_event_rule" {
    defaults = { arn = "arn:aws:events:eu-central-1:123456789012:rule/ami-refresh-stable-failure" }
  }

  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:eu-central-1:123456789012:log-group:g" }
  }

  mock_resource "aws_cloudwatch_metric_alarm" {
    defaults = { arn = "arn:aws:cloudwatch:eu-central-1:123456789012:alarm:ami-refresh-stable-overdue" }
  }

  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/r" }
  }

  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:eu-central-1:123456789012:key/12345678-1234-1234-1234-123456789012" }
  }

  mock_resource "aws_sns_topic" {
    defaults = { arn = "arn:aws:sns:eu-central-1:123456789012:ami-refresh-stable" }
  }
}

variables {
  region     = "eu-central-1"
  repository = "https://github.com/example/gpunodes.git"
}

run "defaults_make_a_project_that_one_schedule_may_start" {
  # The project

  assert {
    condition     = aws_codebuild_project.refresh.concurrent_build_limit == 1 && aws_codebuild_project.refresh.build_timeout <= 240
    error_message = "One refresh at a time, and none may outlive the channel's lock."
  }

  assert {
    condition     = !aws_codebuild_project.refresh.environment[0].privileged_mode && alltrue([for variable in aws_codebuild_project.refresh.environment[0].environment_variable : !strcontains(variable.name, "KEY")])
    error_message = "The build must have no more rights on its machine than it needs, and no key."
  }

  assert {
    condition = { for variable in aws_codebuild_project.refresh.environment[0].environment_variable : variable.name => variable.value } == {
      REFRESH_CHANNEL        = "stable"
      REFRESH_AFTERWARDS     = "reap"
      REFRESH_ANNOUNCE       = "changes"
      REFRESH_TOPIC          = "arn:aws:sns:eu-central-1:123456789012:ami-refresh-stable"
      SESSION_MANAGER_PLUGIN = "https://s3.amazonaws.com/session-manager-downloads/plugin/1.2.764.0/ubuntu_64bit/session-manager-plugin.deb"
    }
    error_message = "The build must be told what to refresh and where to tell of it; what is not set must not be there."
  }

  assert {
    condition     = yamldecode(aws_codebuild_project.refresh.source[0].buildspec).phases.build.commands == ["scripts/scheduled-refresh --document /tmp/refresh.json"]
    error_message = "The build must run what buildspec.yml says."
  }

  assert {
    condition     = aws_cloudwatch_log_group.refresh.retention_in_days == 90 && aws_codebuild_project.refresh.logs_config[0].cloudwatch_logs[0].group_name == aws_cloudwatch_log_group.refresh.name
    error_message = "Logs must go to the group that forgets them."
  }

  # Its role

  assert {
    condition     = jsondecode(aws_iam_role.refresh.assume_role_policy).Statement[*].Principal == [{ Service = "codebuild.amazonaws.com" }] && jsondecode(aws_iam_role.refresh.assume_role_policy).Statement[0].Condition.StringEquals["aws:SourceArn"] == "arn:aws:codebuild:eu-central-1:123456789012:project/ami-refresh-stable"
    error_message = "Only CodeBuild may assume the role, and only for this project."
  }

  assert {
    condition     = alltrue([for role in [aws_iam_role.refresh, aws_iam_role.schedule] : !startswith(role.name, "gpunodes-")])
    error_message = "A refresh may write the policies of roles named gpunodes-*, so its own must not be."
  }

  assert {
    condition = jsondecode(aws_iam_role_policy.build.policy).Statement == [
      {
        Sid      = "WriteLogs"
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = ["arn:aws:logs:eu-central-1:123456789012:log-group:g:*"]
      },
      { Sid = "Announce", Effect = "Allow", Action = ["sns:Publish"], Resource = ["arn:aws:sns:eu-central-1:123456789012:ami-refresh-stable"] },
      {
        Sid      = "EncryptAnnouncements"
        Effect   = "Allow"
        Action   = ["kms:Decrypt", "kms:GenerateDataKey"]
        Resource = ["arn:aws:kms:eu-central-1:123456789012:key/12345678-1234-1234-1234-123456789012"]
      },
    ]
    error_message = "Beside a refresh the build may write its log and tell the topic, and nothing else."
  }

  # Its schedule

  assert {
    condition     = jsondecode(aws_iam_role_policy.schedule.policy).Statement == [{ Sid = "StartThisProject", Effect = "Allow", Action = ["codebuild:StartBuild"], Resource = ["arn:aws:codebuild:eu-central-1:123456789012:project/ami-refresh-stable"] }]
    error_message = "The schedule may start this project and nothing else."
  }

  assert {
    condition     = jsondecode(aws_iam_role.schedule.assume_role_policy).Statement[0].Condition.StringEquals["aws:SourceAccount"] == "123456789012"
    error_message = "No other account's schedule may use the role."
  }

  assert {
    condition     = aws_scheduler_schedule.refresh.state == "ENABLED" && aws_scheduler_schedule.refresh.flexible_time_window[0].maximum_window_in_minutes == 15 && aws_scheduler_schedule.refresh.target[0].retry_policy[0].maximum_event_age_in_seconds == 3600
    error_message = "The schedule is not as it is described."
  }

  # Its messages

  assert {
    condition = jsondecode(aws_cloudwatch_event_rule.failure.event_pattern).detail == {
      project-name = ["ami-refresh-stable"]
      build-status = ["FAILED", "FAULT", "STOPPED", "TIMED_OUT"]
    }
    error_message = "Every end but success must be told, of this project alone."
  }

  assert {
    condition     = alltrue([for name, path in aws_cloudwatch_event_target.failure.input_transformer[0].input_paths : strcontains(aws_cloudwatch_event_target.failure.input_transformer[0].input_template, "<${name}>")]) && can(jsondecode(aws_cloudwatch_event_target.failure.input_transformer[0].input_template))
    error_message = "The message must be a JSON string that has everything that is read from the event."
  }

  assert {
    condition = { for statement in jsondecode(aws_sns_topic_policy.refresh.policy).Statement : statement.Principal.Service => statement.Condition.ArnEquals["aws:SourceArn"] } == {
      "events.amazonaws.com"     = "arn:aws:events:eu-central-1:123456789012:rule/ami-refresh-stable-failure"
      "cloudwatch.amazonaws.com" = "arn:aws:cloudwatch:eu-central-1:123456789012:alarm:ami-refresh-stable-overdue"
    }
    error_message = "Only this rule and this alarm may tell the topic."
  }

  assert {
    condition     = aws_sns_topic.refresh.kms_master_key_id == aws_kms_key.topic.arn && aws_kms_key.topic.enable_key_rotation
    error_message = "The topic must be encrypted with a key that is rotated."
  }

  assert {
    condition     = [for statement in jsondecode(aws_kms_key.topic.policy).Statement : statement.Principal if contains(flatten([statement.Action]), "kms:*")] == [{ AWS = "arn:aws:iam::123456789012:root" }]
    error_message = "Only the account's own policies may say who else uses the key."
  }

  # Its alarm

  assert {
    condition     = [aws_cloudwatch_metric_alarm.overdue.evaluation_periods, aws_cloudwatch_metric_alarm.overdue.datapoints_to_alarm] == [48, 48] && aws_cloudwatch_metric_alarm.overdue.treat_missing_data == "breaching"
    error_message = "Two days without a success must alarm, and silence is none."
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.overdue.alarm_actions == toset(["arn:aws:sns:eu-central-1:123456789012:ami-refresh-stable"]) && aws_cloudwatch_metric_alarm.overdue.comparison_operator == "LessThanThreshold"
    error_message = "The alarm must tell the topic."
  }
}

run "one_day" {
  command = plan

  variables {
    alarm_days = 1
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.overdue.evaluation_periods == 24
    error_message = "A day has 24 hours."
  }
}

run "seven_days_and_everything_asked_for" {
  variables {
    alarm_days                    = 7
    channel                       = "canary"
    enabled                       = false
    flexible_window_minutes       = 0
    afterwards                    = ["prune", "reap"]
    announce                      = "every_run"
    email_addresses               = ["on-call@example.com"]
    evidence_bucket               = "example-evidence"
    connection_arn                = "arn:aws:codeconnections:eu-central-1:123456789012:connection/12345678-1234-1234-1234-123456789012"
    permissions_boundary_arn      = "arn:aws:iam::123456789012:policy/bounds"
    session_manager_plugin_sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.overdue.evaluation_periods * one([for query in aws_cloudwatch_metric_alarm.overdue.metric_query : query.metric[0].period if length(query.metric) > 0]) == 604800
    error_message = "Seven days are the most that CloudWatch looks back."
  }

  assert {
    condition     = aws_scheduler_schedule.refresh.state == "DISABLED" && aws_scheduler_schedule.refresh.flexible_time_window[0].mode == "OFF"
    error_message = "A schedule that is off must stay off."
  }

  assert {
    condition = { for statement in jsondecode(aws_iam_role_policy.build.policy).Statement : statement.Sid => statement.Action if contains(["KeepEvidence", "ReadRepository"], statement.Sid) } == {
      KeepEvidence   = ["s3:PutObject"]
      ReadRepository = ["codeconnections:GetConnection", "codeconnections:GetConnectionToken"]
    }
    error_message = "Evidence is put, the repository read."
  }

  assert {
    condition     = aws_codebuild_project.refresh.source[0].auth[0].type == "CODECONNECTIONS" && aws_iam_role.refresh.permissions_boundary == "arn:aws:iam::123456789012:policy/bounds"
    error_message = "The connection and the boundary must be used."
  }

  assert {
    condition     = length(aws_iam_role_policy.build.policy) + length(aws_iam_role_policy.refresh.policy) <= 10240
    error_message = "IAM allows 10,240 characters in all inline policies of a role."
  }

  assert {
    condition     = [for subscription in aws_sns_topic_subscription.email : subscription.endpoint] == ["on-call@example.com"] && aws_codebuild_project.refresh.name == "ami-refresh-canary"
    error_message = "The addresses must be subscribed, and the channel be part of the names."
  }
}

run "more_days_than_cloudwatch_looks_back_are_refused" {
  command = plan

  variables {
    alarm_days = 8
  }

  expect_failures = [var.alarm_days]
}

run "wrong_inputs_are_refused" {
  command = plan

  variables {
    repository                     = "https://user:secret@example.com/gpunodes.git"
    channel                        = "a/b"
    revision                       = "--upload-pack=x"
    source_type                    = "FTP"
    connection_arn                 = "connection"
    schedule                       = "23 */2 * * *"
    flexible_window_minutes        = 1441
    compute_type                   = "HUGE"
    timeout_minutes                = 241
    session_manager_plugin_version = "latest"
    session_manager_plugin_sha256  = "abc"
    evidence_bucket                = "s3://bucket"
    permissions_boundary_arn       = "bounds"
    email_addresses                = ["on-call"]
    announce                       = "nothing"
    alarm_days                     = 0
    log_retention_days             = 2
  }

  expect_failures = [
    var.repository, var.channel, var.revision, var.source_type, var.connection_arn, var.schedule, var.flexible_window_minutes,
    var.compute_type, var.timeout_minutes, var.session_manager_plugin_version, var.session_manager_plugin_sha256,
    var.evidence_bucket, var.permissions_boundary_arn, var.email_addresses, var.announce, var.alarm_days, var.log_retention_days,
  ]
}
