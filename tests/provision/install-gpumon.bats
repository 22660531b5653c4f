#!/usr/bin/env bats
# The real pip installs a small wheel of the test's own; systemctl and its kin are recorded.

load shims

setup() {
  setup_shims
  shim systemctl
  shim systemd-analyze
  shim journalctl
  export WHEELHOUSE="$BATS_TEST_TMPDIR/wheelhouse" VENV_DIR="$BATS_TEST_TMPDIR/venv" UNIT_DIR="$BATS_TEST_TMPDIR/units"
  export EXPECTED_GPUMON_VERSION=9.8.7 PACKAGE_FAMILY=apt
  mkdir -p "$WHEELHOUSE" "$UNIT_DIR"
  make_wheel
}

make_wheel() {
  python3 - "$WHEELHOUSE" <<'PYTHON'
import hashlib, pathlib, sys, zipfile

house = pathlib.Path(sys.argv[1])
wheel = house / "gpumon-9.8.7-py3-none-any.whl"
info = "gpumon-9.8.7.dist-info"
files = {
    "gpumon/__init__.py": "def main():\n    return 0\n",
    "gpumon/gpumon.service": "[Service]\n",
    f"{info}/METADATA": "Metadata-Version: 2.1\nName: gpumon\nVersion: 9.8.7\n",
    f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    f"{info}/entry_points.txt": "[console_scripts]\ngpumon = gpumon:main\n",
}
with zipfile.ZipFile(wheel, "w") as archive:
    for name, text in files.items():
        archive.writestr(name, text)
    archive.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"]))
digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
(house / "requirements.txt").write_text(f"gpumon==9.8.7 --hash=sha256:{digest}\n")
PYTHON
}

@test "installs the wheel, its unit and byte code, and leaves no pip behind" {
  run bash "$scripts/install-gpumon.sh"
  echo "$output"
  [ "$status" -eq 0 ]
  [ -f "$UNIT_DIR/gpumon.service" ]
  [ -n "$(find "$VENV_DIR" -path '*gpumon/__pycache__/*.pyc')" ]
  [ -z "$(find "$VENV_DIR" -name 'pip*')" ]
  grep -q '^systemctl enable --quiet gpumon.service$' "$commands"
  [ "$(tail -n 1 "$commands")" != "systemctl start gpumon.service" ]
}

@test "a wheel whose hash is off is refused and nothing is enabled" {
  sed -i 's/sha256:..../sha256:0000/' "$WHEELHOUSE/requirements.txt"
  run bash "$scripts/install-gpumon.sh"
  [ "$status" -ne 0 ]
  [[ "$output" == *"DO NOT MATCH THE HASHES"* ]]
  run grep enable "$commands"
  [ "$status" -ne 0 ]
}

# A Python that knows of no pip.
play_bare_python() {
  shim python3 'exec "$real_python3" -c "import sys, sysconfig
sys.path_importer_cache.clear(); sys.modules[\"ensurepip\"] = None
sysconfig.get_config_var = lambda name: \"/nowhere\"
exec(sys.stdin.read())"'
  export real_python3="$(PATH="${PATH#"$shims:"}" command -v python3)"
}

@test "a Python without pip gets the package that has it; where that cannot be, a sentence" {
  play_bare_python
  shim apt-get
  run bash "$scripts/install-gpumon.sh"
  echo "$output"
  [ "$status" -eq 1 ]
  [[ "$output" == *"error: python3 has no pip bundled; install python3-venv in the base image"* ]]
  [[ "$output" != *Traceback* ]]
  grep -q '^apt-get .* install --no-install-recommends python3-pip-whl$' "$commands"
  shim apt-get 'exit 100'
  run bash "$scripts/install-gpumon.sh"
  [ "$status" -eq 1 ]
  [[ "$output" == *"error: python3 has no pip bundled and its package cannot be installed"* ]]
}

# Amazon Linux 2023 as it is shipped: python3 is 3.9, which must not be used; the newer ones have numbers.
play_amazon_linux() {
  export PACKAGE_FAMILY=dnf real_python3="$(PATH="${PATH#"$shims:"}" command -v python3)"
  mkdir "$BATS_TEST_TMPDIR/bin"
  ln -s /usr/bin/* "$BATS_TEST_TMPDIR/bin"
  rm -f "$BATS_TEST_TMPDIR"/bin/python*
  PATH="$shims:$BATS_TEST_TMPDIR/bin"
  shim python3 'echo "this is 3.9" >&2; exit 1'
}

@test "Amazon Linux: the newest numbered Python is taken, not python3" {
  play_amazon_linux
  for minor in 9 11 12; do shim "python3.$minor" 'exec "$real_python3" "$@"'; done
  run bash "$scripts/install-gpumon.sh"
  echo "$output"
  [ "$status" -eq 0 ]
  grep -q '^python3.12 -m venv' "$commands"
  run grep -E '^(dnf|python3|python3.9|python3.11) ' "$commands"
  [ "$status" -ne 0 ]
}

@test "Amazon Linux: without a newer Python, python3.11 is installed by dnf" {
  play_amazon_linux
  shim dnf 'printf "#!/bin/bash\nexec \"$real_python3\" \"\$@\"\n" >"${0%/*}/python3.11"; chmod +x "${0%/*}/python3.11"'
  run bash "$scripts/install-gpumon.sh"
  echo "$output"
  [ "$status" -eq 0 ]
  grep -q '^dnf --quiet --assumeyes install python3.11$' "$commands"
}

@test "Amazon Linux: a dnf that cannot install Python fails with a sentence" {
  play_amazon_linux
  shim dnf 'exit 1'
  run bash "$scripts/install-gpumon.sh"
  [ "$status" -eq 1 ]
  [[ "$output" == *"error: The base has no Python 3.10 or newer and dnf cannot install python3.11"* ]]
}

@test "an apt base whose python3 is too old is refused with a sentence" {
  shim python3 'exit 1'
  run bash "$scripts/install-gpumon.sh"
  [ "$status" -eq 1 ]
  [[ "$output" == *"error: The base's python3 is older than 3.10"* ]]
}

@test "a wheelhouse without requirements.txt is refused with a sentence" {
  rm "$WHEELHOUSE/requirements.txt"
  run bash "$scripts/install-gpumon.sh"
  [ "$status" -eq 1 ]
  [[ "$output" == *"build the wheelhouse first"* ]]
}

@test "each input that is missing is named" {
  for name in WHEELHOUSE EXPECTED_GPUMON_VERSION PACKAGE_FAMILY; do
    run env --unset="$name" bash "$scripts/install-gpumon.sh"
    [ "$status" -ne 0 ]
    [[ "$output" == *"Set $name to"* ]]
  done
}

@test "the check fails the installation when another version came out" {
  EXPECTED_GPUMON_VERSION=1.0.0 run bash "$scripts/install-gpumon.sh"
  [ "$status" -eq 1 ]
  [[ "$output" == *"gpumon is 9.8.7, not 1.0.0"* ]]
}

@test "the check fails when the service does not start, and shows its log" {
  shim systemctl 'if [[ "$1" == start ]]; then exit 1; fi'
  shim journalctl 'echo "the reason"'
  run bash "$scripts/install-gpumon.sh"
  [ "$status" -eq 1 ]
  [[ "$output" == *"the reason"* ]]
  [[ "$output" == *"gpumon.service does not start"* ]]
  grep -q '^systemctl stop gpumon.service$' "$commands"
}

@test "the check fails when the unit is not enabled" {
  shim systemctl 'if [[ "$1" == is-enabled ]]; then exit 1; fi'
  run bash "$scripts/install-gpumon.sh"
  [ "$status" -eq 1 ]
  [[ "$output" == *"gpumon.service is not enabled"* ]]
}
