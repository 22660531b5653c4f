#!/usr/bin/env bash
# Nothing of a Deep Learning AMI runs, or will be started, that would publish GPU metrics beside gpumon.
set -euo pipefail

log() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

fail() {
  log "error: $*"
  exit 1
}

check_units() {
  local unit
  if ! systemctl cat dlami-cloudwatch-agent@minimal.service >/dev/null 2>&1 &&
    ! systemctl is-enabled dlami-cloudwatch-agent@minimal.service >/dev/null 2>&1 &&
    [[ ! -L "$units/dlami-cloudwatch-agent@minimal.service" ]]; then
    return
  fi
  for unit in dlami-cloudwatch-agent@{minimal,partial,all}.service; do
    [[ "$(systemctl is-enabled "$unit" 2>/dev/null)" == masked ]] ||
      fail "$unit is not masked and could replace the CloudWatch agent's configuration; mask it in the base."
    if systemctl is-active --quiet "$unit"; then fail "$unit still runs; stop it in the base."; fi
  done
}

# Whatever still names the script in a place from which things are started.
find_starters() {
  grep --recursive --files-with-matches --no-messages '^[^#]*gpumon\.py' \
    "$root"/etc/{crontab,cron.d,cron.hourly,cron.daily,rc.local,rc.d/rc.local,profile.d,profile,init.d} \
    "$root"/{etc,run,usr/lib,lib}/systemd/{system,user} "$root/var/spool/cron" \
    "$root"/{root,home/*}/{.config/systemd,.profile,.bash_profile,.bashrc} || true
}

main() {
  local root="${ROOT_DIR:-}" units="${UNIT_DIR:-/etc/systemd/system}"
  local starters
  check_units
  starters="$(find_starters | paste --serial --delimiters=' ')"
  [[ -z "$starters" ]] || fail "The stock gpumon.py would be started by $starters; take it out of there in the base."
  if pgrep -f '(^|[ /])gpumon\.py( |$)' >/dev/null; then fail "The stock gpumon.py still runs; use a base without it."; fi
  log "nothing publishes GPU metrics beside gpumon"
}

main "$@"
