#!/usr/bin/env bash
# sshd looks for keys that EC2 Instance Connect pushed: by the package's own unit files, or by sshd's configuration.
set -euo pipefail

log() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

has_package() {
  case "$family" in
    apt) [[ "$(dpkg-query --show --showformat '${db:Status-Status}' ec2-instance-connect 2>/dev/null)" == installed ]] ;;
    dnf) rpm --query --quiet ec2-instance-connect ;;
    *) return 1 ;;
  esac
}

is_configured() {
  # Not --quiet, which would stop reading and let sshd fail for it.
  sshd -T 2>/dev/null | grep '^authorizedkeyscommand .*/eic_run_authorized_keys ' >/dev/null
}

main() {
  local family="${PACKAGE_FAMILY:?Set PACKAGE_FAMILY to apt or dnf.}"
  if has_package || is_configured; then
    log "keys that EC2 Instance Connect pushes are accepted"
    return
  fi
  log "error: sshd does not look for keys that EC2 Instance Connect pushes; install ec2-instance-connect in the base."
  exit 1
}

main "$@"
