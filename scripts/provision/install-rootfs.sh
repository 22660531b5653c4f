#!/usr/bin/env bash
# Lays the files of $ROOTFS at the same paths of the image, owned by root.
set -euo pipefail

log() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

main() {
  : "${ROOTFS:?Set ROOTFS to the directory of the files that go onto the image.}"
  local target="${ROOT_DIR:-/}"
  local check
  check="$(dirname "${BASH_SOURCE[0]}")/check-rootfs.sh"
  if [[ ! -d "$ROOTFS" ]]; then
    log "error: There is no directory $ROOTFS; upload packer/rootfs first."
    exit 1
  fi
  umask 022
  cp --recursive --no-preserve=mode,ownership --no-target-directory "$ROOTFS" "$target"
  log "laid $(find "$ROOTFS" -type f | wc -l) files"
  bash "$check"
}

main "$@"
