#!/usr/bin/env bats
# The overlay, and the wait for cloud-init.

load shims

setup() {
  setup_shims
  export ROOT_DIR="$BATS_TEST_TMPDIR/root" ROOTFS="$BATS_TEST_TMPDIR/rootfs"
  mkdir -p "$ROOT_DIR" "$ROOTFS/etc/gpumon"
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
