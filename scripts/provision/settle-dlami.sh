#!/usr/bin/env bash
# A Deep Learning AMI brings its own ways to publish GPU metrics: units that replace the CloudWatch agent's configuration
# and a script that is called gpumon.py. Nothing may start either on a clone. Other bases have neither.
set -euo pipefail

log() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

fail() {
  log "error: $*"
  exit 1
}

# Every name under which the template unit is known, whether it runs or not.
list_units() {
  if ! systemctl cat dlami-cloudwatch-agent@minimal.service >/dev/null 2>&1; then return; fi
  printf 'dlami-cloudwatch-agent@%s.service\n' minimal partial all
  systemctl list-units --all --plain --no-legend 'dlami-cloudwatch-agent@*' | awk '{ print $1 }'
}

# `disable` takes what enables them away, `mask` makes that stay so.
mask_units() {
  local units
  mapfile -t units < <(list_units | sort --unique)
  if ((${#units[@]} == 0)); then
    log "the base has no dlami-cloudwatch-agent units"
    return
  fi
  systemctl disable --quiet --now "${units[@]}" || fail "The DLAMI's ${units[*]} cannot be stopped; see the reason above."
  systemctl mask --quiet "${units[@]}" || fail "The DLAMI's ${units[*]} cannot be masked; see the reason above."
  log "masked ${units[*]}"
}

# In crontabs a line can go; a script or unit that starts it was written by somebody, who has to say what it shall do now.
forget_stock_gpumon() {
  local root="${ROOT_DIR:-}"
  local file unit
  while IFS= read -r -d '' file; do
    sed -i '/gpumon\.py/d' "$file"
    log "took gpumon.py out of ${file#"$root"}"
  done < <(grep --recursive --files-with-matches --null 'gpumon\.py' \
    "$root/etc/crontab" "$root/etc/cron.d" "$root/var/spool/cron" 2>/dev/null || true)
  while IFS= read -r -d '' file; do
    unit="${file##*/}"
    systemctl disable --quiet --now "$unit" ||
      fail "$unit starts gpumon.py and cannot be stopped; remove it from the base."
    if [[ "$file" == "$root/etc/systemd/system/"* ]]; then rm -f "$file"; else systemctl mask --quiet "$unit"; fi
    systemctl daemon-reload
    log "disabled $unit, which started gpumon.py"
  done < <(grep --recursive --files-with-matches --null --include '*.service' '^Exec.*gpumon\.py' \
    "$root"/{etc,usr/lib,lib}/systemd/system 2>/dev/null || true)
}

stop_stock_gpumon() {
  local attempt
  for attempt in {1..50}; do
    if ! pkill -f '(^|[ /])gpumon\.py( |$)'; then return; fi # signals, and says whether there was something to signal
    sleep 0.1
    log "stopping the stock gpumon.py ($attempt)"
  done
  pkill -KILL -f '(^|[ /])gpumon\.py( |$)' || true
}

main() {
  local check
  check="$(dirname "${BASH_SOURCE[0]}")/check-dlami.sh"
  mask_units
  forget_stock_gpumon
  stop_stock_gpumon
  bash "$check"
}

main "$@"
