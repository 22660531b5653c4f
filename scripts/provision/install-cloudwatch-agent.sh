#!/usr/bin/env bash
# Installs the CloudWatch agent, unless the base image ships it, and appends our configuration to what is there.
# Supply chain: the package must be signed by the key with exactly the pinned fingerprint; key ring and download are
# isolated in a temporary directory.
set -euo pipefail

log() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

download() { curl --fail --silent --show-error --location --retry 3 --output "$2" "$1"; }

read_family() {
  local id
  id="$(sed -n 's/^ID=//p' "${OS_RELEASE:-/etc/os-release}" | tr -d '"')"
  case "$id" in
    debian | ubuntu) printf '%s' "$id" ;;
    *)
      log "The CloudWatch agent cannot be installed on $id yet; use a debian or ubuntu base."
      exit 1
      ;;
  esac
}

# Fetches the key and fails unless it is the pinned one.
fetch_key() {
  local found
  download "$base_url/assets/amazon-cloudwatch-agent.gpg" "$work/key.gpg"
  found="$(gpg --batch --with-colons --import-options show-only --import "$work/key.gpg" 2>/dev/null |
    awk -F: '$1 == "fpr" { print $10; exit }')" || true
  if [[ "$found" != "$fingerprint" ]]; then
    log "The key at $base_url has the fingerprint ${found:-(none)}, not $fingerprint; do not trust it."
    exit 1
  fi
  # No agent process, which would outlive the script: public keys need none.
  gpg --batch --quiet --no-autostart --no-default-keyring --keyring "$work/keyring.gpg" --import "$work/key.gpg"
}

# True when the package was signed by the pinned key; VALIDSIG ends with the primary key's fingerprint.
is_signed() {
  local status
  status="$(gpgv --status-fd 1 --keyring "$work/keyring.gpg" "$work/agent.deb.sig" "$work/agent.deb" 2>"$work/gpgv.log")" &&
    grep --quiet --extended-regexp "^\[GNUPG:\] VALIDSIG .* $fingerprint\$" <<<"$status"
}

# Downloads the package until its signature fits: `latest/` can change between the two files.
fetch_package() {
  local architecture url attempt
  architecture="$(dpkg --print-architecture)"
  url="$base_url/$family/$architecture/latest/amazon-cloudwatch-agent.deb"
  for attempt in 1 2 3; do
    download "$url" "$work/agent.deb"
    download "$url.sig" "$work/agent.deb.sig"
    if is_signed; then return; fi
    log "attempt $attempt: the signature does not fit"
    if ((attempt < 3)); then sleep "${AGENT_RETRY_SECONDS:-5}"; fi
  done
  cat "$work/gpgv.log" >&2
  log "The package at $url is not signed by $fingerprint; nothing was installed."
  exit 1
}

# The base image's own unattended upgrades may hold dpkg's lock for minutes after the boot, and dpkg does not wait for it.
install_package() {
  local attempt
  for attempt in {1..60}; do
    if dpkg --install "$work/agent.deb" >"$work/dpkg.log" 2>&1; then return; fi
    if ! grep --quiet 'lock' "$work/dpkg.log" || ((attempt == 60)); then break; fi
    sleep "${AGENT_RETRY_SECONDS:-5}"
  done
  cat "$work/dpkg.log" >&2
  log "dpkg does not install the agent; its reason stands above."
  exit 1
}

main() {
  local base_url="${AGENT_BASE_URL:?Set AGENT_BASE_URL to where the CloudWatch agent is downloaded from.}"
  local fingerprint="${AGENT_KEY_FINGERPRINT:?Set AGENT_KEY_FINGERPRINT to the full fingerprint of the key that signs it.}"
  local agent_dir="${AGENT_DIR:-/opt/aws/amazon-cloudwatch-agent}"
  local check family
  check="$(dirname "${BASH_SOURCE[0]}")/check-cloudwatch-agent.sh"
  if [[ -x "$agent_dir/bin/amazon-cloudwatch-agent" ]]; then
    log "the base image ships the agent: $(cat "$agent_dir/bin/CWAGENT_VERSION")"
  else
    family="$(read_family)"
    work="$(mktemp -d)" # global: the trap below runs when main's own variables are gone
    trap 'rm -rf "$work"' EXIT
    export GNUPGHOME="$work"
    fetch_key
    fetch_package
    install_package
  fi
  # append-config adds to what a user has configured; fetch-config would wipe it.
  "$agent_dir/bin/amazon-cloudwatch-agent-ctl" -a append-config -m ec2 -c "file:$agent_dir/etc/gpunodes.json" >&2
  systemctl enable --quiet amazon-cloudwatch-agent.service
  bash "$check"
}

main "$@"
