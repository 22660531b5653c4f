output "instance_id" {
  description = "Id of the instance: the InstanceId dimension of its metrics."
  value       = aws_instance.gpu.id
}

output "private_ip" {
  description = "IPv4 address of the instance in its subnet."
  value       = aws_instance.gpu.private_ip
}

output "availability_zone" {
  description = "Availability zone that AWS chose."
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
