#!/usr/bin/env bash
# Fails, with the complete list, when the disk still holds something of the bake instance that a clone would inherit.
set -euo pipefail

log() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

# Prints every path that should be gone; takes the root of the file system to look at.
list_leftovers() {
  local root="$1"
  shopt -s nullglob dotglob
  printf '%s\n' "$root"/etc/ssh/ssh_host_*_key* \
    "$root"/root/.ssh/authorized_keys* "$root"/home/*/.ssh/authorized_keys* \
    "$root"/{root,home/*}/.{bash,python}_history "$root"/{root,home/*}/.aws/* "$root"/{root,home/*}/.gnupg/* \
    "$root"/var/lib/cloud/{instance,instances,data,sem}/* \
    "$root"/var/lib/systemd/{random-seed,credential.secret,coredump/*} \
    "$root"/var/lib/{gpumon,private/gpumon}/* \
    "$root"/opt/aws/amazon-cloudwatch-agent/etc/amazon-cloudwatch-agent.{toml,yaml}* \
    "$root"/opt/aws/amazon-cloudwatch-agent/{logs,var}/* \
    "$root"/{tmp,var/tmp}/* "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/archives/*.deb "$root"/var/cache/dnf/* |
    while IFS= read -r path; do if [[ -e "$path" || -L "$path" ]]; then printf '%s\n' "$path"; fi; done
  find "$root/var/log" -xdev -type f
  if [[ -s "$root/etc/machine-id" ]]; then printf '%s is not empty\n' "$root/etc/machine-id"; fi
  if [[ -s "$root/etc/hostname" ]]; then printf '%s names the bake instance\n' "$root/etc/hostname"; fi
}

main() {
  : "${BAKE_DIR:?Set BAKE_DIR to the directory that the bake was uploaded to.}"
  local root="${ROOT_DIR:-}"
  local leftovers
  leftovers="$(list_leftovers "$root")"
  if [[ -e "$root$BAKE_DIR" ]]; then leftovers+=$'\n'"$root$BAKE_DIR"; fi
  if [[ -n "$leftovers" ]]; then
    log "The image would carry something of the bake instance; extend cleanup.sh:"
    printf '%s\n' "$leftovers" >&2
    exit 1
  fi
  log "nothing of the bake instance is left"
}

main "$@"
