terraform {
  required_version = ">= 1.7"

  # Where a run keeps its state is said at init: -backend-config=path=...
  backend "local" {}

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100, < 7.0"
    }
  }
}
