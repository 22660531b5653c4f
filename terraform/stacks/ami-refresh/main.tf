# Credentials come from the environment, as for any AWS client. Where the state lies is your choice: put a file with a backend
# beside this one.
provider "aws" {
  region = var.region

  default_tags {
    tags = merge(var.tags, { "gpunodes:project" = "gpunodes" })
  }
}

module "refresh" {
  source = "../../modules/ami-refresh"

  region                         = var.region
  repository                     = var.repository
  channel                        = var.channel
  revision                       = var.revision
  source_type                    = var.source_type
  connection_arn                 = var.connection_arn
  schedule                       = var.schedule
  flexible_window_minutes        = var.flexible_window_minutes
  enabled                        = var.enabled
  afterwards                     = var.afterwards
  build_image                    = var.build_image
  compute_type                   = var.compute_type
  timeout_minutes                = var.timeout_minutes
  session_manager_plugin_version = var.session_manager_plugin_version
  session_manager_plugin_sha256  = var.session_manager_plugin_sha256
  evidence_bucket                = var.evidence_bucket
  image_users                    = var.image_users
  regions                        = var.regions
  image_key_arns                 = var.image_key_arns
  permissions_boundary_arn       = var.permissions_boundary_arn
  email_addresses                = var.email_addresses
  announce                       = var.announce
  alarm_days                     = var.alarm_days
  log_retention_days             = var.log_retention_days
}
