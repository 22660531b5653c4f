# That the stack hands on what it is given; what the module makes of it is tested beside the module.

mock_provider "aws" {
  mock_data "aws_partition" {
    defaults = {
      partition = "aws"
    }
  }

  mock_data "aws_ami" {
    defaults = {
      id                    = "ami-0123456789abcdef0"
      architecture          = "x86_64"
      root_device_name      = "/dev/sda1"
      block_device_mappings = [{ device_name = "/dev/sda1", no_device = "", virtual_name = "", ebs = { volume_size = "8" } }]
    }
  }

  mock_data "aws_ec2_instance_type" {
    defaults = {
      supported_architectures = ["x86_64"]
      gpus                    = [{ manufacturer = "NVIDIA", name = "A10G", count = 4, memory_size = 24576 }]
    }
  }

  mock_resource "aws_instance" {
    defaults = {
      id         = "i-0123456789abcdef0"
      arn        = "arn:aws:ec2:eu-central-1:123456789012:instance/i-0123456789abcdef0"
      private_ip = "10.0.0.7"
    }
  }
}

variables {
  region        = "eu-central-1"
  run_id        = "20261122-001642-abcd"
  ami_id        = "ami-0123456789abcdef0"
  instance_type = "g5.12xlarge"
}

run "tells_where_the_instance_is" {
  assert {
    condition     = output.instance_id == "i-0123456789abcdef0" && output.private_ip == "10.0.0.7"
    error_message = "The checks need the id and the address of the instance."
  }

  assert {
    condition     = output.role_name != null && output.security_group_id != null
    error_message = "The checks need the role and the security group of the instance."
  }

  assert {
    condition     = output.run_id == "20261122-001642-abcd"
    error_message = "The run id must come back."
  }
}

run "longest_run_id_still_fits_the_name_of_a_role" {
  command = plan

  variables {
    run_id = "0123456789012345678901234567"
  }
}

run "run_id_that_cannot_be_part_of_a_name_is_refused" {
  command = plan

  variables {
    run_id = "Run 1"
  }

  expect_failures = [var.run_id]
}

run "run_id_that_is_too_long_is_refused" {
  command = plan

  variables {
    run_id = "01234567890123456789012345678"
  }

  expect_failures = [var.run_id]
}
