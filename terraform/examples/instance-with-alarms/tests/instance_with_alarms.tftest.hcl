# That mail reaches whoever is on call; what the module makes is tested beside the module.

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

  mock_resource "aws_instance" {
    defaults = {
      id  = "i-0123456789abcdef0"
      arn = "arn:aws:ec2:eu-central-1:123456789012:instance/i-0123456789abcdef0"
    }
  }

  mock_resource "aws_sns_topic" {
    defaults = {
      arn = "arn:aws:sns:eu-central-1:123456789012:on-call"
    }
  }
}

variables {
  region = "eu-central-1"
  ami_id = "ami-0123456789abcdef0"
  email  = "on-call@example.com"
}

run "alarms_reach_the_address" {
  assert {
    condition     = aws_sns_topic_subscription.on_call.topic_arn == aws_sns_topic.on_call.arn && aws_sns_topic_subscription.on_call.endpoint == "on-call@example.com"
    error_message = "The address must be subscribed to the topic that the alarms tell."
  }

  assert {
    condition     = length(output.alarm_names) == 5 && output.dashboard_name != null && output.log_group_name != null
    error_message = "The instance must have alarms, a dashboard and a log group."
  }

  assert {
    condition     = aws_sns_topic.on_call.name_prefix == "trainer-on-call-"
    error_message = "AWS must complete the name of the topic."
  }
}

run "address_that_is_none_is_refused" {
  command = plan

  variables {
    email = "on call"
  }

  expect_failures = [var.email]
}
