#!/usr/bin/env bash
# Makes the image accept keys that EC2 Instance Connect pushes, which is how test-instance logs in to its clones.
# Ubuntu's and Amazon Linux's own images come with the package; Debian's archive does not have it, and such an image is
# proven with a key pair.
set -euo pipefail

log() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

fail() {
  log "error: $*"
  exit 1
}

# By itself apt takes an archive that does not answer for a warning.
update_lists() {
  case "$family" in
    apt) apt-get --quiet=2 --option APT::Update::Error-Mode=any update ;;
    dnf) dnf --quiet makecache ;;
    *) fail "The package family $family is not known; set package_family to apt or dnf." ;;
  esac
}

is_in_archive() {
  case "$family" in
    apt) apt-cache show ec2-instance-connect >/dev/null 2>&1 ;;
    dnf) dnf --quiet info ec2-instance-connect >/dev/null 2>&1 ;;
  esac
}

install_package() {
  case "$family" in
    apt) apt-get --quiet=2 --option DPkg::Lock::Timeout=300 install --no-install-recommends ec2-instance-connect ;;
    dnf) dnf --quiet --assumeyes install ec2-instance-connect ;;
  esac
}

main() {
  local family="${PACKAGE_FAMILY:?Set PACKAGE_FAMILY to apt or dnf.}"
  local check
  check="$(dirname "${BASH_SOURCE[0]}")/check-instance-connect.sh"
  if bash "$check" 2>/dev/null; then
    log "the base image comes with EC2 Instance Connect"
    return
  fi
  update_lists || fail "The package lists cannot be fetched; see the reason above, or install ec2-instance-connect in the base."
  if ! is_in_archive; then
    log "this base has no package ec2-instance-connect: its images are proven with ssh_key = \"key_pair\""
    return
  fi
  install_package || fail "ec2-instance-connect cannot be installed; see the reason above, or install it in the base."
  bash "$check"
}

main "$@"
