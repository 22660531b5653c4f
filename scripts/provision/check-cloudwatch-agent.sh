#!/usr/bin/env bash
# The CloudWatch agent is installed, configured with our file among others, and starts with the instance.
set -euo pipefail

log() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

fail() {
  log "$*"
  exit 1
}

main() {
  local agent_dir="${AGENT_DIR:-/opt/aws/amazon-cloudwatch-agent}"
  local ours="$agent_dir/etc/gpunodes.json"
  local applied="$agent_dir/etc/amazon-cloudwatch-agent.d/file_gpunodes.json"
  local status
  status="$("$agent_dir/bin/amazon-cloudwatch-agent-ctl" -a status)" || fail "amazon-cloudwatch-agent-ctl does not answer."
  grep --quiet '"configstatus": "configured"' <<<"$status" || fail "The CloudWatch agent is not configured: $status"
  cmp --silent "$ours" "$applied" || fail "$applied differs from $ours; append the configuration again."
  systemctl is-enabled --quiet amazon-cloudwatch-agent.service ||
    fail "amazon-cloudwatch-agent.service is not enabled: clones would publish nothing."
  log "the CloudWatch agent is installed, configured and enabled"
}

main "$@"
