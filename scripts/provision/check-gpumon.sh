#!/usr/bin/env bash
# gpumon answers with the right version, its unit is valid and enabled, and the service reaches "active" (it is
# Type=notify: it says so itself, after its first reading). Leaves nothing of that trial run behind.
set -euo pipefail

log() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

fail() {
  log "error: $*"
  exit 1
}

try_service() {
  local status=0
  systemctl start gpumon.service || status=$?
  if ((status != 0)) || ! systemctl is-active --quiet gpumon.service; then
    journalctl --unit gpumon.service --no-pager --lines 20 >&2 || true
    systemctl stop gpumon.service || true
    fail "gpumon.service does not start; look at its last lines above."
  fi
  systemctl stop gpumon.service
  systemctl reset-failed gpumon.service 2>/dev/null || true # "not loaded" once it has stopped cleanly
  # What could not be published from the bake instance must not be sent by every clone.
  rm -rf /var/lib/gpumon /var/lib/private/gpumon
}

main() {
  : "${EXPECTED_GPUMON_VERSION:?Set EXPECTED_GPUMON_VERSION to the version that must be installed.}"
  local venv="${VENV_DIR:-/opt/gpumon}"
  local version
  version="$("$venv/bin/python" -c 'from importlib.metadata import version; print(version("gpumon"))')"
  [[ "$version" == "$EXPECTED_GPUMON_VERSION" ]] ||
    fail "gpumon is $version, not $EXPECTED_GPUMON_VERSION; build the wheelhouse anew."
  "$venv/bin/gpumon" show-config >/dev/null || fail "gpumon refuses its configuration; correct /etc/gpumon/gpumon.toml."
  systemd-analyze verify --man=no gpumon.service || fail "gpumon.service is not a valid unit; see the lines above."
  systemctl is-enabled --quiet gpumon.service || fail "gpumon.service is not enabled: clones would publish nothing."
  try_service
  log "gpumon $version starts and stops"
}

main "$@"
