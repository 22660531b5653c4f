#!/usr/bin/env bash
# The CloudWatch agent is installed, configured with our file beside all that was configured before, and starts with the
# instance. $CONFIGURED_BEFORE: digests of the configuration files before ours was appended, as sha256sum writes them.
set -euo pipefail

log() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

fail() {
  log "error: $*"
  exit 1
}

main() {
  local agent_dir="${AGENT_DIR:-/opt/aws/amazon-cloudwatch-agent}"
  local ours="$agent_dir/etc/gpunodes.json"
  local applied="$agent_dir/etc/amazon-cloudwatch-agent.d/file_gpunodes.json"
  local status changed
  status="$("$agent_dir/bin/amazon-cloudwatch-agent-ctl" -a status)" || fail "amazon-cloudwatch-agent-ctl does not answer."
  grep --quiet '"configstatus": "configured"' <<<"$status" ||
    fail "The CloudWatch agent is not configured; it says ${status//$'\n'/ }"
  cmp --silent "$ours" "$applied" || fail "$applied differs from $ours; append the configuration again."
  # The agent merges all files of its folder at every start: what is there unchanged is applied.
  if [[ -s "${CONFIGURED_BEFORE:-}" ]]; then
    changed="$(LC_ALL=C sha256sum --check --quiet "$CONFIGURED_BEFORE" 2>/dev/null)" ||
      fail "Appending changed what was configured before ($(head -n 1 <<<"$changed")); the base's own must stay."
  fi
  systemctl is-enabled --quiet amazon-cloudwatch-agent.service ||
    fail "amazon-cloudwatch-agent.service is not enabled: clones would publish nothing."
  log "the CloudWatch agent is installed, configured and enabled"
}

main "$@"
