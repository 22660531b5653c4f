# One instance. Whoever is on call gets a message when one of its alarms begins, and when it ends.

provider "aws" {
  region = var.region
}

resource "aws_sns_topic" "on_call" {
  name_prefix = "${var.name}-on-call-"
}

# AWS asks the address whether it agrees; until then it gets nothing.
resource "aws_sns_topic_subscription" "on_call" {
  topic_arn = aws_sns_topic.on_call.arn
  protocol  = "email"
  endpoint  = var.email
}

module "instance" {
  source = "../../modules/monitored-gpu"

  name          = var.name
  ami_id        = var.ami_id
  instance_type = var.instance_type
  alarm_actions = [aws_sns_topic.on_call.arn]
  log_group     = true
}
