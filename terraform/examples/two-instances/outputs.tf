output "instance_ids" {
  description = "Ids of the instances by their names."
  value       = { for name, instance in module.instance : name => instance.instance_id }
}

output "dashboard_names" {
  description = "Names of their dashboards by the names of the instances."
  value       = { for name, instance in module.instance : name => instance.dashboard_name }
}

output "alarm_names" {
  description = "Names of their alarms, by the names of the instances and by what they watch."
  value       = { for name, instance in module.instance : name => instance.alarm_names }
}
