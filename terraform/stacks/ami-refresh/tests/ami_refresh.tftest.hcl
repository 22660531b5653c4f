# That the stack hands on what it is given; what the module makes of it is tested beside the module.

mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }

  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
}

run "everything_is_handed_on" {
  command = plan

  variables {
    region     = "eu-central-1"
    repository = "https://github.com/example/gpunodes.git"
    channel    = "canary"
  }

  assert {
    condition     = [output.project_name, output.schedule_name, output.alarm_name] == ["ami-refresh-canary", "ami-refresh-canary", "ami-refresh-canary-overdue"]
    error_message = "Names come from the channel."
  }
}
