#!/usr/bin/env bats
# A real key, real signatures and the real gpgv; curl copies out of a directory and dpkg is recorded.

load shims

setup_file() {
  export keys="$BATS_FILE_TMPDIR/k"
  mkdir -m 700 "$keys"
  for name in aws foreign; do
    gpg --homedir "$keys" --batch --quiet --passphrase '' --quick-generate-key "$name" ed25519 sign never 2>/dev/null
  done
}

teardown_file() {
  gpgconf --homedir "$keys" --kill all
}

fingerprint_of() { gpg --homedir "$keys" --with-colons --list-keys "$1" | awk -F: '$1 == "fpr" { print $10; exit }'; }

sign_with() {
  gpg --homedir "$keys" --batch --quiet --yes --local-user "$1" --output "$latest/amazon-cloudwatch-agent.deb.sig" \
    --detach-sign "$latest/amazon-cloudwatch-agent.deb"
}

setup() {
  setup_shims
  export bucket="$BATS_TEST_TMPDIR/bucket"
  latest="$bucket/debian/amd64/latest"
  mkdir -p "$latest" "$bucket/assets"
  echo package >"$latest/amazon-cloudwatch-agent.deb"
  sign_with aws
  gpg --homedir "$keys" --armor --export aws >"$bucket/assets/amazon-cloudwatch-agent.gpg"
  shim curl 'while [[ $# -gt 1 ]]; do if [[ "$1" == --output ]]; then out="$2"; fi; shift; done; cp "$bucket/${1#http://bucket/}" "$out"'
  shim systemctl
  shim dpkg 'if [[ "$1" == --print-architecture ]]; then echo amd64; else install_agent; fi'
  export AGENT_DIR="$BATS_TEST_TMPDIR/agent"
  mkdir -p "$AGENT_DIR/bin" "$AGENT_DIR/etc/amazon-cloudwatch-agent.d"
  echo '{}' >"$AGENT_DIR/etc/gpunodes.json"
  printf '#!/bin/bash\nctl="$AGENT_DIR/bin/amazon-cloudwatch-agent-ctl"\nprintf "#!/bin/bash\\n. $shims/ctl\\n" >"$ctl"\nchmod +x "$ctl"\n' \
    >"$shims/install_agent"
  chmod +x "$shims/install_agent"
  shim ctl 'if [[ "$2" == status ]]; then echo "\"configstatus\": \"configured\""; else cp "${6#file:}" "$AGENT_DIR/etc/amazon-cloudwatch-agent.d/file_gpunodes.json"; fi'
  export shims AGENT_BASE_URL=http://bucket AGENT_RETRY_SECONDS=0 OS_RELEASE="$BATS_TEST_TMPDIR/os-release"
  export AGENT_KEY_FINGERPRINT="$(fingerprint_of aws)"
  echo 'ID=debian' >"$OS_RELEASE"
}

refused() {
  [ "$status" -eq 1 ]
  run grep 'dpkg --install' "$commands"
  [ "$status" -ne 0 ]
}

@test "installs the signed package, appends our configuration and enables the unit" {
  run bash "$scripts/install-cloudwatch-agent.sh"
  echo "$output"
  [ "$status" -eq 0 ]
  grep -q '^dpkg --install' "$commands"
  grep -q "^ctl -a append-config -m ec2 -c file:$AGENT_DIR/etc/gpunodes.json\$" "$commands"
  grep -q '^systemctl enable --quiet amazon-cloudwatch-agent.service$' "$commands"
}

@test "the base image's own agent is kept, not downloaded" {
  install_agent
  printf '#!/bin/true\n' >"$AGENT_DIR/bin/amazon-cloudwatch-agent"
  chmod +x "$AGENT_DIR/bin/amazon-cloudwatch-agent"
  echo 1.2.3 >"$AGENT_DIR/bin/CWAGENT_VERSION"
  run bash "$scripts/install-cloudwatch-agent.sh"
  [ "$status" -eq 0 ]
  [[ "$output" == *"ships the agent: 1.2.3"* ]]
  run grep curl "$commands"
  [ "$status" -ne 0 ]
}

@test "each input that is missing is named" {
  for name in AGENT_BASE_URL AGENT_KEY_FINGERPRINT; do
    run env --unset="$name" bash "$scripts/install-cloudwatch-agent.sh"
    [ "$status" -ne 0 ]
    [[ "$output" == *"Set $name to"* ]]
  done
}

@test "a key with another fingerprint is refused" {
  AGENT_KEY_FINGERPRINT="$(fingerprint_of foreign)" run bash "$scripts/install-cloudwatch-agent.sh"
  [[ "$output" == *"do not trust it"* ]]
  refused
}

@test "a tampered package is refused after three attempts" {
  echo tampered >>"$latest/amazon-cloudwatch-agent.deb"
  run bash "$scripts/install-cloudwatch-agent.sh"
  [[ "$output" == *"is not signed by"* ]]
  [ "$(grep -c 'latest/amazon-cloudwatch-agent.deb$' "$commands")" -eq 3 ]
  refused
}

@test "a foreign signature is refused, even with the foreign key in the same key file" {
  sign_with foreign
  gpg --homedir "$keys" --export aws foreign >"$bucket/assets/amazon-cloudwatch-agent.gpg"
  run bash "$scripts/install-cloudwatch-agent.sh"
  [[ "$output" == *"is not signed by"* ]]
  refused
}

@test "package and signature that change between two downloads are fetched again" {
  cp "$latest/amazon-cloudwatch-agent.deb" "$bucket/good"
  echo new >"$latest/amazon-cloudwatch-agent.deb"
  shim gpgv 'cp "$bucket/good" "$bucket/debian/amd64/latest/amazon-cloudwatch-agent.deb"; exec /usr/bin/gpgv "$@"'
  run bash "$scripts/install-cloudwatch-agent.sh"
  [ "$status" -eq 0 ]
  [[ "$output" == *"attempt 1: the signature does not fit"* ]]
  [ "$(grep -c 'latest/amazon-cloudwatch-agent.deb$' "$commands")" -eq 2 ]
}

@test "a family that is not covered is refused with a sentence" {
  echo 'ID="amzn"' >"$OS_RELEASE"
  run bash "$scripts/install-cloudwatch-agent.sh"
  [[ "$output" == *"cannot be installed on amzn yet"* ]]
  refused
}

@test "a lock that another dpkg holds is waited for" {
  shim dpkg 'if [[ "$1" == --print-architecture ]]; then echo amd64; exit; fi
if (($(grep -c "dpkg --install" "$commands") < 3)); then echo "dpkg: error: dpkg frontend lock was locked by another process" >&2; exit 2; fi
install_agent'
  run bash "$scripts/install-cloudwatch-agent.sh"
  echo "$output"
  [ "$status" -eq 0 ]
  [ "$(grep -c 'dpkg --install' "$commands")" -eq 3 ]
}

@test "a package that cannot be installed fails at once with the reason" {
  shim dpkg 'if [[ "$1" == --print-architecture ]]; then echo amd64; exit; fi
echo "dpkg: error processing archive" >&2; exit 1'
  run bash "$scripts/install-cloudwatch-agent.sh"
  [ "$status" -eq 1 ]
  [[ "$output" == *"error processing archive"* ]]
  [ "$(grep -c 'dpkg --install' "$commands")" -eq 1 ]
}

@test "the check fails when the unit is not enabled" {
  shim systemctl 'if [[ "$1" == is-enabled ]]; then exit 1; fi'
  run bash "$scripts/install-cloudwatch-agent.sh"
  [ "$status" -eq 1 ]
  [[ "$output" == *"is not enabled"* ]]
}
