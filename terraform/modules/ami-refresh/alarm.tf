# Whether refreshes go on at all: schedule, clone, bootstrap and refresh. CodeBuild counts what succeeded, and says nothing where
# nothing runs, so silence is what is alarmed on.

resource "aws_cloudwatch_metric_alarm" "overdue" {
  alarm_name          = "${local.name}-overdue"
  alarm_description   = "No refresh of the channel ${var.channel} has succeeded for ${var.alarm_days} days. Its images get older, security updates included. The log group ${aws_cloudwatch_log_group.refresh.name} says why."
  comparison_operator = "LessThanThreshold"
  threshold           = 1
  alarm_actions       = [aws_sns_topic.refresh.arn]
  ok_actions          = [aws_sns_topic.refresh.arn]
  tags                = var.tags

  # By the hour, so that it begins an hour late at most. Period and periods together may be 7 days, if the period is an hour
  # or longer.
  evaluation_periods  = 24 * var.alarm_days
  datapoints_to_alarm = 24 * var.alarm_days

  # Where there is not one success in all that CloudWatch looks at, there is nothing to fill.
  treat_missing_data = "breaching"

  metric_query {
    id    = "succeeded"
    label = "Refreshes that succeeded"

    metric {
      namespace   = "AWS/CodeBuild"
      metric_name = "SucceededBuilds"
      dimensions  = { ProjectName = aws_codebuild_project.refresh.name }
      period      = 3600
      stat        = "Sum"
    }
  }

  # Where datapoints are missing an alarm looks further back for others, and would see a success that is too old.
  metric_query {
    id          = "every_hour"
    label       = "Refreshes that succeeded"
    expression  = "FILL(succeeded, 0)"
    return_data = true
  }
}
