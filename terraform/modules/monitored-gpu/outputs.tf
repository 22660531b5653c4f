output "instance_id" {
  description = "Id of the instance: the InstanceId dimension of its metrics."
  value       = aws_instance.gpu.id
}

output "private_ip" {
  description = "IPv4 address of the instance in its subnet."
  value       = aws_instance.gpu.private_ip
}

output "availability_zone" {
  description = "Availability zone that the instance is in."
  value       = aws_instance.gpu.availability_zone
}

output "role_name" {
  description = "IAM role of the instance, for policies of your own."
  value       = aws_iam_role.instance.name
}

output "security_group_id" {
  description = "Security group of the instance."
  value       = aws_security_group.instance.id
}

output "alarm_names" {
  description = "Names of the alarms by what they watch: gpu-missing, gpu-unhealthy, gpu-memory, gpu-temperature, heartbeat; empty without alarms."
  value = merge(
    { for watched, alarm in aws_cloudwatch_metric_alarm.host : watched => alarm.alarm_name },
    { for alarm in aws_cloudwatch_metric_alarm.temperature : "gpu-temperature" => alarm.alarm_name },
  )
}

output "dashboard_name" {
  description = "Name of the dashboard; null without one."
  value       = one(aws_cloudwatch_dashboard.instance[*].dashboard_name)
}

output "log_group_name" {
  description = "Name of the log group; null without one."
  value       = one(aws_cloudwatch_log_group.instance[*].name)
}
