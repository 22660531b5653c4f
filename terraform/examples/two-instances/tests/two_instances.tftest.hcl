# That instances of one configuration do not get in each other's way.

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
      gpus                    = [{ manufacturer = "NVIDIA", name = "A10G", count = 1, memory_size = 24576 }]
    }
  }

  # The same id for both: the names must differ even so.
  mock_resource "aws_instance" {
    defaults = {
      id  = "i-0123456789abcdef0"
      arn = "arn:aws:ec2:eu-central-1:123456789012:instance/i-0123456789abcdef0"
    }
  }
}

variables {
  region = "eu-central-1"
  ami_id = "ami-0123456789abcdef0"
}

run "each_instance_has_alarms_and_a_dashboard_of_its_own" {
  assert {
    condition     = toset(keys(output.instance_ids)) == toset(["inference", "training"])
    error_message = "There must be two instances."
  }

  assert {
    condition     = length(distinct(values(output.dashboard_names))) == 2
    error_message = "Each instance must have a dashboard of its own."
  }

  assert {
    condition     = length(distinct(flatten([for names in values(output.alarm_names) : values(names)]))) == 10
    error_message = "Each instance must have five alarms of its own."
  }
}
