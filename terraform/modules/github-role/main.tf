# The role of a GitHub Actions workflow that runs a refresh. GitHub vouches for the workflow with a token that AWS changes into
# credentials of a few hours: there is no key to keep.

module "permissions" {
  source = "../refresh-permissions"

  region     = var.region
  channel    = var.channel
  afterwards = var.afterwards
  regions    = var.regions
}

resource "aws_iam_openid_connect_provider" "github" {
  count = var.oidc_provider_arn == null ? 1 : 0

  url            = "https://token.actions.githubusercontent.com"
  client_id_list = ["sts.amazonaws.com"]
  tags           = var.tags
}

resource "aws_iam_role" "refresh" {
  # Not "gpunodes-": roles of that name are made and removed by the refresh itself, and it must not write its own policies.
  name                  = "ami-refresh-${var.channel}-github"
  description           = "Lets GitHub Actions of ${var.repository} bake, prove and promote images of the channel ${var.channel}."
  max_session_duration  = 4 * 60 * 60 # as long as a run has the channel's lock
  permissions_boundary  = var.permissions_boundary_arn
  force_detach_policies = true
  tags                  = var.tags

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRoleWithWebIdentity"
      Principal = { Federated = coalesce(var.oidc_provider_arn, one(aws_iam_openid_connect_provider.github[*].arn)) }
      Condition = {
        # Equal, not alike: a pull request or another branch has another subject, and a fork another repository.
        StringEquals = {
          "token.actions.githubusercontent.com:aud" = "sts.amazonaws.com"
          "token.actions.githubusercontent.com:sub" = "repo:${var.repository}:ref:refs/heads/${var.branch}"
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
