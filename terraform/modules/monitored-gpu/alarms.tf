# What somebody must look at. Names carry the instance's id: CloudWatch would replace an alarm of the same name unasked.

locals {
  # Metrics of the host, so no alarm needs to know which GPUs there are; gpumon/metrics.toml says what each one means. A
  # fault counts when it shows in 3 of 5 minutes, so the seconds in which a driver loads at boot are none.
  host_alarms = {
    gpu-missing = {
      metric      = "GpuMissing"
      statistic   = "Maximum"
      comparison  = "GreaterThanOrEqualToThreshold"
      threshold   = 1
      minutes     = 5
      of_those    = 3
      missing     = "ignore" # a GPU does not come back because nobody reports it any more
      description = "A GPU that this instance should have does not answer. Drain the instance, reboot it, and replace it if that does not help."
    }
    gpu-unhealthy = {
      metric      = "GpuUnhealthy"
      statistic   = "Maximum"
      comparison  = "GreaterThanOrEqualToThreshold"
      threshold   = 1
      minutes     = 5
      of_those    = 3
      missing     = "ignore"
      description = "A GPU is missing, wants a reset, or reported an error after which its results cannot be trusted. GpuRecoveryAction and XidCritical of each GPU say which and why."
    }
    gpu-memory = {
      metric      = "MemoryUtilizationMax"
      statistic   = "Average"
      comparison  = "GreaterThanThreshold"
      threshold   = var.alarm_memory_percent
      minutes     = 5
      of_those    = 5
      missing     = "missing"
      description = "The memory of the fullest GPU is more than ${var.alarm_memory_percent} % allocated. MemoryUtilization of each GPU says which."
    }
    heartbeat = {
      metric      = "Heartbeat"
      statistic   = "Sum"
      comparison  = "LessThanThreshold"
      threshold   = 1
      minutes     = var.alarm_heartbeat_minutes
      of_those    = var.alarm_heartbeat_minutes
      missing     = "breaching" # what is dead says nothing
      description = "gpumon has published nothing for ${var.alarm_heartbeat_minutes} minutes: the instance, gpumon, its network or its permissions failed. No other alarm of this instance means anything until it does."
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "host" {
  for_each = var.alarms ? local.host_alarms : {}

  alarm_name          = "${var.name}-${aws_instance.gpu.id}-${each.key}"
  alarm_description   = each.value.description
  namespace           = local.published.namespace
  metric_name         = each.value.metric
  dimensions          = { InstanceId = aws_instance.gpu.id }
  statistic           = each.value.statistic
  period              = 60
  comparison_operator = each.value.comparison
  threshold           = each.value.threshold
  evaluation_periods  = each.value.minutes
  datapoints_to_alarm = each.value.of_those
  treat_missing_data  = each.value.missing
  alarm_actions       = var.alarm_actions
  ok_actions          = var.alarm_actions
  tags                = local.tags
}

# There is no temperature of the host, only one of each GPU, whose UUIDs nobody knows before the first boot. An alarm
# cannot SEARCH; a Metrics Insights query finds them.
resource "aws_cloudwatch_metric_alarm" "temperature" {
  count = var.alarms ? 1 : 0

  alarm_name          = "${var.name}-${aws_instance.gpu.id}-gpu-temperature"
  alarm_description   = "The hottest GPU is above ${var.alarm_temperature_celsius} degrees Celsius. Temperature and ThrottledThermal of each GPU say which, and whether it slows down already."
  comparison_operator = "GreaterThanThreshold"
  threshold           = var.alarm_temperature_celsius
  evaluation_periods  = 5
  datapoints_to_alarm = 5
  treat_missing_data  = "missing"
  alarm_actions       = var.alarm_actions
  ok_actions          = var.alarm_actions
  tags                = local.tags

  metric_query {
    id          = "hottest"
    label       = "Temperature of the hottest GPU"
    expression  = "SELECT MAX(Temperature) FROM SCHEMA(\"${local.published.namespace}\", ${join(", ", local.published.gpu_dimensions)}) WHERE InstanceId = '${aws_instance.gpu.id}'"
    period      = 60
    return_data = true
  }
}
