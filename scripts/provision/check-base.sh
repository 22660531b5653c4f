#!/usr/bin/env bash
# The base image is one that gpumon can work on: package family, disk, Python, and an NVIDIA driver that is whole.
# Runs first and changes nothing, so that a base that does not fit costs a minute and no more.
set -euo pipefail

log() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

fail() {
  log "error: $*"
  exit 1
}

check_family() {
  local program name
  name="$(sed -n 's/^PRETTY_NAME=//p' "${OS_RELEASE:-/etc/os-release}" | tr -d '"')"
  case "$family" in
    apt) program=apt-get ;;
    dnf) program=dnf ;;
    *) fail "The package family $family is not known; set package_family to apt or dnf." ;;
  esac
  command -v "$program" >/dev/null ||
    fail "The base image (${name:-unknown}) has no $program; choose the flavor whose package family it has."
}

check_disk() {
  local free_bytes
  free_bytes="$(df --output=avail --block-size=1 / | tail -n 1)"
  ((free_bytes >= 2 * 1024 ** 3)) ||
    fail "The root volume has $((free_bytes / 1024 ** 2)) MiB free and the bake needs 2048; raise root_volume_size_gib."
}

# Prints the version in the name of the NVML library that a program would load; empty where the name has none.
library_version() {
  python3 - <<'PYTHON'
import ctypes, os, re, sys

try:
    ctypes.CDLL("libnvidia-ml.so.1")
except OSError:
    sys.exit(1)
with open("/proc/self/maps") as maps:
    paths = [line.split()[-1] for line in maps if "libnvidia-ml.so" in line]
found = re.search(r"\.so\.(\d+\.[\d.]+)$", os.path.realpath(paths[0])) if paths else None
print(found.group(1) if found else "")
PYTHON
}

# The kernel that the next boot takes; empty where the base does not say.
default_kernel() {
  local image
  if command -v grubby >/dev/null; then
    image="$(grubby --default-kernel 2>/dev/null)" || image=""
  else
    image="$(readlink "${BOOT_DIR:-/boot}/vmlinuz")" || image=""
  fi
  printf '%s' "${image##*vmlinuz-}"
}

# A base without kernels of its own, as a container has, has no modules to look at.
check_modules() {
  local library="$1" modules="${MODULES_DIR:-/lib/modules}"
  local kernel version
  for kernel in "$(uname --kernel-release)" "$(default_kernel)"; do
    if [[ -z "$kernel" || ! -d "$modules/$kernel" ]]; then continue; fi
    version="$(modinfo --set-version "$kernel" --field version nvidia 2>/dev/null)" ||
      fail "Kernel $kernel of the base image has no nvidia module; use a base whose driver was built for it."
    if [[ -n "$library" && "$version" != "$library" ]]; then
      fail "The nvidia module of kernel $kernel is $version and libnvidia-ml is $library; use a base where they agree."
    fi
  done
}

main() {
  local family="${PACKAGE_FAMILY:?Set PACKAGE_FAMILY to apt or dnf.}"
  local library
  check_family
  check_disk
  command -v python3 >/dev/null || fail "The base image has no python3; use a base that has."
  library="$(library_version)" ||
    fail "The base image has no NVIDIA driver (libnvidia-ml.so.1 does not load); use a GPU base, such as a DLAMI."
  check_modules "$library"
  log "the base fits; NVIDIA driver ${library:-of unknown version}"
}

main "$@"
