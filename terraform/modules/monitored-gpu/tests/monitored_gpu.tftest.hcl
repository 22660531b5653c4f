# What the module promises, without an account: the provider is a mock.

mock_provider "aws" {
  mock_data "aws_partition" {
    defaults = {
      partition = "aws-cn"
    }
  }

  mock_data "aws_ami" {
    defaults = {
      id               = "ami-0123456789abcdef0"
      root_device_name = "/dev/sda1"
      block_device_mappings = [
        { device_name = "/dev/sdb", no_device = "", virtual_name = "ephemeral0", ebs = { volume_size = "900" } },
        { device_name = "/dev/sda1", no_device = "", virtual_name = "", ebs = { volume_size = "35" } },
      ]
    }
  }

  mock_data "aws_subnet" {
    defaults = {
      vpc_id = "vpc-0123456789abcdef0"
    }
  }
}

variables {
  ami_id        = "ami-0123456789abcdef0"
  instance_type = "g5.12xlarge"
  name          = "gpunodes-run-1"
  tags          = { "gpunodes:run-id" = "run-1" }
}

run "metadata_service_needs_a_token" {
  command = plan

  assert {
    condition     = aws_instance.gpu.metadata_options[0].http_tokens == "required"
    error_message = "IMDSv1 must be off."
  }

  assert {
    condition     = aws_instance.gpu.metadata_options[0].http_put_response_hop_limit == 1
    error_message = "Containers must not reach the role of their host."
  }
}

run "root_volume_is_encrypted_and_as_large_as_the_image" {
  command = plan

  assert {
    condition     = aws_instance.gpu.root_block_device[0].encrypted
    error_message = "The root volume must be encrypted."
  }

  assert {
    condition     = aws_instance.gpu.root_block_device[0].volume_type == "gp3"
    error_message = "The root volume must be gp3."
  }

  assert {
    condition     = aws_instance.gpu.root_block_device[0].volume_size == 35
    error_message = "The root volume must have the size of the image's root device, not of another device."
  }
}

run "security_group_lets_nothing_in_and_only_https_out" {
  command = plan

  assert {
    condition     = length(aws_security_group.instance.ingress) == 0
    error_message = "There must be no ingress rule."
  }

  assert {
    condition     = [for rule in aws_security_group.instance.egress : [rule.protocol, rule.from_port, rule.to_port]] == [["tcp", 443, 443]]
    error_message = "HTTPS must be the only way out."
  }
}

run "role_can_publish_and_be_reached_in_every_partition" {
  command = plan

  assert {
    condition = toset([for attachment in aws_iam_role_policy_attachment.instance : attachment.policy_arn]) == toset([
      "arn:aws-cn:iam::aws:policy/CloudWatchAgentServerPolicy",
      "arn:aws-cn:iam::aws:policy/AmazonSSMManagedInstanceCore",
    ])
    error_message = "The role must have just the two managed policies, in the partition of the region."
  }

  assert {
    condition     = jsondecode(aws_iam_role.instance.assume_role_policy).Statement[0].Principal.Service == "ec2.amazonaws.com"
    error_message = "Only EC2 may assume the role."
  }
}

run "names_of_parallel_runs_cannot_clash" {
  command = plan

  assert {
    condition = alltrue([
      for prefix in [
        aws_iam_role.instance.name_prefix,
        aws_iam_instance_profile.instance.name_prefix,
        aws_security_group.instance.name_prefix,
      ] : prefix == "gpunodes-run-1-"
    ])
    error_message = "AWS must complete every name."
  }
}

run "everything_is_tagged" {
  command = plan

  assert {
    condition = alltrue([
      for tags in [
        aws_iam_role.instance.tags,
        aws_iam_instance_profile.instance.tags,
        aws_security_group.instance.tags,
        aws_instance.gpu.tags,
        aws_instance.gpu.root_block_device[0].tags,
      ] : tags == tomap({ "Name" = "gpunodes-run-1", "gpunodes:run-id" = "run-1" })
    ])
    error_message = "Every resource must carry the given tags and its Name."
  }
}

run "subnet_brings_its_vpc" {
  command = plan

  variables {
    subnet_id = "subnet-0123456789abcdef0"
  }

  assert {
    condition     = aws_security_group.instance.vpc_id == "vpc-0123456789abcdef0"
    error_message = "The security group must lie in the VPC of the subnet."
  }

  assert {
    condition     = aws_instance.gpu.subnet_id == "subnet-0123456789abcdef0"
    error_message = "The instance must lie in the subnet."
  }
}

run "malformed_image_is_refused" {
  command = plan

  variables {
    ami_id = "ubuntu-24.04"
  }

  expect_failures = [var.ami_id]
}

run "malformed_instance_type_is_refused" {
  command = plan

  variables {
    instance_type = "g5"
  }

  expect_failures = [var.instance_type]
}

run "malformed_subnet_is_refused" {
  command = plan

  variables {
    subnet_id = "vpc-0123456789abcdef0"
  }

  expect_failures = [var.subnet_id]
}

run "name_that_is_too_long_for_a_role_is_refused" {
  command = plan

  variables {
    name = "gpunodes-0123456789012345678901234567x"
  }

  expect_failures = [var.name]
}
