# Endpoints and credentials come from the environment (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_PROFILE, ...), so that this
# file is the same for an account and for the stand-in.
provider "aws" {
  region = var.region

  # The provider retries a lack of capacity, too, with its default of 25 for five minutes. The next zone is better.
  max_retries = 8

  default_tags {
    tags = merge(var.tags, {
      "gpunodes:project" = "gpunodes"
      "gpunodes:run-id"  = var.run_id
    })
  }
}

module "instance" {
  source = "../../modules/monitored-gpu"

  name              = "gpunodes-${var.run_id}"
  ami_id            = var.ami_id
  instance_type     = var.instance_type
  subnet_id         = var.subnet_id
  availability_zone = var.availability_zone
  spot              = var.spot
  key_name          = var.key_name
  permissions       = var.permissions

  # It lives for minutes, and the proof reads the datapoints themselves.
  alarms    = false
  dashboard = false
  log_group = false
}
