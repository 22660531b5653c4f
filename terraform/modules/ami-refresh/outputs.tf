output "project_name" {
  description = "CodeBuild project; `aws codebuild start-build --project-name` begins a refresh by hand."
  value       = aws_codebuild_project.refresh.name
}

output "role_arn" {
  description = "Role of the build, for the policies of what it may use: an evidence bucket, image keys."
  value       = aws_iam_role.refresh.arn
}

output "topic_arn" {
  description = "SNS topic that gets summaries, failures and the alarm."
  value       = aws_sns_topic.refresh.arn
}

output "alarm_name" {
  description = "CloudWatch alarm that no refresh has succeeded."
  value       = aws_cloudwatch_metric_alarm.overdue.alarm_name
}

output "log_group_name" {
  description = "Log group with what refreshes printed."
  value       = aws_cloudwatch_log_group.refresh.name
}

output "schedule_name" {
  description = "EventBridge schedule."
  value       = aws_scheduler_schedule.refresh.name
}
