output "project_name" {
  description = "CodeBuild project; `aws codebuild start-build --project-name` begins a refresh by hand."
  value       = module.refresh.project_name
}

output "role_arn" {
  description = "Role of the build, for the policies of what it may use: an evidence bucket, image keys."
  value       = module.refresh.role_arn
}

output "topic_arn" {
  description = "SNS topic that gets summaries, failures and the alarm."
  value       = module.refresh.topic_arn
}

output "alarm_name" {
  description = "CloudWatch alarm that no refresh has succeeded."
  value       = module.refresh.alarm_name
}

output "log_group_name" {
  description = "Log group with what refreshes printed."
  value       = module.refresh.log_group_name
}

output "schedule_name" {
  description = "EventBridge schedule."
  value       = module.refresh.schedule_name
}
