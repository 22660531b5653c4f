output "instance_id" {
  description = "Id of the instance: the InstanceId dimension of its metrics."
  value       = module.instance.instance_id
}

output "private_ip" {
  description = "IPv4 address of the instance in its subnet."
  value       = module.instance.private_ip
}

output "availability_zone" {
  description = "Availability zone that AWS chose."
  value       = module.instance.availability_zone
}

output "security_group_id" {
  description = "Security group of the instance."
  value       = module.instance.security_group_id
}

output "role_name" {
  description = "IAM role of the instance; a policy that denies PutMetricData is put there for a while."
  value       = module.instance.role_name
}

output "run_id" {
  description = "The run that made the instance."
  value       = var.run_id
}
