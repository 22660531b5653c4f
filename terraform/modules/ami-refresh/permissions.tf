# What the build may do: what a refresh needs, which the module beside this one says, and to tell of it.

module "permissions" {
  source = "../refresh-permissions"

  region         = var.region
  channel        = var.channel
  afterwards     = var.afterwards
  regions        = var.regions
  image_users    = var.image_users
  image_key_arns = var.image_key_arns
}

locals {
  build_statements = concat(
    [
      {
        Sid      = "WriteLogs"
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = ["${aws_cloudwatch_log_group.refresh.arn}:*"]
      },
      { Sid = "Announce", Effect = "Allow", Action = ["sns:Publish"], Resource = [aws_sns_topic.refresh.arn] },
      {
        Sid      = "EncryptAnnouncements"
        Effect   = "Allow"
        Action   = ["kms:Decrypt", "kms:GenerateDataKey"]
        Resource = [aws_kms_key.topic.arn]
      },
    ],
    [
      for bucket in var.evidence_bucket[*] :
      { Sid = "KeepEvidence", Effect = "Allow", Action = ["s3:PutObject"], Resource = ["${local.arn}:s3:::${bucket}/evidence/*"] }
    ],
    [
      for connection in var.connection_arn[*] : {
        Sid      = "ReadRepository"
        Effect   = "Allow"
        Action   = [for action in ["GetConnection", "GetConnectionToken"] : "${split(":", connection)[2]}:${action}"]
        Resource = [connection]
      }
    ],
    [
      for repository in [for address in [var.repository] : basename(address) if var.source_type == "CODECOMMIT"] : {
        Sid      = "ReadRepository"
        Effect   = "Allow"
        Action   = ["codecommit:GitPull"]
        Resource = ["${local.arn}:codecommit:${var.region}:${local.account}:${repository}"]
      }
    ],
  )
}

resource "aws_iam_role" "refresh" {
  name                  = local.name
  description           = "Lets CodeBuild bake, prove and promote images of the channel ${var.channel}."
  permissions_boundary  = var.permissions_boundary_arn
  force_detach_policies = true
  tags                  = var.tags

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "codebuild.amazonaws.com" }
      Condition = {
        StringEquals = {
          "aws:SourceAccount" = local.account
          "aws:SourceArn"     = "${local.arn}:codebuild:${var.region}:${local.account}:project/${local.name}"
        }
      }
    }]
  })
}

resource "aws_iam_role_policy" "refresh" {
  name   = "refresh"
  role   = aws_iam_role.refresh.name
  policy = module.permissions.policy
}

resource "aws_iam_role_policy" "build" {
  name   = "build"
  role   = aws_iam_role.refresh.name
  policy = jsonencode({ Version = "2012-10-17", Statement = local.build_statements })
}
