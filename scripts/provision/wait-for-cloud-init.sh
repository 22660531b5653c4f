#!/usr/bin/env bash
# Waits until cloud-init has finished with this boot: before that it may still change users, keys and package sources.
set -euo pipefail

log() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

main() {
  local status=0
  if ! command -v cloud-init >/dev/null; then
    log "error: The base image has no cloud-init; use one that has, or a clone would never get its own keys."
    exit 1
  fi
  timeout 300 cloud-init status --wait >/dev/null || status=$?
  case "$status" in
    0) log "cloud-init is done" ;;
    2) log "cloud-init is done, with errors that it recovered from: see /var/log/cloud-init.log" ;;
    124)
      log "error: cloud-init did not finish within 5 minutes; look at /var/log/cloud-init-output.log of the base image."
      exit 1
      ;;
    *)
      cloud-init status --long >&2 || true
      log "error: cloud-init failed on the bake instance (status $status); look at the reason above."
      exit 1
      ;;
  esac
}

main "$@"
