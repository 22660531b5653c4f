#!/usr/bin/env bats
# A clone is played by a disk of the test's own, and its metadata service by curl.

bats_require_minimum_version 1.5.0 # run --separate-stderr

load shims

setup() {
  setup_shims
  export ROOT_DIR="$BATS_TEST_TMPDIR/root" BUILDER_INSTANCE_ID=i-0builder1234567890
  mkdir -p "$ROOT_DIR"/{etc/ssh,etc/systemd/system,etc/iscsi,etc/nvme,var/lib,var/log,root/.ssh,home/debian,opt}
  printf 'root:x:0:0::/root:/bin/sh\n' >"$ROOT_DIR/etc/passwd"
  echo 0123456789abcdef0123456789abcdef >"$ROOT_DIR/etc/machine-id"
  echo unit >"$ROOT_DIR/etc/systemd/system/gpumon.service"
  touch -d 2026-01-01T00:00:00Z "$ROOT_DIR/etc/systemd/system/gpumon.service"
  echo private >"$ROOT_DIR/etc/ssh/ssh_host_ed25519_key"
  echo 'ssh-ed25519 AAAAhost root@clone' >"$ROOT_DIR/etc/ssh/ssh_host_ed25519_key.pub"
  echo 'command="echo no" ssh-ed25519 AAAAlaunched me' >"$ROOT_DIR/root/.ssh/authorized_keys"
  printf '# comment\nInitiatorName=iqn.1:a\n' >"$ROOT_DIR/etc/iscsi/initiatorname.iscsi"
  shim curl 'case "$*" in *api/token) echo token ;; *openssh-key) echo "ssh-ed25519 AAAAlaunched me" ;; *instance-id) echo i-clone ;; *) exit 22 ;; esac'
  shim hostname 'echo ip-198-51-100-6'
}

complained() {
  run --separate-stderr bash "$scripts/verify-clone.sh"
  echo "$stderr"
  [ "$status" -eq 1 ]
  [[ "$stderr" == *"verify-clone.sh: error: "*"$1"* ]]
}

@test "a clean clone says who it is in one line of JSON" {
  run --separate-stderr bash "$scripts/verify-clone.sh"
  echo "$stderr"
  [ "$status" -eq 0 ]
  [ "${#lines[@]}" -eq 1 ]
  python3 - "$output" <<'PYTHON'
import hashlib, json, sys

assert json.loads(sys.argv[1]) == {
    "instance_id": "i-clone",
    "hostname": "ip-198-51-100-6",
    "machine_id": "0123456789abcdef0123456789abcdef",
    "ssh_host_keys": [hashlib.sha256(b"ssh-ed25519 AAAAhost").hexdigest()],
    "iscsi_initiator": "iqn.1:a",
    "nvme_hostnqn": None,
    "nvme_hostid": None,
}, sys.argv[1]
PYTHON
}

@test "files that name the instance that baked are listed, by content and by name" {
  mkdir -p "$ROOT_DIR/var/lib/amazon/ssm/$BUILDER_INSTANCE_ID" "$ROOT_DIR/opt/tool"
  printf 'a\0%s\n' "$BUILDER_INSTANCE_ID" >"$ROOT_DIR/opt/tool/state.db"
  complained "These files name i-0builder1234567890"
  [[ "$stderr" == *"$ROOT_DIR/var/lib/amazon/ssm/$BUILDER_INSTANCE_ID"* ]]
  [[ "$stderr" == *"$ROOT_DIR/opt/tool/state.db"* ]]
}

@test "the log of this very check does not count, another mention beside it does" {
  echo "sudo: COMMAND=/usr/bin/env BUILDER_INSTANCE_ID=$BUILDER_INSTANCE_ID bash" >"$ROOT_DIR/var/log/auth.log"
  run bash "$scripts/verify-clone.sh"
  [ "$status" -eq 0 ]
  echo "host $BUILDER_INSTANCE_ID" >>"$ROOT_DIR/var/log/auth.log"
  complained "$ROOT_DIR/var/log/auth.log"
}

@test "with the builder's facts, only files that changed since it booted are read" {
  echo "$BUILDER_INSTANCE_ID" >"$ROOT_DIR/var/log/x"
  export BUILDER_FACTS="$BATS_TEST_TMPDIR/facts.json"
  echo '{"booted_at": "2020-01-01T00:00:00Z", "collected_at": "2020-01-01T00:01:00Z"}' >"$BUILDER_FACTS"
  complained "$ROOT_DIR/var/log/x"
  echo '{"booted_at": "2999-01-01T00:00:00Z", "collected_at": "2020-01-01T00:01:00Z"}' >"$BUILDER_FACTS"
  run bash "$scripts/verify-clone.sh"
  [ "$status" -eq 0 ]
}

@test "a machine id that is missing is noticed" {
  : >"$ROOT_DIR/etc/machine-id"
  complained "/etc/machine-id is not one"
}

@test "host keys that are missing, or older than the bake, are noticed" {
  touch -d 2025-12-31T00:00:00Z "$ROOT_DIR/etc/ssh/ssh_host_ed25519_key"
  complained "/etc/ssh/ssh_host_ed25519_key is as old as the image"
  touch "$ROOT_DIR/etc/ssh/ssh_host_ed25519_key"
  BUILDER_FACTS="$BATS_TEST_TMPDIR/facts.json"
  export BUILDER_FACTS
  echo '{"booted_at": null, "collected_at": "2999-01-01T00:01:00Z"}' >"$BUILDER_FACTS"
  complained "/etc/ssh/ssh_host_ed25519_key is as old as the image"
  rm "$ROOT_DIR"/etc/ssh/ssh_host_*
  complained "There are no SSH host keys"
}

@test "a key that the clone was not launched with is noticed" {
  mkdir -p "$ROOT_DIR/home/debian/.ssh"
  echo 'debian:x:1000:1000::/home/debian:/bin/sh' >>"$ROOT_DIR/etc/passwd"
  echo 'ssh-ed25519 AAAAbuilder packer' >"$ROOT_DIR/home/debian/.ssh/authorized_keys"
  complained "/home/debian/.ssh/authorized_keys holds a key that this instance was not launched with"
}

@test "an instance that was launched without a key may have none" {
  shim curl 'case "$*" in *api/token) echo token ;; *instance-id) echo i-clone ;; *) exit 22 ;; esac'
  complained "/root/.ssh/authorized_keys holds a key"
  : >"$ROOT_DIR/root/.ssh/authorized_keys"
  run bash "$scripts/verify-clone.sh"
  [ "$status" -eq 0 ]
}

@test "all that is wrong is told at once, and the builder must be named" {
  : >"$ROOT_DIR/etc/machine-id"
  rm "$ROOT_DIR"/etc/ssh/ssh_host_*
  complained "/etc/machine-id is not one"
  [[ "$stderr" == *"There are no SSH host keys"* ]]
  run env --unset=BUILDER_INSTANCE_ID bash "$scripts/verify-clone.sh"
  [ "$status" -ne 0 ]
  [[ "$output" == *"Set BUILDER_INSTANCE_ID to"* ]]
}
