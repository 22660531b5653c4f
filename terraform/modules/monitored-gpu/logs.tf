# A place for log files. Nothing writes to it until the CloudWatch agent on the instance is told which files to send.

resource "aws_cloudwatch_log_group" "instance" {
  count = var.log_group ? 1 : 0

  name              = var.log_group_name
  name_prefix       = var.log_group_name == null ? "/gpunodes/${var.name}-" : null
  retention_in_days = var.log_retention_days
  tags              = local.tags
}
