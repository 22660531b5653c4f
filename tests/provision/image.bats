#!/usr/bin/env bats
# The overlay, the wait for cloud-init, and the proof of cleanliness.

load shims

setup() {
  setup_shims
  export ROOT_DIR="$BATS_TEST_TMPDIR/root" ROOTFS="$BATS_TEST_TMPDIR/rootfs" BAKE_DIR=/dev/shm/bake
  mkdir -p "$ROOT_DIR"/{etc,tmp,var/log,var/tmp,root,home/debian/.ssh} "$ROOTFS/etc/gpumon"
  : >"$ROOT_DIR/etc/machine-id"
  echo 'a = 1' >"$ROOTFS/etc/gpumon/gpumon.toml"
}

@test "the overlay lands at the same paths, writable by its owner only" {
  chmod 666 "$ROOTFS/etc/gpumon/gpumon.toml"
  run bash "$scripts/install-rootfs.sh"
  [ "$status" -eq 0 ]
  [ "$(stat -c %a "$ROOT_DIR/etc/gpumon/gpumon.toml")" = 644 ]
}

@test "an overlay that is missing is refused" {
  ROOTFS="$BATS_TEST_TMPDIR/none" run bash "$scripts/install-rootfs.sh"
  [ "$status" -eq 1 ]
  [[ "$output" == *"upload packer/rootfs first"* ]]
  run env --unset=ROOTFS bash "$scripts/install-rootfs.sh"
  [[ "$output" == *"Set ROOTFS to"* ]]
}

@test "the overlay's check notices another content" {
  bash "$scripts/install-rootfs.sh"
  echo 'a = 2' >"$ROOT_DIR/etc/gpumon/gpumon.toml"
  run bash "$scripts/check-rootfs.sh"
  [ "$status" -eq 1 ]
  [[ "$output" == *"is not what packer/rootfs has there"* ]]
}

@test "a clean disk passes" {
  run bash "$scripts/verify-clean.sh"
  echo "$output"
  [ "$status" -eq 0 ]
}

@test "every leftover is found and all are listed" {
  leftovers=(etc/ssh/ssh_host_ed25519_key etc/ssh/ssh_host_rsa_key.pub root/.ssh/authorized_keys
    home/debian/.ssh/authorized_keys home/debian/.bash_history root/.aws/credentials
    var/lib/cloud/instances/i-1/sem var/lib/systemd/random-seed var/lib/private/gpumon/spool
    opt/aws/amazon-cloudwatch-agent/etc/amazon-cloudwatch-agent.toml var/log/journal/x/system.journal var/log/auth.log
    tmp/secret var/tmp/.hidden var/lib/apt/lists/release dev/shm/bake/wheel)
  for path in "${leftovers[@]}"; do
    mkdir -p "$ROOT_DIR/${path%/*}"
    echo x >"$ROOT_DIR/$path"
  done
  echo 0123 >"$ROOT_DIR/etc/machine-id"
  echo ip-198-51-100-5 >"$ROOT_DIR/etc/hostname"
  run bash "$scripts/verify-clean.sh"
  [ "$status" -eq 1 ]
  for path in "${leftovers[@]}" etc/machine-id etc/hostname; do
    case "$path" in
      var/lib/cloud/*) path=var/lib/cloud/instances/i-1 ;;
      root/.aws/*) path=root/.aws/credentials ;;
      dev/shm/*) path=dev/shm/bake ;;
    esac
    grep -q "$ROOT_DIR/$path" <<<"$output" || { echo "not reported: $path" && false; }
  done
}

@test "cleanup and its proof need to know the bake directory" {
  for script in cleanup verify-clean; do
    run env --unset=BAKE_DIR bash "$scripts/$script.sh"
    [ "$status" -ne 0 ]
    [[ "$output" == *"Set BAKE_DIR to"* ]]
  done
}

@test "cloud-init that failed fails the bake and says why" {
  shim cloud-init 'if [[ "$2" == --wait ]]; then exit 1; fi; echo "detail: no datasource"'
  run bash "$scripts/wait-for-cloud-init.sh"
  [ "$status" -eq 1 ]
  [[ "$output" == *"detail: no datasource"* ]]
}

@test "cloud-init that recovered from errors is accepted" {
  shim cloud-init 'exit 2'
  run bash "$scripts/wait-for-cloud-init.sh"
  [ "$status" -eq 0 ]
}
