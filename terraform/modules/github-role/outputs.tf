output "role_arn" {
  description = "Role, for the repository variable GPUNODES_REFRESH_ROLE."
  value       = aws_iam_role.refresh.arn
}
