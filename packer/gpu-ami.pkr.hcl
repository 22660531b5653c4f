# One template for Packer 1.6.6 and for current Packer with the amazon plugin: it uses what both have. What only the newer
# can do (IMDSv2-only, deprecation, sharing) the seal step does through the API, for every Packer alike.

locals {
  tags = merge(var.tags, { "gpunodes:run-id" = var.run_id })

  # A tmpfs on every base: what the bake brings along never reaches the disk that is snapshotted.
  remote_folder = "/dev/shm"
  bake_dir      = "/dev/shm/gpunodes-bake"
  run_as_root   = "sudo env {{ .Vars }} bash {{ .Path }}"
  facts_dir     = var.facts_dir == "" ? dirname(var.manifest_path) : var.facts_dir
}

source "amazon-ebs" "gpu" {
  region        = var.region
  source_ami    = var.source_ami
  instance_type = var.instance_type

  custom_endpoint_ec2        = var.ec2_endpoint
  skip_region_validation     = var.skip_region_validation
  skip_metadata_api_check    = var.skip_metadata_api_check
  skip_credential_validation = var.skip_credential_validation

  vpc_id                                = var.vpc_id
  subnet_id                             = var.subnet_id
  security_group_id                     = var.security_group_id
  temporary_security_group_source_cidrs = var.temporary_security_group_source_cidrs
  iam_instance_profile                  = var.iam_instance_profile

  # The launch template of a spot launch carries spot_tags; Packer refuses them where spot_price is empty.
  spot_price = var.spot_price
  spot_tags  = var.spot_price == "" ? null : merge(local.tags, var.temporary_tags)

  communicator         = "ssh"
  ssh_username         = var.ssh_username
  ssh_private_key_file = var.ssh_private_key_file
  ssh_keypair_name     = var.ssh_keypair_name
  ssh_interface        = var.ssh_interface
  ssh_timeout          = "10m"

  launch_block_device_mappings {
    device_name           = var.root_device_name
    volume_type           = "gp3"
    volume_size           = var.root_volume_size_gib
    iops                  = 3000 # gp3's baseline; 1.6.6 sends 0 where these two are left out
    throughput            = 125
    encrypted             = var.encrypted
    delete_on_termination = true
  }

  ami_name        = var.ami_name
  ami_description = "GPU image with gpumon ${var.gpumon_version}, baked by gpunodes from ${var.source_ami}."

  tags            = merge(local.tags, { Name = var.ami_name })
  snapshot_tags   = var.skip_snapshot_tags ? {} : merge(local.tags, { Name = var.ami_name })
  run_tags        = merge(local.tags, var.temporary_tags, { Name = "gpunodes bake ${var.run_id}" })
  run_volume_tags = merge(local.tags, var.temporary_tags, { Name = "gpunodes bake ${var.run_id}" })
}

build {
  sources = ["source.amazon-ebs.gpu"]

  # As the SSH user: it owns the directory that the uploads go to.
  provisioner "shell" {
    remote_folder = local.remote_folder
    inline        = ["mkdir -m 0700 ${local.bake_dir} ${local.bake_dir}/provision ${local.bake_dir}/rootfs ${local.bake_dir}/wheelhouse"]
  }

  provisioner "file" {
    source      = "${var.provision_dir}/"
    destination = "${local.bake_dir}/provision"
  }

  provisioner "file" {
    source      = "${var.rootfs_dir}/"
    destination = "${local.bake_dir}/rootfs"
  }

  provisioner "file" {
    source      = "${var.wheelhouse_dir}/"
    destination = "${local.bake_dir}/wheelhouse"
  }

  # Each script that changes something ends with its check, so a failed check fails the bake.
  provisioner "shell" {
    remote_folder   = local.remote_folder
    execute_command = local.run_as_root
    environment_vars = [
      "AGENT_BASE_URL=${var.agent_base_url}",
      "AGENT_KEY_FINGERPRINT=${var.agent_key_fingerprint}",
      "AGENT_SHA256=${var.agent_sha256}",
      "AGENT_VERSION=${var.agent_version}",
      "BAKE_DIR=${local.bake_dir}",
      "DEBIAN_FRONTEND=noninteractive",
      "EXPECTED_GPUMON_VERSION=${var.gpumon_version}",
      "PACKAGE_FAMILY=${var.package_family}",
      "ROOTFS=${local.bake_dir}/rootfs",
      "WHEELHOUSE=${local.bake_dir}/wheelhouse",
    ]
    inline_shebang = "/bin/bash -e"
    inline = [
      "set -o errexit",
      "bash ${local.bake_dir}/provision/check-base.sh",
      "bash ${local.bake_dir}/provision/wait-for-cloud-init.sh",
      "bash ${local.bake_dir}/provision/hold-packages.sh",
      "bash ${local.bake_dir}/provision/settle-dlami.sh",
      "bash ${local.bake_dir}/provision/install-rootfs.sh",
      "bash ${local.bake_dir}/provision/install-instance-connect.sh",
      "bash ${local.bake_dir}/provision/install-gpumon.sh",
      "bash ${local.bake_dir}/provision/install-cloudwatch-agent.sh",
      "bash ${local.bake_dir}/provision/collect-facts.sh",
    ]
  }

  # One by one: Packer 1.6.6 downloads files only.
  provisioner "file" {
    direction   = "download"
    source      = "${local.bake_dir}/facts/facts.json"
    destination = "${local.facts_dir}/facts.json"
  }

  provisioner "file" {
    direction   = "download"
    source      = "${local.bake_dir}/facts/packages.tsv"
    destination = "${local.facts_dir}/packages.tsv"
  }

  # Uploaded one by one, because cleanup removes the bake directory. The connection stays until Packer stops the instance:
  # deleting keys does not end a session that is open.
  provisioner "shell" {
    remote_folder    = local.remote_folder
    execute_command  = local.run_as_root
    environment_vars = ["BAKE_DIR=${local.bake_dir}"]
    scripts = [
      "${var.provision_dir}/cleanup.sh",
      "${var.provision_dir}/verify-clean.sh",
    ]
  }

  post-processor "manifest" {
    output      = var.manifest_path
    custom_data = { run_id = var.run_id }
  }
}
