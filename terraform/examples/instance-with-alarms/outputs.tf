output "instance_id" {
  description = "Id of the instance; `aws ssm start-session --target` takes it."
  value       = module.instance.instance_id
}

output "alarm_names" {
  description = "Names of the alarms by what they watch."
  value       = module.instance.alarm_names
}

output "dashboard_name" {
  description = "Name of the dashboard."
  value       = module.instance.dashboard_name
}

output "log_group_name" {
  description = "Log group that the instance may write to."
  value       = module.instance.log_group_name
}

output "topic_arn" {
  description = "Topic that the alarms tell; subscribe more addresses, or a pager."
  value       = aws_sns_topic.on_call.arn
}
