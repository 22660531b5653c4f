locals {
  tags = merge(var.tags, { Name = var.name })

  root_volume_gib = one([
    for mapping in data.aws_ami.image.block_device_mappings : tonumber(mapping.ebs.volume_size)
    if mapping.device_name == data.aws_ami.image.root_device_name
  ])
}

# Image and type are read before anything is made, so that a wrong one costs nothing.
data "aws_ami" "image" {
  include_deprecated = true # a retired image can be asked what it did

  filter {
    name   = "image-id"
    values = [var.ami_id]
  }
}

data "aws_ec2_instance_type" "chosen" {
  instance_type = var.instance_type

  lifecycle {
    postcondition {
      condition     = contains(self.gpus[*].manufacturer, "NVIDIA")
      error_message = "${var.instance_type} has no NVIDIA GPU; name a type that has, such as g5.12xlarge."
    }

    postcondition {
      condition     = contains(self.supported_architectures, data.aws_ami.image.architecture)
      error_message = "${var.ami_id} is for ${data.aws_ami.image.architecture} and ${var.instance_type} runs ${join(" and ", self.supported_architectures)}; choose an image and a type that fit."
    }
  }
}

data "aws_subnet" "chosen" {
  count = var.subnet_id == null ? 0 : 1
  id    = var.subnet_id
}

resource "aws_security_group" "instance" {
  name_prefix = "${var.name}-"
  description = "Nothing reaches the instance; it reaches AWS over HTTPS."
  vpc_id      = one(data.aws_subnet.chosen[*].vpc_id)
  tags        = local.tags

  # Written out, so that a rule added by hand is drift and goes with the next apply. People come in through Session
  # Manager, which the instance itself opens.
  ingress = []

  # CloudWatch, STS and Session Manager speak HTTPS. The VPC's DNS, time and metadata services pass every security group.
  egress {
    description = "HTTPS to the AWS APIs"
    protocol    = "tcp"
    from_port   = 443
    to_port     = 443
    cidr_blocks = ["0.0.0.0/0"]
  }

  lifecycle {
    create_before_destroy = true # a group in use cannot be deleted
  }
}

resource "aws_instance" "gpu" {
  ami                    = data.aws_ami.image.id
  instance_type          = data.aws_ec2_instance_type.chosen.instance_type
  subnet_id              = var.subnet_id
  availability_zone      = var.availability_zone
  key_name               = var.key_name
  iam_instance_profile   = aws_iam_instance_profile.instance.name
  vpc_security_group_ids = [aws_security_group.instance.id]
  tags                   = local.tags

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1 # gpumon runs on the host; a container must not borrow the role of its host
  }

  root_block_device {
    encrypted   = true
    volume_type = "gp3"
    volume_size = local.root_volume_gib
    tags        = local.tags
  }

  dynamic "instance_market_options" {
    for_each = var.spot ? ["spot"] : []

    content {
      market_type = instance_market_options.value
    }
  }

  lifecycle {
    precondition {
      condition     = var.subnet_id == null || var.availability_zone == null
      error_message = "Set subnet_id or availability_zone, not both: a subnet lies in one zone."
    }
  }

  # gpumon publishes seconds after boot, and must not be denied then.
  depends_on = [aws_iam_role_policy.least_privilege, aws_iam_role_policy_attachment.managed]
}
