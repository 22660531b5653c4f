#!/usr/bin/env bash
# Installs the CloudWatch agent, unless the base image ships it, and appends our configuration to what is there.
# Supply chain: the package must be signed by the key with exactly the pinned fingerprint, and have the pinned SHA-256
# where one is set; key ring and download are isolated in a temporary directory.
set -euo pipefail

log() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

fail() {
  log "error: $*"
  exit 1
}

download() { curl --fail --silent --show-error --location --retry 3 --output "$2" "$1"; }

# AWS's name for this base's folder in the bucket, and the file of the package.
package_path() {
  local id architecture
  id="$(sed -n 's/^ID=//p' "${OS_RELEASE:-/etc/os-release}" | tr -d '"')"
  case "$(uname --machine)" in
    x86_64) architecture=amd64 ;;
    aarch64) architecture=arm64 ;;
    *) fail "There is no CloudWatch agent for $(uname --machine); use an x86_64 or aarch64 base." ;;
  esac
  case "$family/$id" in
    apt/debian | apt/ubuntu) printf '%s' "$id/$architecture/$version/amazon-cloudwatch-agent.deb" ;;
    dnf/amzn) printf '%s' "amazon_linux/$architecture/$version/amazon-cloudwatch-agent.rpm" ;;
    *) fail "The CloudWatch agent cannot be installed on $id by $family; use Debian, Ubuntu or Amazon Linux." ;;
  esac
}

# Amazon Linux ships a gnupg that may check packages and no more.
ensure_gpg() {
  if command -v gpg >/dev/null && command -v gpgv >/dev/null; then return; fi
  case "$family" in
    apt) apt-get --quiet=2 update && apt-get --quiet=2 --option DPkg::Lock::Timeout=300 install gpg gpgv ;;
    dnf) dnf --quiet --assumeyes --allowerasing install gnupg2-full ;;
  esac || fail "gpg and gpgv cannot be installed, so no signature can be checked; use a base that has them."
}

# Fetches the key and fails unless it is the pinned one.
fetch_key() {
  local found
  download "$base_url/assets/amazon-cloudwatch-agent.gpg" "$work/key.gpg" ||
    fail "The CloudWatch agent's key cannot be downloaded from $base_url; correct agent_base_url or the network."
  found="$(gpg --batch --with-colons --import-options show-only --import "$work/key.gpg" 2>/dev/null |
    awk -F: '$1 == "fpr" { print $10; exit }')" || true
  [[ "$found" == "$fingerprint" ]] ||
    fail "The key at $base_url has the fingerprint ${found:-(none)}, not $fingerprint; do not trust it."
  # No agent process, which would outlive the script: public keys need none.
  gpg --batch --quiet --no-autostart --no-default-keyring --keyring "$work/keyring.gpg" --import "$work/key.gpg"
}

# True when the package was signed by the pinned key; VALIDSIG ends with the primary key's fingerprint.
is_signed() {
  local status
  status="$(gpgv --status-fd 1 --keyring "$work/keyring.gpg" "$package.sig" "$package" 2>"$work/gpgv.log")" &&
    grep --quiet --extended-regexp "^\[GNUPG:\] VALIDSIG .* $fingerprint\$" <<<"$status"
}

# Downloads the package until its signature fits: `latest/` can change between the two files.
fetch_package() {
  local url="$base_url/$1"
  local attempt
  for attempt in 1 2 3; do
    if ! download "$url" "$package" || ! download "$url.sig" "$package.sig"; then
      fail "The CloudWatch agent or its signature cannot be downloaded from $url; correct agent_version or the network."
    fi
    if is_signed; then return; fi
    log "attempt $attempt: the signature does not fit"
    if ((attempt < 3)); then sleep "${AGENT_RETRY_SECONDS:-5}"; fi
  done
  log "error: The package at $url is not signed by $fingerprint; nothing was installed."
  cat "$work/gpgv.log" >&2
  exit 1
}

check_digest() {
  local found
  if [[ -z "$sha256" ]]; then return; fi
  found="$(sha256sum "$package" | cut --delimiter=' ' --fields=1)"
  [[ "$found" == "${sha256,,}" ]] ||
    fail "The package at $base_url/$1 has the SHA-256 $found, not the pinned $sha256; nothing was installed."
}

# dnf waits for another dnf; no repository is asked, because the package needs nothing from one.
run_installer() {
  case "$family" in
    apt) dpkg --install "$package" ;;
    dnf) dnf --quiet --assumeyes --disablerepo='*' install "$package" ;;
  esac
}

# The base image's own unattended upgrades may hold dpkg's lock for minutes after the boot, and dpkg does not wait.
install_package() {
  local attempt
  for attempt in {1..60}; do
    if run_installer >"$work/install.log" 2>&1; then return; fi
    if ! grep --quiet 'lock' "$work/install.log" || ((attempt == 60)); then break; fi
    sleep "${AGENT_RETRY_SECONDS:-5}"
  done
  log "error: The CloudWatch agent cannot be installed ($(tail -n 1 "$work/install.log")); use a base where $family works."
  cat "$work/install.log" >&2
  exit 1
}

install_agent() {
  local path installed
  path="$(package_path)" || exit 1
  package="$work/${path##*/}"
  export GNUPGHOME="$work"
  ensure_gpg
  fetch_key
  fetch_package "$path"
  check_digest "$path"
  install_package
  installed="$(cat "$agent_dir/bin/CWAGENT_VERSION")"
  [[ "$version" == latest || "$installed" == "$version"* ]] ||
    fail "The package of version $version holds the agent $installed; correct agent_version."
  log "installed the agent $installed"
}

# The files that the agent merges at every start. Their digests before we append are what the check compares with.
list_configuration() {
  find "$agent_dir/etc/amazon-cloudwatch-agent.json" "$agent_dir/etc/amazon-cloudwatch-agent.d" -type f \
    ! -name file_gpunodes.json ! -name '*.tmp' -exec sha256sum {} + 2>/dev/null || true
}

# append-config adds to what a user has configured, where fetch-config would wipe it. It translates all files together and
# tests the result, so a configuration that the agent cannot use fails here.
append_configuration() {
  local etc="$agent_dir/etc" said status=0
  local ours="$etc/gpunodes.json"
  if [[ ! -s "$work/before" && -f "$etc/amazon-cloudwatch-agent.toml" && ! -f "$etc/amazon-cloudwatch-agent.d/file_gpunodes.json" ]]; then
    fail "The base configures its agent by a TOML file alone, which appending would replace; give it that as JSON."
  fi
  said="$("$agent_dir/bin/amazon-cloudwatch-agent-ctl" -a append-config -m ec2 -c "file:$ours" 2>&1)" || status=$?
  if ((status == 0)) && grep --quiet 'Configuration validation succeeded' <<<"$said"; then return; fi
  rm -f "$etc"/amazon-cloudwatch-agent.d/*.tmp # the real agent leaves there what it refused
  log "error: The CloudWatch agent refuses its configuration with ours appended ($(reason "$said")); correct gpunodes.json."
  printf '%s\n' "$said" >&2
  exit 1
}

# The lines in which the agent says what it does not like, in one.
reason() {
  local lines
  lines="$(grep --extended-regexp --ignore-case --max-count 3 'error|invalid|under path|different|E!' <<<"$1")" ||
    lines="$(tail -n 1 <<<"$1")"
  sed --regexp-extended 's/^[0-9/: -]+//; s/[. ]+$//' <<<"$lines" | paste --serial --delimiters=';'
}

main() {
  local base_url="${AGENT_BASE_URL:?Set AGENT_BASE_URL to where the CloudWatch agent is downloaded from.}"
  local fingerprint="${AGENT_KEY_FINGERPRINT:?Set AGENT_KEY_FINGERPRINT to the full fingerprint of the key that signs it.}"
  local family="${PACKAGE_FAMILY:?Set PACKAGE_FAMILY to apt or dnf.}"
  local version="${AGENT_VERSION:-latest}" sha256="${AGENT_SHA256:-}"
  local agent_dir="${AGENT_DIR:-/opt/aws/amazon-cloudwatch-agent}"
  local check package
  check="$(dirname "${BASH_SOURCE[0]}")/check-cloudwatch-agent.sh"
  work="$(mktemp -d)" # global: the trap below runs when main's own variables are gone
  trap 'rm -rf "$work"' EXIT
  if [[ -x "$agent_dir/bin/amazon-cloudwatch-agent" ]]; then
    log "the base image ships the agent: $(cat "$agent_dir/bin/CWAGENT_VERSION")"
  else
    install_agent
  fi
  list_configuration >"$work/before"
  append_configuration
  systemctl enable --quiet amazon-cloudwatch-agent.service
  export CONFIGURED_BEFORE="$work/before"
  bash "$check"
}

main "$@"
