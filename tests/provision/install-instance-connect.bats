#!/usr/bin/env bats
# Package managers and sshd are recorded; a package that was installed is a file.

load shims

setup() {
  setup_shims
  installed="$BATS_TEST_TMPDIR/installed"
  export installed PACKAGE_FAMILY=apt
  shim dpkg-query '[ -e "$installed" ] && echo installed'
  shim rpm '[ -e "$installed" ]'
  shim sshd 'echo "authorizedkeyscommand none"'
  shim apt-cache
  shim apt-get '[[ "$*" != *install* ]] || touch "$installed"'
  shim dnf '[[ "$*" != *install* ]] || touch "$installed"'
}

@test "a base that has the package is left alone" {
  touch "$installed"
  run bash "$scripts/install-instance-connect.sh"
  echo "$output"
  [ "$status" -eq 0 ]
  run grep -E '^(apt-get|dnf) ' "$commands"
  [ "$status" -ne 0 ]
}

@test "a base whose sshd is configured for it is left alone" {
  shim sshd 'echo "authorizedkeyscommand /usr/share/ec2-instance-connect/eic_run_authorized_keys %u"; seq 100000 || exit'
  run bash "$scripts/install-instance-connect.sh"
  echo "$output"
  [ "$status" -eq 0 ]
  run grep -E '^(apt-get|dnf) ' "$commands"
  [ "$status" -ne 0 ]
}

@test "another command for keys is not this one" {
  shim sshd 'echo "authorizedkeyscommand /usr/bin/sss_ssh_authorizedkeys %u"'
  run bash "$scripts/check-instance-connect.sh"
  [ "$status" -eq 1 ]
  [[ "$output" == *"error: sshd does not look for keys that EC2 Instance Connect pushes"* ]]
}

@test "the package is installed where the archive has it" {
  for PACKAGE_FAMILY in apt dnf; do
    rm -f "$installed"
    run bash "$scripts/install-instance-connect.sh"
    echo "$output"
    [ "$status" -eq 0 ]
    [ -e "$installed" ]
    [[ "$output" == *"keys that EC2 Instance Connect pushes are accepted"* ]]
  done
  grep -q '^apt-get .* install --no-install-recommends ec2-instance-connect$' "$commands"
  grep -q '^dnf --quiet --assumeyes install ec2-instance-connect$' "$commands"
}

@test "an archive without the package is said, and the bake goes on" {
  shim apt-cache 'exit 100'
  run bash "$scripts/install-instance-connect.sh"
  echo "$output"
  [ "$status" -eq 0 ]
  [ ! -e "$installed" ]
  [[ "$output" == *'has no package ec2-instance-connect: its images are proven with ssh_key = "key_pair"'* ]]
}

@test "an archive that does not answer is no archive without the package" {
  shim apt-get 'exit 100'
  run bash "$scripts/install-instance-connect.sh"
  echo "$output"
  [ "$status" -eq 1 ]
  [[ "$output" == *"error: The package lists cannot be fetched"* ]]
  grep -q '^apt-get .* APT::Update::Error-Mode=any update$' "$commands"
}

@test "an installation that fails is an error" {
  shim dnf '[[ "$*" != *install* ]] || exit 1'
  PACKAGE_FAMILY=dnf run bash "$scripts/install-instance-connect.sh"
  echo "$output"
  [ "$status" -eq 1 ]
  [[ "$output" == *"error: ec2-instance-connect cannot be installed"* ]]
}

@test "a package that was installed and is not there fails the check" {
  shim apt-get
  run bash "$scripts/install-instance-connect.sh"
  echo "$output"
  [ "$status" -eq 1 ]
  [[ "$output" == *"error: sshd does not look for keys"* ]]
}

@test "another package family is refused" {
  PACKAGE_FAMILY=zypper run bash "$scripts/install-instance-connect.sh"
  echo "$output"
  [ "$status" -eq 1 ]
  [[ "$output" == *"error: The package family zypper is not known"* ]]
}
