#!/usr/bin/env bats
# dpkg, apt-mark and rpm are recorded; dnf.conf is a file of the test's, read back by a stand-in for dnf's own module.

load shims

setup() {
  setup_shims
  export PACKAGE_FAMILY=apt DNF_CONF="$BATS_TEST_TMPDIR/dnf.conf" held="$BATS_TEST_TMPDIR/held"
  shim dpkg-query 'printf "installed %s\n" bash nvidia-driver-595-open libnvidia-compute-595:amd64 libnvidia-compute-595:i386 cuda-toolkit-13-2 \
    datacenter-gpu-manager-4-core nvidia-fabricmanager-595 linux-image-6.8.0-1021-aws linux-aws linux-libc-dev \
    nvidia-container-toolkit libnvidia-container1; echo config-files nvidia-driver-580'
  # As the real one: asked for name:amd64, it says name.
  shim apt-mark 'if [[ "$1" == hold ]]; then shift; printf "%s\n" "${@%:amd64}" >"$held"; else cat "$held"; fi'
  shim dpkg 'echo amd64'
  shim rpm 'printf "%s\n" bash kernel6.12 kernel6.12-devel kernel-livepatch-repo-s3 kernel-srpm-macros nvidia-driver \
    kmod-nvidia-open-dkms cuda-13-2 datacenter-gpu-manager-4-core nvidia-fabric-manager nvidia-container-toolkit'
  export PYTHONPATH="$BATS_TEST_TMPDIR/python"
  mkdir -p "$PYTHONPATH"
  cat >"$PYTHONPATH/dnf.py" <<'PYTHON'
import configparser, os

class Base:
    def __init__(self):
        self.conf = self

    def read(self):
        config = configparser.ConfigParser(interpolation=None)
        config.read(os.environ["DNF_CONF"])
        self.excludepkgs = config.get("main", "excludepkgs", fallback="").split()
PYTHON
}

@test "apt: kernel and NVIDIA packages that are installed are held, and nothing else" {
  run bash "$scripts/hold-packages.sh"
  echo "$output"
  [ "$status" -eq 0 ]
  expected="cuda-toolkit-13-2 datacenter-gpu-manager-4-core libnvidia-compute-595 libnvidia-compute-595:i386 linux-aws"
  expected+=" linux-image-6.8.0-1021-aws"
  [ "$(LC_ALL=C sort "$held" | paste -sd ' ')" = "$expected nvidia-driver-595-open nvidia-fabricmanager-595" ]
  [[ "$output" == *"8 packages are held"* ]]
}

@test "dnf: they are excluded, and dnf.conf keeps what it had" {
  printf '[main]\ngpgcheck=1\nexclude=old-*\n  older\nbest=True\n[extra]\nexclude=not-ours\n' >"$DNF_CONF"
  PACKAGE_FAMILY=dnf run bash "$scripts/hold-packages.sh"
  echo "$output"
  [ "$status" -eq 0 ]
  kinds="cuda-13-2 datacenter-gpu-manager-4-core kernel6.12 kernel6.12-devel kmod-nvidia-open-dkms nvidia-driver"
  diff - "$DNF_CONF" <<CONF
[main]
excludepkgs=$kinds nvidia-fabric-manager old-* older
gpgcheck=1
best=True
[extra]
exclude=not-ours
CONF
}

@test "dnf: holding twice changes nothing more, and a missing dnf.conf is made" {
  PACKAGE_FAMILY=dnf bash "$scripts/hold-packages.sh"
  cp "$DNF_CONF" "$DNF_CONF.first"
  PACKAGE_FAMILY=dnf bash "$scripts/hold-packages.sh"
  cmp "$DNF_CONF.first" "$DNF_CONF"
  [ "$(grep -c excludepkgs "$DNF_CONF")" -eq 1 ]
}

@test "a base without such packages has nothing to hold" {
  shim dpkg-query 'echo installed bash'
  run bash "$scripts/hold-packages.sh"
  [ "$status" -eq 0 ]
  [[ "$output" == *"nothing to hold"* ]]
  run grep apt-mark "$commands"
  [ "$status" -ne 0 ]
}

@test "the check names the package that is not held" {
  shim apt-mark 'if [[ "$1" == showhold ]]; then echo linux-aws; fi'
  run bash "$scripts/hold-packages.sh"
  [ "$status" -eq 1 ]
  [[ "$output" == *"error: These packages are not held"*"cuda-toolkit-13-2 "* ]]
  [[ "$output" != *": linux-aws"* ]]
}

@test "the check names what dnf does not exclude" {
  echo 'print()' >"$PYTHONPATH/dnf.py"
  printf 'class Base:\n    class conf:\n        excludepkgs = ()\n        read = staticmethod(lambda: None)\n' >"$PYTHONPATH/dnf.py"
  PACKAGE_FAMILY=dnf run bash "$scripts/hold-packages.sh"
  [ "$status" -eq 1 ]
  [[ "$output" == *"error: These packages are not held"*"kernel6.12 "* ]]
}

@test "apt-mark that fails, and a package list that cannot be read, fail with a sentence" {
  shim apt-mark 'exit 1'
  run bash "$scripts/hold-packages.sh"
  [ "$status" -eq 1 ]
  [[ "$output" == *"error: apt-mark cannot hold"* ]]
  shim dpkg-query 'exit 2'
  run bash "$scripts/hold-packages.sh"
  [ "$status" -eq 1 ]
  [[ "$output" == *"error: The packages of the base cannot be listed"* ]]
}
