# Who is told. The build itself sends the summary of a refresh. Of a build that did not succeed EventBridge tells as well, for
# one that crashed, timed out or was stopped sends nothing.

resource "aws_sns_topic" "refresh" {
  name              = local.name
  display_name      = "gpunodes ${var.channel}"
  kms_master_key_id = aws_kms_key.topic.arn
  tags              = var.tags
}

resource "aws_sns_topic_subscription" "email" {
  for_each = var.email_addresses

  topic_arn = aws_sns_topic.refresh.arn
  protocol  = "email"
  endpoint  = each.value
}

resource "aws_cloudwatch_event_rule" "failure" {
  name        = "${local.name}-failure"
  description = "Refreshes of the channel ${var.channel} that did not succeed."
  tags        = var.tags

  event_pattern = jsonencode({
    source      = ["aws.codebuild"]
    detail-type = ["CodeBuild Build State Change"]
    detail = {
      project-name = [local.name]
      build-status = ["FAILED", "FAULT", "STOPPED", "TIMED_OUT"]
    }
  })
}

resource "aws_cloudwatch_event_target" "failure" {
  rule = aws_cloudwatch_event_rule.failure.name
  arn  = aws_sns_topic.refresh.arn

  input_transformer {
    input_paths = {
      build  = "$.detail.build-id"
      log    = "$.detail.additional-information.logs.deep-link"
      status = "$.detail.build-status"
    }

    # Not jsonencode: it would escape the angle brackets.
    input_template = join("", [
      "\"The refresh of channel ${var.channel} ended as <status>. The end of its log says why, in a line that begins with error:. ",
      "If another run has the channel, nothing is to be done: the next one goes on. ",
      "Log: <log> Build: <build>\"",
    ])
  }
}

resource "aws_sns_topic_policy" "refresh" {
  arn = aws_sns_topic.refresh.arn

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "TellOfFailures"
        Effect    = "Allow"
        Action    = "sns:Publish"
        Resource  = aws_sns_topic.refresh.arn
        Principal = { Service = "events.amazonaws.com" }
        Condition = { ArnEquals = { "aws:SourceArn" = aws_cloudwatch_event_rule.failure.arn } }
      },
      {
        Sid       = "TellOfTheAlarm"
        Effect    = "Allow"
        Action    = "sns:Publish"
        Resource  = aws_sns_topic.refresh.arn
        Principal = { Service = "cloudwatch.amazonaws.com" }
        Condition = { ArnEquals = { "aws:SourceArn" = aws_cloudwatch_metric_alarm.overdue.arn } }
      },
    ]
  })
}

# A key of its own: that of AWS for SNS lets neither EventBridge nor CloudWatch encrypt.
resource "aws_kms_key" "topic" {
  description             = "Encrypts what the topic ${local.name} tells."
  enable_key_rotation     = true
  deletion_window_in_days = 7
  tags                    = var.tags

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      # As in every key policy of AWS: without it nobody could ever change the key. It lets IAM policies decide, and gives
      # nobody anything.
      {
        Sid       = "LetPoliciesOfTheAccountDecide"
        Effect    = "Allow"
        Action    = "kms:*"
        Resource  = "*"
        Principal = { AWS = "${local.arn}:iam::${local.account}:root" }
      },
      # KMS cannot tell here which rule asks: EventBridge names no source to it. The policy of the topic does.
      {
        Sid       = "EncryptMessages"
        Effect    = "Allow"
        Action    = ["kms:Decrypt", "kms:GenerateDataKey*"]
        Resource  = "*"
        Principal = { Service = ["cloudwatch.amazonaws.com", "events.amazonaws.com"] }
      },
    ]
  })
}
