# What the module promises, without an account: the provider is a mock. A run starts the provider anew, which takes more than
# a second, so there is one for each set of variables, with everything in it that they decide.

mock_provider "aws" {
  mock_data "aws_partition" {
    defaults = {
      partition = "aws-cn"
    }
  }

  mock_data "aws_ami" {
    defaults = {
      id               = "ami-0123456789abcdef0"
      architecture     = "x86_64"
      root_device_name = "/dev/sda1"
      block_device_mappings = [
        { device_name = "/dev/sdb", no_device = "", virtual_name = "ephemeral0", ebs = { volume_size = "900" } },
        { device_name = "/dev/sda1", no_device = "", virtual_name = "", ebs = { volume_size = "35" } },
      ]
    }
  }

  mock_data "aws_ec2_instance_type" {
    defaults = {
      supported_architectures = ["x86_64"]
      gpus                    = [{ manufacturer = "NVIDIA", name = "A10G", count = 4, memory_size = 24576 }]
    }
  }

  mock_data "aws_subnet" {
    defaults = {
      vpc_id = "vpc-0123456789abcdef0"
    }
  }

  mock_resource "aws_instance" {
    defaults = {
      id  = "i-0123456789abcdef0"
      arn = "arn:aws-cn:ec2:cn-north-1:123456789012:instance/i-0123456789abcdef0"
    }
  }

  mock_resource "aws_cloudwatch_metric_alarm" {
    defaults = {
      arn = "arn:aws-cn:cloudwatch:cn-north-1:123456789012:alarm:a"
    }
  }

  mock_resource "aws_cloudwatch_log_group" {
    defaults = {
      arn = "arn:aws-cn:logs:cn-north-1:123456789012:log-group:g"
    }
  }
}

variables {
  ami_id        = "ami-0123456789abcdef0"
  instance_type = "g5.12xlarge"
  name          = "gpunodes-run-1"
  tags          = { "gpunodes:run-id" = "run-1" }
}

# --- Nothing asked for: the defaults

run "defaults_make_a_locked_instance_that_is_watched" {
  # The instance

  assert {
    condition     = aws_instance.gpu.metadata_options[0].http_tokens == "required"
    error_message = "IMDSv1 must be off."
  }

  assert {
    condition     = aws_instance.gpu.metadata_options[0].http_put_response_hop_limit == 1
    error_message = "Containers must not reach the role of their host."
  }

  assert {
    condition     = aws_instance.gpu.root_block_device[0].encrypted && aws_instance.gpu.root_block_device[0].volume_type == "gp3"
    error_message = "The root volume must be encrypted, and gp3."
  }

  assert {
    condition     = aws_instance.gpu.root_block_device[0].volume_size == 35
    error_message = "The root volume must have the size of the image's root device, not of another device."
  }

  assert {
    condition     = length(aws_instance.gpu.instance_market_options) == 0
    error_message = "The instance must be on demand unless spare capacity was asked for."
  }

  assert {
    condition     = length(aws_security_group.instance.ingress) == 0
    error_message = "There must be no ingress rule."
  }

  assert {
    condition     = [for rule in aws_security_group.instance.egress : [rule.protocol, rule.from_port, rule.to_port]] == [["tcp", 443, 443]]
    error_message = "HTTPS must be the only way out."
  }

  # Its permissions

  assert {
    condition     = jsondecode(aws_iam_role.instance.assume_role_policy).Statement[*].Principal == [{ Service = "ec2.amazonaws.com" }]
    error_message = "Only EC2 may assume the role."
  }

  assert {
    condition     = aws_iam_role.instance.force_detach_policies
    error_message = "A policy that was added by hand must not keep the role from being destroyed."
  }

  assert {
    condition     = length(aws_iam_role_policy_attachment.managed) == 0
    error_message = "There must be no managed policy beside the inline one."
  }

  assert {
    condition = jsondecode(aws_iam_role_policy.least_privilege[0].policy) == {
      Version = "2012-10-17"
      Statement = [
        {
          Sid       = "PublishMetrics"
          Effect    = "Allow"
          Action    = ["cloudwatch:PutMetricData"]
          Resource  = "*"
          Condition = { StringEquals = { "cloudwatch:namespace" = ["GPU", "CWAgent"] } }
        },
        {
          Sid    = "SessionManager"
          Effect = "Allow"
          Action = [
            "ssm:UpdateInstanceInformation",
            "ssmmessages:CreateControlChannel",
            "ssmmessages:CreateDataChannel",
            "ssmmessages:OpenControlChannel",
            "ssmmessages:OpenDataChannel",
          ]
          Resource = "*"
        },
      ]
    }
    error_message = "The role must publish to the two namespaces and be reached through Session Manager, and nothing else."
  }

  # Its alarms

  assert {
    condition = {
      for watched, alarm in aws_cloudwatch_metric_alarm.host : watched =>
      "${alarm.namespace} ${alarm.statistic}(${alarm.metric_name}) ${alarm.comparison_operator} ${alarm.threshold} in ${alarm.datapoints_to_alarm} of ${alarm.evaluation_periods} x ${alarm.period} s, missing: ${alarm.treat_missing_data}"
      } == {
      gpu-missing   = "GPU Maximum(GpuMissing) GreaterThanOrEqualToThreshold 1 in 3 of 5 x 60 s, missing: ignore"
      gpu-unhealthy = "GPU Maximum(GpuUnhealthy) GreaterThanOrEqualToThreshold 1 in 3 of 5 x 60 s, missing: ignore"
      gpu-memory    = "GPU Average(MemoryUtilizationMax) GreaterThanThreshold 98 in 5 of 5 x 60 s, missing: missing"
      heartbeat     = "GPU Sum(Heartbeat) LessThanThreshold 1 in 3 of 3 x 60 s, missing: breaching"
    }
    error_message = "The alarms of the host are not as they are described."
  }

  assert {
    condition     = alltrue([for alarm in aws_cloudwatch_metric_alarm.host : alarm.dimensions == tomap({ InstanceId = "i-0123456789abcdef0" })])
    error_message = "An alarm must look at this instance, with the dimensions of a metric of the host."
  }

  assert {
    condition = alltrue([
      for alarm in aws_cloudwatch_metric_alarm.host :
      contains([for metric in local.published.metrics : metric.name if metric.scope == "host" && metric.tier == "health"], alarm.metric_name)
    ])
    error_message = "An alarm looks at what gpumon does not publish of the host by default."
  }

  assert {
    condition     = one(aws_cloudwatch_metric_alarm.temperature[0].metric_query).expression == "SELECT MAX(Temperature) FROM SCHEMA(\"GPU\", InstanceId, GpuIndex, GpuUuid) WHERE InstanceId = 'i-0123456789abcdef0'"
    error_message = "The hottest GPU must be found without its UUID."
  }

  assert {
    condition = (
      aws_cloudwatch_metric_alarm.temperature[0].comparison_operator == "GreaterThanThreshold" &&
      aws_cloudwatch_metric_alarm.temperature[0].threshold == 85 &&
      aws_cloudwatch_metric_alarm.temperature[0].treat_missing_data == "missing"
    )
    error_message = "The alarm of the temperature must begin above 85 degrees, and say when nothing is known."
  }

  assert {
    condition = alltrue([
      for alarm in concat(values(aws_cloudwatch_metric_alarm.host), aws_cloudwatch_metric_alarm.temperature) :
      length(coalesce(alarm.alarm_actions, [])) == 0 && length(coalesce(alarm.ok_actions, [])) == 0
    ])
    error_message = "Nobody must be told unless somebody was named."
  }

  # Its dashboard

  assert {
    condition     = jsondecode(aws_cloudwatch_dashboard.instance[0].dashboard_body).widgets[0].properties.alarms == [for _ in range(5) : "arn:aws-cn:cloudwatch:cn-north-1:123456789012:alarm:a"]
    error_message = "The dashboard must begin with all five alarms."
  }

  assert {
    condition = [for widget in jsondecode(aws_cloudwatch_dashboard.instance[0].dashboard_body).widgets : widget.properties.markdown if widget.type == "text"] == [
      "## Core: each GPU", "## Health: each GPU", "## Health: the host", "## CloudWatch agent",
    ]
    error_message = "The parts must be in the order of the tiers, without empty ones."
  }

  assert {
    condition = [for widget in jsondecode(aws_cloudwatch_dashboard.instance[0].dashboard_body).widgets : widget.properties.title if widget.type == "metric"] == concat(
      [for metric in local.published.metrics : metric.title if contains(["core", "health"], metric.tier)],
      local.published.agent_metrics[*].title,
    )
    error_message = "Every metric that is published by default must have one graph, and no other."
  }

  assert {
    condition = [for widget in jsondecode(aws_cloudwatch_dashboard.instance[0].dashboard_body).widgets : widget if widget.type == "metric"][0] == {
      type   = "metric"
      width  = 8
      height = 6
      properties = {
        title  = "MemoryUsed (bytes, average)"
        region = "cn-north-1"
        view   = "timeSeries"
        stat   = "Average"
        period = 60
        metrics = [[{
          expression = "SEARCH('{GPU,InstanceId,GpuIndex,GpuUuid} MetricName=\"MemoryUsed\" InstanceId=\"i-0123456789abcdef0\"', 'Average', 60)"
          id         = "each"
          label      = "GPU $${PROP('Dim.GpuIndex')}"
        }]]
        yAxis       = { left = { label = "bytes", showUnits = false } }
        annotations = { horizontal = [] }
      }
    }
    error_message = "The memory of each GPU must come first, and find the GPUs by itself."
  }

  assert {
    condition = [
      for widget in jsondecode(aws_cloudwatch_dashboard.instance[0].dashboard_body).widgets : widget.properties.metrics
      if widget.type == "metric" && startswith(try(widget.properties.title, ""), "GpuMissing ")
    ] == [[["GPU", "GpuMissing", "InstanceId", "i-0123456789abcdef0"]]]
    error_message = "A metric of the host must be named with its one dimension."
  }

  assert {
    condition = [
      for widget in jsondecode(aws_cloudwatch_dashboard.instance[0].dashboard_body).widgets : widget.properties.metrics[0][0].expression
      if widget.type == "metric" && startswith(try(widget.properties.title, ""), "disk_used_percent ")
    ] == ["SEARCH('Namespace=\"CWAgent\" MetricName=\"disk_used_percent\" InstanceId=\"i-0123456789abcdef0\"', 'Average', 60)"]
    error_message = "A metric of the agent must be found whatever other dimensions it has."
  }

  assert {
    condition = {
      for widget in jsondecode(aws_cloudwatch_dashboard.instance[0].dashboard_body).widgets : split(" ", widget.properties.title)[0] => widget.properties.annotations.horizontal[0].value
      if length(try(widget.properties.annotations.horizontal, [])) > 0
    } == { MemoryUtilization = 98, MemoryUtilizationMax = 98, Temperature = 85 }
    error_message = "A line must show where an alarm begins."
  }

  # Its names and tags

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

  assert {
    condition = alltrue([
      for name in concat(values(output.alarm_names), [output.dashboard_name]) : startswith(name, "gpunodes-run-1-i-0123456789abcdef0")
    ])
    error_message = "What AWS does not complete must carry the id of the instance: CloudWatch replaces what has the same name."
  }

  assert {
    condition = output.alarm_names == {
      gpu-missing     = "gpunodes-run-1-i-0123456789abcdef0-gpu-missing"
      gpu-unhealthy   = "gpunodes-run-1-i-0123456789abcdef0-gpu-unhealthy"
      gpu-memory      = "gpunodes-run-1-i-0123456789abcdef0-gpu-memory"
      gpu-temperature = "gpunodes-run-1-i-0123456789abcdef0-gpu-temperature"
      heartbeat       = "gpunodes-run-1-i-0123456789abcdef0-heartbeat"
    }
    error_message = "The alarms must be found by what they watch."
  }

  assert {
    condition = alltrue([
      for tags in concat([
        aws_iam_role.instance.tags,
        aws_iam_instance_profile.instance.tags,
        aws_security_group.instance.tags,
        aws_instance.gpu.tags,
        aws_instance.gpu.root_block_device[0].tags,
      ], values(aws_cloudwatch_metric_alarm.host)[*].tags, aws_cloudwatch_metric_alarm.temperature[*].tags) :
      tags == tomap({ "Name" = "gpunodes-run-1", "gpunodes:run-id" = "run-1" })
    ])
    error_message = "Every resource must carry the given tags and its Name."
  }

  assert {
    condition     = length(aws_cloudwatch_log_group.instance) == 0 && output.log_group_name == null
    error_message = "There must be no log group unless it was asked for."
  }
}

# --- Everything chosen

run "choices_are_kept" {
  variables {
    subnet_id                 = "subnet-0123456789abcdef0"
    spot                      = true
    key_name                  = "mine"
    session_manager           = false
    alarm_actions             = ["arn:aws-cn:sns:cn-north-1:123456789012:on-call"]
    alarm_memory_percent      = 90
    alarm_temperature_celsius = 70
    alarm_heartbeat_minutes   = 10
    dashboard_tiers           = ["extended"]
    log_group                 = true
    log_group_name            = "/training/gpus"
    log_retention_days        = 7
  }

  assert {
    condition     = aws_security_group.instance.vpc_id == "vpc-0123456789abcdef0"
    error_message = "The security group must lie in the VPC of the subnet."
  }

  assert {
    condition     = aws_instance.gpu.subnet_id == "subnet-0123456789abcdef0" && aws_instance.gpu.key_name == "mine"
    error_message = "The instance must lie in the subnet, and know the key pair."
  }

  assert {
    condition     = one(aws_instance.gpu.instance_market_options).market_type == "spot"
    error_message = "The instance must be on spare capacity."
  }

  assert {
    condition = [for statement in jsondecode(aws_iam_role_policy.least_privilege[0].policy).Statement : [statement.Action, statement.Resource]] == [
      [["cloudwatch:PutMetricData"], "*"],
      [
        ["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"],
        ["arn:aws-cn:logs:cn-north-1:123456789012:log-group:g:*"],
      ],
    ]
    error_message = "Without Session Manager and with a log group the role may publish and write to that group, and nothing else."
  }

  assert {
    condition     = aws_cloudwatch_log_group.instance[0].name == "/training/gpus" && aws_cloudwatch_log_group.instance[0].retention_in_days == 7
    error_message = "The log group must have the name and the retention that were chosen."
  }

  assert {
    condition     = aws_cloudwatch_log_group.instance[0].tags == tomap({ "Name" = "gpunodes-run-1", "gpunodes:run-id" = "run-1" })
    error_message = "The log group must carry the given tags and its Name."
  }

  assert {
    condition = alltrue([
      for alarm in concat(values(aws_cloudwatch_metric_alarm.host), aws_cloudwatch_metric_alarm.temperature) :
      alarm.alarm_actions == toset(var.alarm_actions) && alarm.ok_actions == toset(var.alarm_actions)
    ])
    error_message = "Who was named must hear when an alarm begins and when it ends."
  }

  assert {
    condition = [
      aws_cloudwatch_metric_alarm.host["gpu-memory"].threshold,
      aws_cloudwatch_metric_alarm.temperature[0].threshold,
      aws_cloudwatch_metric_alarm.host["heartbeat"].evaluation_periods,
      aws_cloudwatch_metric_alarm.host["heartbeat"].datapoints_to_alarm,
    ] == [90, 70, 10, 10]
    error_message = "The thresholds must be those that were chosen."
  }

  assert {
    condition = [for widget in jsondecode(aws_cloudwatch_dashboard.instance[0].dashboard_body).widgets : widget.properties.markdown if widget.type == "text"] == [
      "## Extended: each GPU", "## CloudWatch agent",
    ]
    error_message = "The dashboard must show the tiers that were chosen."
  }
}

# --- Nothing beside the instance, and AWS's own policies

run "parts_that_were_declined_are_not_made" {
  variables {
    name              = "gpunodes-run-2"
    permissions       = "managed"
    alarms            = false
    dashboard         = false
    availability_zone = "cn-north-1b"
  }

  assert {
    condition = toset(values(aws_iam_role_policy_attachment.managed)[*].policy_arn) == toset([
      "arn:aws-cn:iam::aws:policy/CloudWatchAgentServerPolicy",
      "arn:aws-cn:iam::aws:policy/AmazonSSMManagedInstanceCore",
    ])
    error_message = "The role must have the two managed policies, in the partition of the region."
  }

  assert {
    condition     = length(aws_iam_role_policy.least_privilege) == 0
    error_message = "There must be no inline policy beside the managed ones."
  }

  assert {
    condition     = length(aws_cloudwatch_metric_alarm.host) + length(aws_cloudwatch_metric_alarm.temperature) + length(aws_cloudwatch_dashboard.instance) == 0
    error_message = "There must be neither alarms nor a dashboard."
  }

  assert {
    condition     = length(output.alarm_names) == 0 && output.dashboard_name == null
    error_message = "What was not made has no name."
  }

  assert {
    condition     = aws_instance.gpu.availability_zone == "cn-north-1b"
    error_message = "The instance must be in the zone that was chosen."
  }

  assert {
    condition = [aws_iam_role.instance.name_prefix, aws_iam_instance_profile.instance.name_prefix, aws_security_group.instance.name_prefix] == [
      "gpunodes-run-2-", "gpunodes-run-2-", "gpunodes-run-2-",
    ]
    error_message = "Another name must begin every name."
  }
}

run "managed_policies_can_do_without_session_manager_and_a_dashboard_without_alarms" {
  variables {
    permissions     = "managed"
    session_manager = false
    alarms          = false
    log_group       = true
  }

  assert {
    condition     = values(aws_iam_role_policy_attachment.managed)[*].policy_arn == ["arn:aws-cn:iam::aws:policy/CloudWatchAgentServerPolicy"]
    error_message = "The policy of Session Manager must be left out."
  }

  assert {
    condition = alltrue([
      for widget in jsondecode(aws_cloudwatch_dashboard.instance[0].dashboard_body).widgets :
      widget.type != "alarm" && length(try(widget.properties.annotations.horizontal, [])) == 0
    ])
    error_message = "Where there are no alarms the dashboard must not show any."
  }

  assert {
    condition     = aws_cloudwatch_log_group.instance[0].name_prefix == "/gpunodes/gpunodes-run-1-" && aws_cloudwatch_log_group.instance[0].retention_in_days == 30
    error_message = "AWS must complete the name of the log group, and it must forget."
  }
}

# --- What is refused. All variables of a run are checked, so each can hold one wrong value.

run "malformed_values_are_refused" {
  command = plan

  variables {
    ami_id                    = "ubuntu-24.04"
    instance_type             = "g5"
    name                      = "gpunodes-0123456789012345678901234567x" # one too long for a role
    subnet_id                 = "vpc-0123456789abcdef0"
    availability_zone         = "eu-central-1"
    permissions               = "all"
    alarm_actions             = ["on-call@example.com"]
    alarm_memory_percent      = 0
    alarm_temperature_celsius = 29
    alarm_heartbeat_minutes   = 1
    dashboard_tiers           = ["legacy"]
    log_group_name            = "two words"
    log_retention_days        = 8
  }

  expect_failures = [
    var.ami_id, var.instance_type, var.name, var.subnet_id, var.availability_zone, var.permissions, var.alarm_actions,
    var.alarm_memory_percent, var.alarm_temperature_celsius, var.alarm_heartbeat_minutes, var.dashboard_tiers,
    var.log_group_name, var.log_retention_days,
  ]
}

run "values_beyond_the_other_end_are_refused" {
  command = plan

  variables {
    name                      = ""
    alarm_actions             = [for n in range(6) : "arn:aws:sns:eu-central-1:123456789012:topic-${n}"]
    alarm_memory_percent      = 101
    alarm_temperature_celsius = 121
    alarm_heartbeat_minutes   = 2.5
    dashboard_tiers           = ["core", "core"]
    log_group_name            = ""
  }

  expect_failures = [
    var.name, var.alarm_actions, var.alarm_memory_percent, var.alarm_temperature_celsius, var.alarm_heartbeat_minutes,
    var.dashboard_tiers, var.log_group_name,
  ]
}

run "empty_page_and_very_long_silence_are_refused" {
  command = plan

  variables {
    dashboard_tiers         = []
    alarm_heartbeat_minutes = 1441
  }

  expect_failures = [var.dashboard_tiers, var.alarm_heartbeat_minutes]
}

run "subnet_and_zone_together_are_refused" {
  command = plan

  variables {
    subnet_id         = "subnet-0123456789abcdef0"
    availability_zone = "cn-north-1b"
  }

  expect_failures = [aws_instance.gpu]
}

run "type_of_another_architecture_is_refused" {
  command = plan

  override_data {
    target = data.aws_ec2_instance_type.chosen
    values = {
      supported_architectures = ["arm64"]
      gpus                    = [{ manufacturer = "NVIDIA", name = "T4g", count = 1, memory_size = 16384 }]
    }
  }

  expect_failures = [data.aws_ec2_instance_type.chosen]
}

run "type_without_an_nvidia_gpu_is_refused" {
  command = plan

  override_data {
    target = data.aws_ec2_instance_type.chosen
    values = {
      supported_architectures = ["x86_64"]
      gpus                    = [{ manufacturer = "AMD", name = "Radeon Pro V520", count = 1, memory_size = 8192 }]
    }
  }

  expect_failures = [data.aws_ec2_instance_type.chosen]
}
