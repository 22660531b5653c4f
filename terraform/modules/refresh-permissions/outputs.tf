output "policy" {
  description = "Policy as JSON, for an inline policy: it is longer than a managed one may be."
  value       = jsonencode({ Version = "2012-10-17", Statement = local.statements })
}
