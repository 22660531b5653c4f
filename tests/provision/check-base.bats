#!/usr/bin/env bats
# What the base image has is played by programs in front of the real ones.

load shims

setup() {
  setup_shims
  export OS_RELEASE="$BATS_TEST_TMPDIR/os-release" PACKAGE_FAMILY=apt
  export MODULES_DIR="$BATS_TEST_TMPDIR/modules" BOOT_DIR="$BATS_TEST_TMPDIR/boot"
  mkdir -p "$MODULES_DIR" "$BOOT_DIR"
  echo 'PRETTY_NAME="Debian 12"' >"$OS_RELEASE"
  shim apt-get
  shim df 'echo Avail; echo 2147483648'
  shim uname 'echo 6.1.0'
  shim python3 'echo 595.64'
  shim modinfo 'echo 595.64'
  shim grubby 'echo /boot/vmlinuz-6.1.0'
}

refused_with() {
  run bash "$scripts/check-base.sh"
  echo "$output"
  [ "$status" -eq 1 ]
  [[ "$output" == *"check-base.sh: error: "*"$1"* ]]
  [ "$(grep -c error: <<<"$output")" -eq 1 ]
}

@test "a base with driver, disk and package family passes" {
  mkdir "$MODULES_DIR/6.1.0"
  run bash "$scripts/check-base.sh"
  [ "$status" -eq 0 ]
  [[ "$output" == *"NVIDIA driver 595.64"* ]]
  grep -q '^modinfo --set-version 6.1.0' "$commands"
}

@test "a base without the NVIDIA driver is refused" {
  shim python3 'exit 1'
  refused_with "has no NVIDIA driver (libnvidia-ml.so.1 does not load); use a GPU base"
}

@test "a library that Python really cannot load counts as no driver" {
  rm "$shims/python3"
  if python3 -c 'import ctypes; ctypes.CDLL("libnvidia-ml.so.1")' 2>/dev/null; then skip "this machine has the driver"; fi
  refused_with "has no NVIDIA driver"
}

@test "a base of the other package family is refused with its name" {
  PACKAGE_FAMILY=dnf
  PATH="$shims:$(dirname "$(command -v bash)")" # no dnf of the machine
  refused_with "The base image (Debian 12) has no dnf"
}

@test "a package family that does not exist is refused" {
  PACKAGE_FAMILY=yum
  refused_with "set package_family to apt or dnf"
}

@test "too little disk is refused with the figures" {
  shim df 'echo Avail; echo 2147483647'
  refused_with "has 2047 MiB free and the bake needs 2048; raise root_volume_size_gib"
}

@test "a kernel that the driver was not built for is refused, the running one and the one of the next boot" {
  mkdir "$MODULES_DIR"/6.1.0 "$MODULES_DIR"/6.2.0
  shim grubby 'echo /boot/vmlinuz-6.2.0'
  shim modinfo 'if [[ "$2" == 6.2.0 ]]; then exit 1; fi; echo 595.64'
  refused_with "Kernel 6.2.0 of the base image has no nvidia module"
  rm "$shims/grubby"
  ln -s vmlinuz-6.2.0 "$BOOT_DIR/vmlinuz"
  refused_with "Kernel 6.2.0 of the base image has no nvidia module"
}

@test "module and library of different versions are refused" {
  mkdir "$MODULES_DIR/6.1.0"
  shim modinfo 'echo 580.1'
  refused_with "is 580.1 and libnvidia-ml is 595.64"
}

@test "a base without Python is refused" {
  rm "$shims/python3"
  mkdir "$BATS_TEST_TMPDIR/bin"
  for name in bash sed tr tail; do ln -s "$(command -v $name)" "$BATS_TEST_TMPDIR/bin/$name"; done
  run env PATH="$shims:$BATS_TEST_TMPDIR/bin" bash "$scripts/check-base.sh"
  [ "$status" -eq 1 ]
  [[ "$output" == *"has no python3"* ]]
}

@test "the package family must be given" {
  run env --unset=PACKAGE_FAMILY bash "$scripts/check-base.sh"
  [ "$status" -ne 0 ]
  [[ "$output" == *"Set PACKAGE_FAMILY to"* ]]
}
