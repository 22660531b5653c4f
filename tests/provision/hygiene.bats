#!/usr/bin/env bats
# Cleanup and its proof, on a disk of the test's own: nothing here may reach the machine's. Programs that act on the
# machine are recorded.

load shims

setup() {
  setup_shims
  export ROOT_DIR="$BATS_TEST_TMPDIR/root" BAKE_DIR=/dev/shm/bake
  mkdir -p "$ROOT_DIR"/{etc/ssh,tmp,var/log,var/tmp,var/lib,root,home/debian,srv/app,dev/shm/bake}
  printf 'root:x:0:0::/root:/bin/sh\napp:x:1:1::/srv/app:/bin/sh\nnobody:x:2:2::/:/bin/sh\n' >"$ROOT_DIR/etc/passwd"
  shim systemctl 'if [[ "$1" == is-active ]]; then exit 3; fi'
  for name in systemd-run journalctl apt-get dnf sync swapoff mkswap blkid; do shim "$name"; done
  shim cloud-init 'rm -rf "$ROOT_DIR"/var/lib/cloud/*'
}

# Everything that a bake can leave: the path, then where it is reported if that is not the path itself.
leftovers=(
  etc/ssh/ssh_host_ed25519_key etc/ssh/ssh_host_rsa_key.pub
  root/.ssh/authorized_keys home/debian/.ssh/authorized_keys2 srv/app/.ssh/authorized_keys root/.ssh/id_ed25519
  root/.ssh/known_hosts root/.bash_history home/debian/.bash_history home/debian/.python_history srv/app/.zsh_history
  home/debian/.lesshst home/debian/.viminfo "home/debian/.cache/x home/debian/.cache" "root/.gnupg/x root/.gnupg"
  "root/.aws/credentials root/.aws" "home/debian/.aws/config home/debian/.aws" root/.netrc home/debian/.docker/config.json
  home/debian/.env root/.gitconfig root/.git-credentials "root/.config/pip/pip.conf root/.config/pip" root/.pypirc
  root/.curlrc "home/debian/.kube/config home/debian/.kube" "home/debian/.ngc/config home/debian/.ngc"
  "var/lib/cloud/instances/i-1/sem var/lib/cloud/instances/i-1" "var/lib/cloud/data/instance-id"
  etc/netplan/50-cloud-init.yaml etc/network/interfaces.d/50-cloud-init etc/systemd/network/10-cloud-init-eth0.network
  etc/udev/rules.d/70-persistent-net.rules var/lib/systemd/random-seed var/lib/systemd/credential.secret
  var/lib/systemd/coredump/core.1 boot/efi/loader/random-seed var/lib/dhcp/dhclient.eth0.leases
  var/lib/dhclient/dhclient.leases var/lib/NetworkManager/internal-1.lease var/lib/NetworkManager/secret_key
  var/lib/dbus/machine-id etc/docker/key.json var/lib/ubuntu-advantage/private/machine-token.json
  etc/nvme/hostnqn etc/nvme/hostid var/lib/private/gpumon/spool var/lib/gpumon/spool
  opt/aws/amazon-cloudwatch-agent/etc/amazon-cloudwatch-agent.toml opt/aws/amazon-cloudwatch-agent/etc/amazon-cloudwatch-agent.yaml
  opt/aws/amazon-cloudwatch-agent/logs/amazon-cloudwatch-agent.log
  "opt/aws/amazon-cloudwatch-agent/logs/state/positions opt/aws/amazon-cloudwatch-agent/logs/state"
  "var/lib/amazon/ssm/i-1/document/state var/lib/amazon/ssm" "var/lib/amazon/ssm/Vault/Store/RegistrationKey var/lib/amazon/ssm/Vault"
  var/log/amazon/ssm/amazon-ssm-agent.log var/log/audit/audit.log
  "var/log/journal/x/system.journal var/log/journal/x" var/log/auth.log var/log/dnf.log var/log/apt/history.log
  etc/pip.conf etc/gitconfig etc/apt/auth.conf etc/apt/apt.conf.d/99proxy etc/profile.d/proxy.sh
  etc/systemd/system/docker.service.d/http-proxy.conf
  var/lib/dnf/history.sqlite var/lib/dnf/history.sqlite-wal var/lib/apt/lists/release var/cache/apt/pkgcache.bin
  "var/cache/dnf/amazonlinux/solv var/cache/dnf/amazonlinux" tmp/secret var/tmp/.hidden var/crash/x var/mail/root core core.12
  "dev/shm/bake/wheel dev/shm/bake"
)

plant() {
  local entry path
  for entry in "${leftovers[@]}"; do
    path="$ROOT_DIR/${entry%% *}"
    mkdir -p "${path%/*}"
    echo x >"$path"
  done
  mkdir -p "$ROOT_DIR/etc/iscsi" "$ROOT_DIR/etc/dnf"
  echo 'InitiatorName=iqn.1993-08.org.debian:01:abc' >"$ROOT_DIR/etc/iscsi/initiatorname.iscsi"
  echo 0123 >"$ROOT_DIR/etc/machine-id"
  echo ip-198-51-100-5 >"$ROOT_DIR/etc/hostname"
  printf 'LANG=C\nhttps_proxy=http://p\nAWS_SECRET_ACCESS_KEY=x\n' >"$ROOT_DIR/etc/environment"
  printf '[main]\nproxy=http://p\nbest=True\n' >"$ROOT_DIR/etc/dnf/dnf.conf"
  ln -sf dnf/dnf.conf "$ROOT_DIR/etc/yum.conf"
  echo '/swapfile none swap sw 0 0' >"$ROOT_DIR/etc/fstab"
  head -c 8192 /dev/zero | tr '\0' x >"$ROOT_DIR/swapfile"
}

@test "every leftover is found and all are listed" {
  plant
  run bash "$scripts/verify-clean.sh"
  [ "$status" -eq 1 ]
  [[ "$output" == *"error: The image would carry these "* ]]
  for entry in "${leftovers[@]}" etc/machine-id etc/hostname etc/iscsi/initiatorname.iscsi etc/environment etc/dnf/dnf.conf; do
    grep -q "^$ROOT_DIR/${entry##* }\( \|\$\)" <<<"$output" || { echo "not reported: $entry" && false; }
  done
  grep -q "^$ROOT_DIR/swapfile holds what was in memory$" <<<"$output"
}

@test "cleanup removes every one of them, and the proof then finds nothing" {
  plant
  run bash "$scripts/cleanup.sh"
  echo "$output"
  [ "$status" -eq 0 ]
  for entry in "${leftovers[@]}"; do
    [ ! -e "$ROOT_DIR/${entry%% *}" ] || { echo "still there: $entry" && false; }
  done
  run bash "$scripts/verify-clean.sh"
  echo "$output"
  [ "$status" -eq 0 ]
  [ -f "$ROOT_DIR/etc/machine-id" ]
  [ ! -s "$ROOT_DIR/etc/machine-id" ]
}

@test "cleanup keeps what is the image's own" {
  plant
  mkdir -p "$ROOT_DIR"/{etc/amazon,var/lib/dnf,home/debian/.ssh,opt/aws/amazon-cloudwatch-agent/etc/amazon-cloudwatch-agent.d}
  kept=(home/debian/.ssh/config home/debian/.bashrc etc/passwd var/lib/dnf/modulefailsafe
    opt/aws/amazon-cloudwatch-agent/etc/amazon-cloudwatch-agent.d/file_gpunodes.json)
  for path in "${kept[@]}"; do [ -e "$ROOT_DIR/$path" ] || echo x >"$ROOT_DIR/$path"; done
  bash "$scripts/cleanup.sh"
  for path in "${kept[@]}"; do [ -e "$ROOT_DIR/$path" ] || { echo "gone: $path" && false; }; done
  [ "$(cat "$ROOT_DIR/etc/environment")" = LANG=C ]
  [ "$(cat "$ROOT_DIR/etc/dnf/dnf.conf")" = $'[main]\nbest=True' ]
  [ -L "$ROOT_DIR/etc/yum.conf" ]
}

@test "cleanup does nothing on a machine that does not bake" {
  plant
  rm -r "$ROOT_DIR/dev/shm/bake"
  run bash "$scripts/cleanup.sh"
  [ "$status" -eq 1 ]
  [[ "$output" == *"error: There is no /dev/shm/bake, so this is no instance that bakes; nothing was removed"* ]]
  [ -e "$ROOT_DIR/root/.bash_history" ]
  [ ! -s "$commands" ]
}

@test "an iSCSI name comes again on each family" {
  plant
  mkdir -p "$ROOT_DIR/usr/lib/open-iscsi"
  touch "$ROOT_DIR/usr/lib/open-iscsi/startup-checks.sh"
  bash "$scripts/cleanup.sh"
  [ "$(cat "$ROOT_DIR/etc/iscsi/initiatorname.iscsi")" = GenerateName=yes ]
  rm -r "$ROOT_DIR/usr"
  plant
  bash "$scripts/cleanup.sh"
  [ ! -e "$ROOT_DIR/etc/iscsi/initiatorname.iscsi" ]
  grep -q '^ExecStartPre=.*iscsi-iname' "$ROOT_DIR/etc/systemd/system/iscsid.service.d/10-initiator-name.conf"
  rm -r "$ROOT_DIR/etc/systemd"
  plant
  mkdir -p "$ROOT_DIR/usr/lib/systemd/system"
  touch "$ROOT_DIR/usr/lib/systemd/system/iscsi-init.service"
  bash "$scripts/cleanup.sh"
  [ ! -e "$ROOT_DIR/etc/iscsi/initiatorname.iscsi" ]
  [ ! -e "$ROOT_DIR/etc/systemd/system/iscsid.service.d" ]
}

@test "a connected SSM agent is not stopped: its files go with a unit that stops after it" {
  plant
  export forgetting="$BATS_TEST_TMPDIR/forgetting"
  shim systemctl 'if [[ "$1" == is-active ]]; then [[ "$3" == amazon-ssm-agent.service || ("$3" == gpunodes-forget-ssm.service && -e "$forgetting") ]]; fi'
  shim systemd-run 'touch "$forgetting"'
  run bash "$scripts/cleanup.sh"
  [ "$status" -eq 0 ]
  grep -q '^systemd-run .*--property=Before=amazon-ssm-agent.service .*ExecStop=/bin/rm -rf /var/lib/amazon/ssm' "$commands"
  [ ! -e "$ROOT_DIR/var/lib/amazon/ssm/Vault" ]
  [ -e "$ROOT_DIR/var/lib/amazon/ssm/i-1" ]
  run bash "$scripts/verify-clean.sh"
  echo "$output"
  [ "$status" -eq 0 ]
  rm "$forgetting"
  run bash "$scripts/verify-clean.sh"
  [ "$status" -eq 1 ]
  [[ "$output" == *"$ROOT_DIR/var/lib/amazon/ssm"* ]]
  run grep -E 'systemctl stop .*ssm' "$commands"
  [ "$status" -ne 0 ]
}

@test "auditd is ended by a signal before its log goes; one that stays fails the bake" {
  export count="$BATS_TEST_TMPDIR/count"
  echo 0 >"$count"
  shim sleep
  shim systemctl 'if [[ "$*" == *"is-active"*auditd* ]]; then n="$(cat "$count")"; echo $((n + 1)) >"$count"; ((n < ${busy:-2})); elif [[ "$1" == is-active ]]; then exit 3; fi'
  run bash "$scripts/cleanup.sh"
  [ "$status" -eq 0 ]
  grep -q '^systemctl kill auditd.service$' "$commands"
  mkdir -p "$ROOT_DIR/dev/shm/bake"
  busy=999 run bash "$scripts/cleanup.sh"
  [ "$status" -eq 1 ]
  [[ "$output" == *"error: auditd does not stop"* ]]
}

@test "cleanup and its proof need to know the bake directory" {
  for script in cleanup verify-clean; do
    run env --unset=BAKE_DIR bash "$scripts/$script.sh"
    [ "$status" -ne 0 ]
    [[ "$output" == *"Set BAKE_DIR to"* ]]
  done
}
