#!/usr/bin/env bats
# A DLAMI is played by files below a root of the test's and by a systemctl that remembers what was masked.

load shims

setup() {
  setup_shims
  export ROOT_DIR="$BATS_TEST_TMPDIR/root" UNIT_DIR="$BATS_TEST_TMPDIR/units"
  mkdir -p "$ROOT_DIR"/{etc/cron.d,etc/systemd/system,usr/lib/systemd/system,var/spool/cron,home/ubuntu,root} "$UNIT_DIR"
  shim pkill 'exit 1'
  shim pgrep 'exit 1'
  shim systemctl 'if [[ "$1" == cat || "$1" == is-enabled || "$1" == is-active ]]; then exit 1; fi'
}

# The template unit is there; `mask` is remembered and asked back.
play_dlami() {
  export masked="$BATS_TEST_TMPDIR/masked"
  : >"$masked"
  shim systemctl 'case "$1" in
  mask) shift 2; printf "%s\n" "$@" >>"$masked" ;;
  is-enabled) if grep -q "^$2\$" "$masked"; then echo masked; else echo enabled; fi; exit 1 ;;
  is-active) exit 1 ;;
  list-units) echo "dlami-cloudwatch-agent@custom.service loaded active running" ;;
  esac'
}

@test "a base without any of it is left alone, with a line in the log" {
  run bash "$scripts/settle-dlami.sh"
  echo "$output"
  [ "$status" -eq 0 ]
  [[ "$output" == *"has no dlami-cloudwatch-agent units"* ]]
  run grep -E 'systemctl (disable|mask)' "$commands"
  [ "$status" -ne 0 ]
}

@test "the units are stopped, disabled and masked, those that somebody made himself, too" {
  play_dlami
  run bash "$scripts/settle-dlami.sh"
  echo "$output"
  [ "$status" -eq 0 ]
  for name in minimal partial all custom; do
    grep -q "^dlami-cloudwatch-agent@$name.service\$" "$masked"
    grep -q "^systemctl disable --quiet --now .*@$name.service" "$commands"
  done
}

@test "a unit that cannot be masked fails the bake" {
  play_dlami
  sed -i 's/mask) .*/mask) exit 1 ;;/' "$shims/systemctl"
  run bash "$scripts/settle-dlami.sh"
  [ "$status" -eq 1 ]
  [[ "$output" == *"error: "*"cannot be masked"* ]]
}

@test "the check notices a unit that is not masked, and one that runs" {
  play_dlami
  run bash "$scripts/check-dlami.sh"
  [ "$status" -eq 1 ]
  [[ "$output" == *"error: dlami-cloudwatch-agent@minimal.service is not masked"* ]]
  printf 'dlami-cloudwatch-agent@%s.service\n' minimal partial all >"$masked"
  sed -i 's/is-active) .*/is-active) exit 0 ;;/' "$shims/systemctl"
  run bash "$scripts/check-dlami.sh"
  [ "$status" -eq 1 ]
  [[ "$output" == *"still runs"* ]]
}

@test "cron lines and units that start the stock gpumon.py go" {
  printf 'SHELL=/bin/sh\n@reboot ubuntu python3 /home/ubuntu/tools/GPUCloudWatchMonitor/gpumon.py\n' >"$ROOT_DIR/etc/cron.d/gpu"
  printf '[Service]\nExecStart=/usr/bin/python3 /home/ubuntu/tools/GPUCloudWatchMonitor/gpumon.py\n' \
    >"$ROOT_DIR/etc/systemd/system/gpumon.service"
  run bash "$scripts/settle-dlami.sh"
  echo "$output"
  [ "$status" -eq 0 ]
  [ "$(cat "$ROOT_DIR/etc/cron.d/gpu")" = "SHELL=/bin/sh" ]
  [ ! -e "$ROOT_DIR/etc/systemd/system/gpumon.service" ]
  grep -q '^systemctl disable --quiet --now gpumon.service$' "$commands"
}

@test "our own unit and the script itself stay" {
  mkdir -p "$ROOT_DIR/home/ubuntu/tools/GPUCloudWatchMonitor"
  touch "$ROOT_DIR/home/ubuntu/tools/GPUCloudWatchMonitor/gpumon.py"
  printf '[Service]\nExecStart=/opt/gpumon/bin/gpumon run\n' >"$ROOT_DIR/etc/systemd/system/gpumon.service"
  run bash "$scripts/settle-dlami.sh"
  [ "$status" -eq 0 ]
  [ -e "$ROOT_DIR/etc/systemd/system/gpumon.service" ]
  [ -e "$ROOT_DIR/home/ubuntu/tools/GPUCloudWatchMonitor/gpumon.py" ]
}

@test "a script that starts it is not rewritten: the bake fails and names it" {
  printf '#!/bin/sh\ncd /home/ubuntu/tools/GPUCloudWatchMonitor && python3 gpumon.py &\n' >"$ROOT_DIR/etc/rc.local"
  run bash "$scripts/settle-dlami.sh"
  [ "$status" -eq 1 ]
  [[ "$output" == *"error: The stock gpumon.py would be started by $ROOT_DIR/etc/rc.local"* ]]
}

@test "one that runs is stopped, and one that cannot be fails the bake" {
  export left="$BATS_TEST_TMPDIR/left"
  echo 2 >"$left"
  shim pkill 'n="$(cat "$left")"; echo $((n - 1)) >"$left"; ((n > 0))'
  run bash "$scripts/settle-dlami.sh"
  [ "$status" -eq 0 ]
  [ "$(grep -c '^pkill -f' "$commands")" -eq 3 ]
  shim pgrep
  run bash "$scripts/settle-dlami.sh"
  [ "$status" -eq 1 ]
  [[ "$output" == *"error: The stock gpumon.py still runs"* ]]
}
