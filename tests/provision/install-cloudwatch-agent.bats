#!/usr/bin/env bats
# A real key, real signatures and the real gpgv; curl copies out of a directory, dpkg and dnf are recorded.

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
  local package="${2:-$latest/amazon-cloudwatch-agent.deb}"
  gpg --homedir "$keys" --batch --quiet --yes --local-user "$1" --output "$package.sig" --detach-sign "$package"
}

# An Amazon Linux base, and the package that AWS has for it.
play_amazon_linux() {
  export PACKAGE_FAMILY=dnf
  printf 'ID="amzn"\nVERSION_ID="2023"\n' >"$OS_RELEASE"
  rpm="$bucket/amazon_linux/amd64/latest/amazon-cloudwatch-agent.rpm"
  mkdir -p "${rpm%/*}"
  echo rpm >"$rpm"
  sign_with aws "$rpm"
  shim dnf install_agent
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
  shim dpkg install_agent
  shim uname 'echo x86_64'
  export AGENT_DIR="$BATS_TEST_TMPDIR/agent"
  mkdir -p "$AGENT_DIR/bin" "$AGENT_DIR/etc/amazon-cloudwatch-agent.d"
  echo '{}' >"$AGENT_DIR/etc/gpunodes.json"
  printf '#!/bin/bash\nctl="$AGENT_DIR/bin/amazon-cloudwatch-agent-ctl"\nprintf "#!/bin/bash\\n. $shims/ctl\\n" >"$ctl"\nchmod +x "$ctl"\necho 1.2.3 >"$AGENT_DIR/bin/CWAGENT_VERSION"\n' \
    >"$shims/install_agent"
  chmod +x "$shims/install_agent"
  shim ctl 'if [[ "$2" == status ]]; then echo "\"configstatus\": \"configured\""; exit; fi
cp "${6#file:}" "$AGENT_DIR/etc/amazon-cloudwatch-agent.d/file_gpunodes.json"; echo "Configuration validation succeeded"'
  export shims AGENT_BASE_URL=http://bucket AGENT_RETRY_SECONDS=0 OS_RELEASE="$BATS_TEST_TMPDIR/os-release" PACKAGE_FAMILY=apt
  export AGENT_KEY_FINGERPRINT="$(fingerprint_of aws)"
  echo 'ID=debian' >"$OS_RELEASE"
}

refused() {
  [ "$status" -eq 1 ]
  run grep -E 'dpkg --install|dnf .*install' "$commands"
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
  for name in AGENT_BASE_URL AGENT_KEY_FINGERPRINT PACKAGE_FAMILY; do
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

@test "a base that is not covered is refused with a sentence" {
  echo 'ID="fedora"' >"$OS_RELEASE"
  PACKAGE_FAMILY=dnf run bash "$scripts/install-cloudwatch-agent.sh"
  [[ "$output" == *"error: The CloudWatch agent cannot be installed on fedora by dnf; use"* ]]
  refused
}

@test "a processor that AWS has no agent for is refused with a sentence" {
  shim uname 'echo riscv64'
  run bash "$scripts/install-cloudwatch-agent.sh"
  [[ "$output" == *"error: There is no CloudWatch agent for riscv64"* ]]
  refused
}

@test "Amazon Linux: the signed rpm is installed by dnf, without asking a repository" {
  play_amazon_linux
  run bash "$scripts/install-cloudwatch-agent.sh"
  echo "$output"
  [ "$status" -eq 0 ]
  grep -q "^dnf --quiet --assumeyes --disablerepo=\* install .*/amazon-cloudwatch-agent.rpm\$" "$commands"
  run grep dpkg "$commands"
  [ "$status" -ne 0 ]
}

@test "Amazon Linux: a foreign signature is refused" {
  play_amazon_linux
  sign_with foreign "$rpm"
  run bash "$scripts/install-cloudwatch-agent.sh"
  [[ "$output" == *"error: "*"is not signed by"* ]]
  refused
}

@test "Amazon Linux: its own gnupg, which lacks gpgv, is replaced; without it nothing is installed" {
  play_amazon_linux
  mkdir "$BATS_TEST_TMPDIR/bin"
  for name in bash dirname mktemp rm sed tr gpg cat; do ln -s "$(command -v $name)" "$BATS_TEST_TMPDIR/bin/$name"; done
  shim dnf 'exit 1'
  run env PATH="$shims:$BATS_TEST_TMPDIR/bin" bash "$scripts/install-cloudwatch-agent.sh"
  echo "$output"
  [ "$status" -eq 1 ]
  [[ "$output" == *"error: gpg and gpgv cannot be installed"* ]]
  grep -q '^dnf --quiet --assumeyes --allowerasing install gnupg2-full$' "$commands"
}

@test "a version that is pinned is the one that is downloaded" {
  mv "$latest" "${latest%/*}/1.2.3"
  AGENT_VERSION=1.2.3 run bash "$scripts/install-cloudwatch-agent.sh"
  [ "$status" -eq 0 ]
  grep -q 'http://bucket/debian/amd64/1.2.3/amazon-cloudwatch-agent.deb$' "$commands"
}

@test "a package that holds another version than its folder says is refused" {
  mv "$latest" "${latest%/*}/1.2.4"
  AGENT_VERSION=1.2.4 run bash "$scripts/install-cloudwatch-agent.sh"
  [ "$status" -eq 1 ]
  [[ "$output" == *"error: The package of version 1.2.4 holds the agent 1.2.3; correct agent_version"* ]]
}

@test "a version that does not exist is refused with a sentence" {
  AGENT_VERSION=9.9 run bash "$scripts/install-cloudwatch-agent.sh"
  [[ "$output" == *"error: "*"cannot be downloaded from http://bucket/debian/amd64/9.9/"* ]]
  refused
}

@test "a pinned SHA-256 is checked beside the signature" {
  digest="$(sha256sum "$latest/amazon-cloudwatch-agent.deb" | cut -d' ' -f1)"
  AGENT_SHA256="${digest^^}" run bash "$scripts/install-cloudwatch-agent.sh"
  [ "$status" -eq 0 ]
  : >"$commands"
  AGENT_SHA256="${digest/[0-9]/x}" run bash "$scripts/install-cloudwatch-agent.sh"
  [[ "$output" == *"error: The package at "*" has the SHA-256 $digest, not the pinned"* ]]
  refused
}

@test "what was configured before stays, and the check holds it" {
  install_agent
  touch "$AGENT_DIR/bin/amazon-cloudwatch-agent" && chmod +x "$AGENT_DIR/bin/amazon-cloudwatch-agent"
  echo '{"metrics": 1}' >"$AGENT_DIR/etc/amazon-cloudwatch-agent.d/ssm_theirs"
  run bash "$scripts/install-cloudwatch-agent.sh"
  [ "$status" -eq 0 ]
  grep -q metrics "$AGENT_DIR/etc/amazon-cloudwatch-agent.d/ssm_theirs"
  # An agent that wipes it, as fetch-config does.
  sed -i 's/^cp /rm "$AGENT_DIR"\/etc\/amazon-cloudwatch-agent.d\/*; cp /' "$shims/ctl"
  run bash "$scripts/install-cloudwatch-agent.sh"
  echo "$output"
  [ "$status" -eq 1 ]
  [[ "$output" == *"error: Appending changed what was configured before"*"ssm_theirs"* ]]
}

@test "a configuration that exists as TOML only is not overwritten" {
  install_agent
  touch "$AGENT_DIR/bin/amazon-cloudwatch-agent" && chmod +x "$AGENT_DIR/bin/amazon-cloudwatch-agent"
  echo '[agent]' >"$AGENT_DIR/etc/amazon-cloudwatch-agent.toml"
  run bash "$scripts/install-cloudwatch-agent.sh"
  [ "$status" -eq 1 ]
  [[ "$output" == *"error: The base configures its agent by a TOML file alone"* ]]
  run grep append-config "$commands"
  [ "$status" -ne 0 ]
}

@test "a configuration that the agent refuses fails the bake with the agent's words" {
  shim ctl 'touch "$AGENT_DIR/etc/amazon-cloudwatch-agent.d/file_gpunodes.json.tmp"
echo "2026/11/22 07:00:00 E! Invalid Json input schema."
echo "2026/11/22 07:00:00 Under path : /metrics/metrics_collected/mem/measurement | Error : Invalid type. Expected: array, given: string"
echo "Configuration validation first phase failed. Agent version: 1.2.3." >&2; exit 99'
  run bash "$scripts/install-cloudwatch-agent.sh"
  echo "$output"
  [ "$status" -eq 1 ]
  [[ "$output" == *"error: The CloudWatch agent refuses its configuration with ours appended (E! Invalid Json input schema;Under path : /metrics/metrics_collected/mem/measurement | Error : Invalid type. Expected: array, given: string)"* ]]
  [[ "$output" == *"first phase failed"* ]]
  [ ! -e "$AGENT_DIR/etc/amazon-cloudwatch-agent.d/file_gpunodes.json.tmp" ]
}

@test "an agent that does not say that it validated is not believed" {
  shim ctl 'true'
  run bash "$scripts/install-cloudwatch-agent.sh"
  [ "$status" -eq 1 ]
  [[ "$output" == *"error: The CloudWatch agent refuses its configuration"* ]]
}

@test "a lock that another dpkg holds is waited for" {
  shim dpkg 'if (($(grep -c "dpkg --install" "$commands") < 3)); then echo "dpkg: error: dpkg frontend lock was locked by another process" >&2; exit 2; fi
install_agent'
  run bash "$scripts/install-cloudwatch-agent.sh"
  echo "$output"
  [ "$status" -eq 0 ]
  [ "$(grep -c 'dpkg --install' "$commands")" -eq 3 ]
}

@test "a package that cannot be installed fails at once with the reason" {
  shim dpkg 'echo "dpkg: error processing archive" >&2; exit 1'
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
