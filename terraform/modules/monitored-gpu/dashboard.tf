# One page with a graph for each metric that gpumon and the CloudWatch agent publish. metrics.json is made from
# gpumon/metrics.toml, with the metrics in the order in which they are to be seen.

locals {
  published = jsondecode(file("${path.module}/metrics.json"))

  # data.aws_region names this otherwise in version 6 of the provider than in 5; the ARN is the same in both.
  region = split(":", aws_instance.gpu.arn)[3]

  metrics_of = { for metric in local.published.metrics : "${metric.tier} ${metric.scope}" => metric... }
  scopes     = { gpu = "each GPU", host = "the host" }

  sections = concat(
    flatten([
      for tier in var.dashboard_tiers : [
        for scope, whose in local.scopes : {
          title   = "${title(tier)}: ${whose}"
          metrics = try(local.metrics_of["${tier} ${scope}"], [])
        }
      ]
    ]),
    [{ title = "CloudWatch agent", metrics = local.published.agent_metrics }],
  )

  # What a graph shows. GPUs are searched for, so that the page needs no UUID and shows a GPU that was replaced.
  graphs = { for metric in concat(local.published.metrics, local.published.agent_metrics) : metric.name => {
    gpu = [[{
      expression = "SEARCH('{${join(",", concat([local.published.namespace], local.published.gpu_dimensions))}} MetricName=\"${metric.name}\" InstanceId=\"${aws_instance.gpu.id}\"', '${metric.statistic}', 60)"
      id         = "each"
      label      = "GPU $${PROP('Dim.GpuIndex')}"
    }]]
    host = [[local.published.namespace, metric.name, "InstanceId", aws_instance.gpu.id]]
    agent = [[{
      expression = "SEARCH('Namespace=\"${local.published.agent_namespace}\" MetricName=\"${metric.name}\" InstanceId=\"${aws_instance.gpu.id}\"', '${metric.statistic}', 60)"
      id         = "each"
    }]]
  }[metric.scope] }

  # Lines in the graphs where the alarms begin.
  alarm_lines = { for name, threshold in {
    MemoryUtilization    = var.alarm_memory_percent
    MemoryUtilizationMax = var.alarm_memory_percent
    Temperature          = var.alarm_temperature_celsius
  } : name => [{ label = "alarm", value = threshold }] if var.alarms }

  # Without x and y CloudWatch puts a widget beside the one before, or below where there is no room.
  widgets = flatten([for section in local.sections : [
    [for heading in [section.title] : {
      type       = "text"
      width      = 24
      height     = 1
      properties = { markdown = "## ${heading}" }
    } if length(section.metrics) > 0],
    [for metric in section.metrics : {
      type   = "metric"
      width  = 8
      height = 6
      properties = {
        title       = metric.title
        region      = local.region
        view        = "timeSeries"
        stat        = metric.statistic
        period      = 60
        metrics     = local.graphs[metric.name]
        yAxis       = { left = merge({ label = metric.unit, showUnits = false }, metric.range) }
        annotations = { horizontal = lookup(local.alarm_lines, metric.name, []) }
      }
    }],
  ]])

  alarms_widget = {
    type   = "alarm"
    width  = 24
    height = 2
    properties = {
      title  = "Alarms"
      alarms = concat(values(aws_cloudwatch_metric_alarm.host)[*].arn, aws_cloudwatch_metric_alarm.temperature[*].arn)
    }
  }
}

resource "aws_cloudwatch_dashboard" "instance" {
  count = var.dashboard ? 1 : 0

  dashboard_name = "${var.name}-${aws_instance.gpu.id}"
  dashboard_body = jsonencode({
    start   = "-PT3H"
    widgets = concat([for widget in [local.alarms_widget] : widget if var.alarms], local.widgets)
  })
}
