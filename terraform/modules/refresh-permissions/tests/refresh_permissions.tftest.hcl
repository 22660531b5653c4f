# What the policy promises, without an account: the provider is a mock.

mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }

  mock_data "aws_partition" {
    defaults = { partition = "aws-cn" }
  }
}

variables {
  region  = "cn-north-1"
  channel = "stable"
}

run "defaults_allow_a_refresh_and_nothing_that_is_another_s" {
  command = plan

  assert {
    condition     = alltrue([for action in flatten(jsondecode(output.policy).Statement[*].Action) : !strcontains(action, "*")])
    error_message = "Every action must be named."
  }

  assert {
    condition = [
      for statement in jsondecode(output.policy).Statement : statement.Sid if statement.Effect == "Allow" && contains(flatten([statement.Resource]), "*")
    ] == ["Look"]
    error_message = "Only what reads may be allowed on everything."
  }

  assert {
    condition = alltrue([
      for action in flatten([for statement in jsondecode(output.policy).Statement : statement.Action if statement.Sid == "Look"]) :
      can(regex(":(Describe|Get|List)", action))
    ])
    error_message = "What is allowed on everything must only read."
  }

  assert {
    condition = [
      for statement in jsondecode(output.policy).Statement : statement if contains(flatten([statement.Action]), "iam:PassRole")
      ] == [{
        Sid       = "PassRole"
        Effect    = "Allow"
        Action    = "iam:PassRole"
        Resource  = "arn:aws-cn:iam::123456789012:role/gpunodes-*"
        Condition = { StringEquals = { "iam:PassedToService" = "ec2.amazonaws.com" } }
    }]
    error_message = "Only roles of gpunodes may be passed, and only to EC2."
  }

  # What destroys or changes must tell ours by their tag.
  assert {
    condition = alltrue([
      for statement in jsondecode(output.policy).Statement : jsonencode(try(statement.Condition, "none")) == jsonencode({ StringEquals = { "aws:ResourceTag/gpunodes" = "true" } })
      if length(regexall("ec2:(Delete|Deregister|Disable|Enable|Modify|Stop|Terminate|Revoke|Authorize)", join(" ", flatten([statement.Action])))) > 0
    ])
    error_message = "EC2 may delete, change or stop only what has the tag gpunodes."
  }

  assert {
    condition = alltrue([
      for statement in jsondecode(output.policy).Statement : try(statement.Condition.StringEquals["aws:RequestTag/gpunodes"], "") == "true"
      if contains(flatten([statement.Resource]), "arn:aws-cn:ec2:cn-north-1:123456789012:instance/*") && contains(flatten([statement.Action]), "ec2:RunInstances")
    ])
    error_message = "An instance must get the tag gpunodes in the call that makes it."
  }

  assert {
    condition = toset(flatten([
      for statement in jsondecode(output.policy).Statement : statement.Resource if contains(flatten([statement.Action]), "ssm:PutParameter")
      ])) == toset([
      "arn:aws-cn:ssm:cn-north-1:123456789012:parameter/gpunodes/stable/ami-id",
      "arn:aws-cn:ssm:cn-north-1:123456789012:parameter/gpunodes/stable/lock",
      "arn:aws-cn:ssm:cn-north-1:123456789012:parameter/gpunodes/*/lock",
    ])
    error_message = "Of other channels only the locks may be written."
  }

  assert {
    condition     = [for statement in jsondecode(output.policy).Statement : statement.Action if statement.Effect == "Deny"] == ["sts:AssumeRole"]
    error_message = "A role that was made here must not be used from here."
  }

  # All inline policies of a role together may have 10,240 characters; the build's own take 1,500.
  assert {
    condition     = length(output.policy) < 8500
    error_message = "The policy is too long."
  }
}

run "pruning_with_keys_of_ones_own_allows_what_they_take_and_still_fits" {
  command = plan

  variables {
    afterwards     = ["prune", "reap"]
    image_key_arns = ["arn:aws-cn:kms:cn-north-1:123456789012:key/12345678-1234-1234-1234-123456789012"]
    image_users    = ["debian"]
  }

  assert {
    condition     = length(setsubtract(["ec2:DisableImage", "ec2:DescribeImageReferences", "autoscaling:DescribeLaunchConfigurations"], flatten(jsondecode(output.policy).Statement[*].Action))) == 0
    error_message = "A prune disables images, and asks who refers to them."
  }

  assert {
    condition     = [for statement in jsondecode(output.policy).Statement : statement.Resource if statement.Sid == "ImageKeys"] == [["arn:aws-cn:kms:cn-north-1:123456789012:key/12345678-1234-1234-1234-123456789012"]]
    error_message = "Only the keys that were named may be used."
  }

  assert {
    condition     = [for statement in jsondecode(output.policy).Statement : statement.Condition.StringEquals["ec2:osuser"] if statement.Sid == "PushKey"] == [["debian"]]
    error_message = "A key may be pushed only for the users of the images."
  }

  assert {
    condition     = length(output.policy) < 8500
    error_message = "The policy is too long."
  }
}

run "copies_are_made_and_named_in_the_regions_that_were_asked_for_and_in_no_other" {
  command = plan

  variables {
    afterwards     = ["prune", "reap"]
    regions        = ["cn-northwest-1", "cn-central-1", "cn-east-1"]
    image_key_arns = ["arn:aws-cn:kms:cn-north-1:123456789012:key/12345678-1234-1234-1234-123456789012"]
  }

  assert {
    condition     = [for statement in jsondecode(output.policy).Statement : statement.Resource if statement.Sid == "ChannelElsewhere"] == [[for region in ["cn-central-1", "cn-east-1", "cn-northwest-1"] : "arn:aws-cn:ssm:${region}:123456789012:parameter/gpunodes/stable/*"]]
    error_message = "The channel may be written there, and nothing else."
  }

  assert {
    condition     = [for statement in jsondecode(output.policy).Statement : length(statement.Resource) if contains(flatten([statement.Action]), "ec2:CopyImage")] == [8]
    error_message = "Images and snapshots of all regions take part in copies."
  }

  assert {
    condition     = length(output.policy) < 8500
    error_message = "The policy is too long."
  }
}

run "nothing_afterwards_allows_no_lock_of_another_channel" {
  command = plan

  variables {
    afterwards = []
  }

  assert {
    condition     = !strcontains(output.policy, "parameter/gpunodes/*/lock") && !strcontains(output.policy, "ec2:DisableImage\"")
    error_message = "What does not run must not be allowed."
  }
}

run "wrong_inputs_are_refused" {
  command = plan

  variables {
    region         = "Frankfurt"
    channel        = "a/b"
    afterwards     = ["destroy"]
    image_users    = []
    regions        = ["Ireland"]
    image_key_arns = ["alias/images"]
  }

  expect_failures = [var.region, var.channel, var.afterwards, var.image_users, var.regions, var.image_key_arns]
}
