# Who may use the role, without an account: the provider is a mock.

mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }

  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }

  mock_resource "aws_iam_openid_connect_provider" {
    defaults = { arn = "arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com" }
  }
}

variables {
  repository = "example/gpunodes"
  region     = "eu-central-1"
}

run "only_the_default_branch_of_the_repository_may_use_it" {
  assert {
    condition = jsondecode(aws_iam_role.refresh.assume_role_policy).Statement == [{
      Effect    = "Allow"
      Action    = "sts:AssumeRoleWithWebIdentity"
      Principal = { Federated = "arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com" }
      Condition = {
        StringEquals = {
          "token.actions.githubusercontent.com:aud" = "sts.amazonaws.com"
          "token.actions.githubusercontent.com:sub" = "repo:example/gpunodes:ref:refs/heads/main"
        }
      }
    }]
    error_message = "Only workflows on the branch main of the repository may use the role."
  }

  assert {
    condition     = aws_iam_role.refresh.max_session_duration == 14400 && !startswith(aws_iam_role.refresh.name, "gpunodes-")
    error_message = "A refresh takes longer than an hour, and must not be able to write the policies of its own role."
  }

  assert {
    condition     = aws_iam_role_policy.refresh.policy == module.permissions.policy
    error_message = "The role must have the policy of a refresh."
  }
}

run "provider_that_exists_is_used" {
  command = plan

  variables {
    oidc_provider_arn = "arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com"
  }

  assert {
    condition     = length(aws_iam_openid_connect_provider.github) == 0
    error_message = "An account can have only one provider for GitHub."
  }
}

run "wrong_inputs_are_refused" {
  command = plan

  variables {
    repository               = "example/*"
    branch                   = "*"
    channel                  = "a/b"
    oidc_provider_arn        = "arn:aws:iam::123456789012:oidc-provider/accounts.google.com"
    permissions_boundary_arn = "bounds"
  }

  expect_failures = [var.repository, var.branch, var.channel, var.oidc_provider_arn, var.permissions_boundary_arn]
}
