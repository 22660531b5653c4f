#!/usr/bin/env bash
# Runs as root on a clone, that is a fresh instance of an image, and fails when it inherited something of the instance that
# baked. Prints one line of JSON, who this clone is, so that two clones can be compared: each value must differ.
# $BUILDER_INSTANCE_ID: the instance that baked. $BUILDER_FACTS: its facts.json, where there is one.
set -euo pipefail

log() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

# Collects what is wrong, so that one run tells all of it.
complain() {
  log "error: $*"
  is_clean=false
}

metadata() {
  curl --fail --silent --max-time 5 --header "X-aws-ec2-metadata-token: $token" "$metadata_url/latest/meta-data/$1"
}

# A moment of the bake, as a file that was last changed then.
mark_bake() {
  local collected=""
  if [[ -n "${BUILDER_FACTS:-}" ]]; then
    collected="$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["collected_at"] or "")' "$BUILDER_FACTS")"
  fi
  if [[ -n "$collected" ]]; then
    touch --date="$collected" "$work/baked"
  else
    touch --reference="$root/etc/systemd/system/gpumon.service" "$work/baked"
  fi
}

check_builder_is_forgotten() {
  local places=("$root"/{etc,var/lib,var/log,root,home,opt}) found since=()
  if [[ -n "${BUILDER_FACTS:-}" ]]; then
    # Nothing that was last changed before the instance that baked had booted can name it.
    found="$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1])).get("booted_at") or "")' "$BUILDER_FACTS")"
    if [[ -n "$found" ]]; then since=(-newerct "$found"); fi
  fi
  # sudo logs the command that starts this script, with the id that it was given.
  found="$({
    find "${places[@]}" -xdev -name "*$builder*" 2>/dev/null || true
    find "${places[@]}" -xdev -type f "${since[@]}" -print0 2>/dev/null |
      LC_ALL=C xargs --null --no-run-if-empty grep --files-with-matches --no-messages --perl-regexp \
        "(?<!BUILDER_INSTANCE_ID=)\Q$builder\E" || true
  } | paste --serial --delimiters=' ')"
  [[ -z "$found" ]] || complain "These files name $builder, which baked the image; extend cleanup.sh: $found"
}

check_identity() {
  local key
  [[ "$(cat "$root/etc/machine-id" 2>/dev/null)" =~ ^[0-9a-f]{32}$ ]] ||
    complain "/etc/machine-id is not one; the image must have it empty, not absent."
  if ! compgen -G "$root/etc/ssh/ssh_host_*_key.pub" >/dev/null; then
    complain "There are no SSH host keys; cloud-init or sshd-keygen must make them at the first boot."
    return
  fi
  for key in "$root"/etc/ssh/ssh_host_*_key; do
    [[ "$key" -nt "$work/baked" ]] || complain "${key#"$root"} is as old as the image; extend cleanup.sh."
  done
}

# An instance has the key that it was launched with, and no other.
check_authorized_keys() {
  local launched file line
  launched="$(metadata public-keys/0/openssh-key 2>/dev/null | awk '{ print $2 }')" || launched=""
  while IFS= read -r file; do
    while IFS= read -r line; do
      if [[ -z "$line" || "$line" == \#* ]]; then continue; fi
      [[ -n "$launched" && "$line" == *"$launched"* ]] ||
        complain "${file#"$root"} holds a key that this instance was not launched with; extend cleanup.sh."
    done <"$file"
  done < <(list_authorized_keys)
}

list_authorized_keys() {
  local home
  while IFS= read -r home; do
    compgen -G "$root$home/.ssh/authorized_keys*" || true
  done < <({ awk -F: '$6 ~ "^/." { print $6 }' "$root/etc/passwd" && printf '/root\n'; } | sort --unique)
}

# One line of JSON; null = this clone has none.
print_identity() {
  INSTANCE_ID="$(metadata instance-id || true)" HOST_NAME="$(hostname)" python3 - "$root" <<'PYTHON'
import glob, hashlib, json, os, sys

def read(path, prefix=""):
    try:
        with open(sys.argv[1] + path) as file:
            lines = [line.strip() for line in file]
    except OSError:
        return None
    return next((line[len(prefix):] for line in lines if line.startswith(prefix) and line != prefix), None)

def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(b" ".join(file.read().split()[:2])).hexdigest()

print(json.dumps({
    "instance_id": os.environ["INSTANCE_ID"] or None,
    "hostname": os.environ["HOST_NAME"],
    "machine_id": read("/etc/machine-id"),
    "ssh_host_keys": [digest(path) for path in sorted(glob.glob(sys.argv[1] + "/etc/ssh/ssh_host_*_key.pub"))],
    "iscsi_initiator": read("/etc/iscsi/initiatorname.iscsi", "InitiatorName="),
    "nvme_hostnqn": read("/etc/nvme/hostnqn"),
    "nvme_hostid": read("/etc/nvme/hostid"),
}))
PYTHON
}

main() {
  local builder="${BUILDER_INSTANCE_ID:?Set BUILDER_INSTANCE_ID to the instance that baked the image.}"
  local root="${ROOT_DIR:-}" metadata_url="${METADATA_URL:-http://169.254.169.254}" is_clean=true
  local token
  work="$(mktemp -d)" # global: the trap below runs when main's own variables are gone
  trap 'rm -rf "$work"' EXIT
  token="$(curl --fail --silent --max-time 5 --request PUT --header 'X-aws-ec2-metadata-token-ttl-seconds: 60' \
    "$metadata_url/latest/api/token")" || complain "The metadata service gives no token, so no key can be compared."
  mark_bake
  check_builder_is_forgotten
  check_identity
  check_authorized_keys
  print_identity
  [[ "$is_clean" == true ]] || exit 1
  log "nothing of the instance that baked is left"
}

main "$@"
