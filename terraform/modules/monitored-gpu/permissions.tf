# What the instance may do in the account: publish metrics, be reached, and nothing else.

locals {
  # With the two managed policies the inline one is not made; they allow more than an instance of this image uses.
  managed_policies = {
    least_privilege = []
    managed         = compact(["CloudWatchAgentServerPolicy", var.session_manager ? "AmazonSSMManagedInstanceCore" : ""])
  }[var.permissions]

  statements = {
    # gpumon and the CloudWatch agent call nothing else: who they are they learn from the metadata service.
    publish = {
      Sid      = "PublishMetrics"
      Effect   = "Allow"
      Action   = ["cloudwatch:PutMetricData"]
      Resource = "*" # the call knows no resources; the namespace is what limits it
      Condition = {
        StringEquals = { "cloudwatch:namespace" = [local.published.namespace, local.published.agent_namespace] }
      }
    }

    # Reporting to Systems Manager, and the two channels of a session. Run Command with documents of one's own, inventory
    # and patches need more: permissions = "managed".
    session_manager = {
      Sid    = "SessionManager"
      Effect = "Allow"
      Action = [
        "ssm:UpdateInstanceInformation",
        "ssmmessages:CreateControlChannel",
        "ssmmessages:CreateDataChannel",
        "ssmmessages:OpenControlChannel",
        "ssmmessages:OpenDataChannel",
      ]
      Resource = "*" # the instance finds itself by its credentials
    }

    log_group = {
      Sid      = "WriteLogs"
      Effect   = "Allow"
      Action   = ["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"]
      Resource = [for arn in aws_cloudwatch_log_group.instance[*].arn : "${arn}:*"]
    }
  }

  wanted_statements = compact([
    "publish",
    var.session_manager ? "session_manager" : "",
    var.log_group ? "log_group" : "",
  ])
}

data "aws_partition" "current" {}

resource "aws_iam_role" "instance" {
  name_prefix           = "${var.name}-"
  description           = "Lets a GPU instance publish metrics and be reached through Session Manager."
  force_detach_policies = true # one that was added by hand must not keep the role from being destroyed
  tags                  = local.tags

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "ec2.amazonaws.com" }
    }]
  })
}

resource "aws_iam_role_policy" "least_privilege" {
  count = var.permissions == "least_privilege" ? 1 : 0

  name = "least-privilege"
  role = aws_iam_role.instance.name

  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [for name in local.wanted_statements : local.statements[name]]
  })
}

resource "aws_iam_role_policy_attachment" "managed" {
  for_each = toset(local.managed_policies)

  role       = aws_iam_role.instance.name
  policy_arn = "arn:${data.aws_partition.current.partition}:iam::aws:policy/${each.key}"
}

resource "aws_iam_instance_profile" "instance" {
  name_prefix = "${var.name}-"
  role        = aws_iam_role.instance.name
  tags        = local.tags
}
