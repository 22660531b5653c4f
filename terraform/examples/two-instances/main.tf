# Instances of different types from one image, side by side: each has its own role, alarms and dashboard.

provider "aws" {
  region = var.region
}

module "instance" {
  source   = "../../modules/monitored-gpu"
  for_each = var.instance_types

  name          = "${var.name}-${each.key}"
  ami_id        = var.ami_id
  instance_type = each.value
  alarm_actions = var.alarm_actions
}
