#!/usr/bin/env bash
# Every file of $ROOTFS is on the image with the same content, and nobody but its owner can write it.
set -euo pipefail

log() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

main() {
  : "${ROOTFS:?Set ROOTFS to the directory of the files that go onto the image.}"
  local root="${ROOT_DIR:-/}"
  local file path
  while IFS= read -r -d '' file; do
    path="${root%/}/${file#"$ROOTFS"/}"
    if ! cmp --silent "$file" "$path"; then
      log "error: $path is not what packer/rootfs has there."
      exit 1
    fi
    if [[ -n "$(find "$path" -perm /022)" ]]; then
      log "error: $path can be written by others than its owner; set mode 0644."
      exit 1
    fi
  done < <(find "$ROOTFS" -type f -print0)
}

main "$@"
