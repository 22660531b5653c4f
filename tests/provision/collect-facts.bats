#!/usr/bin/env bats
# The lists of dpkg and rpm are played; gpumon's Python is a virtual environment with an NVML of the test's own.

load shims

setup() {
  setup_shims
  export BAKE_DIR="$BATS_TEST_TMPDIR/bake" VENV_DIR="$BATS_TEST_TMPDIR/venv" PACKAGE_FAMILY=apt
  export OS_RELEASE="$BATS_TEST_TMPDIR/os-release" CLOUD_DIR="$BATS_TEST_TMPDIR/cloud" AGENT_DIR="$BATS_TEST_TMPDIR/agent"
  export CUDA_DIR="$BATS_TEST_TMPDIR/cuda" BOOT_DIR="$BATS_TEST_TMPDIR/boot" DNF_CONF="$BATS_TEST_TMPDIR/dnf.conf"
  mkdir -p "$CLOUD_DIR/data" "$AGENT_DIR/bin" "$CUDA_DIR" "$BOOT_DIR"
  printf 'PRETTY_NAME="Ubuntu"\nID=ubuntu\nVERSION_ID="24.04"\n' >"$OS_RELEASE"
  echo i-0123456789abcdef0 >"$CLOUD_DIR/data/instance-id"
  echo 1.300064.0b1337 >"$AGENT_DIR/bin/CWAGENT_VERSION"
  printf '{\n  "cuda" : {\n    "name" : "CUDA SDK",\n    "version" : "13.2.1"\n  },\n  "nvcc" : {\n    "version" : "9.9"\n  }\n}\n' >"$CUDA_DIR/version.json"
  shim dpkg-query 'printf "installed\tdeb\tzlib1g\t1:1.3\tamd64\ninstalled\tdeb\tdatacenter-gpu-manager-4-core\t1:4.7.0-1\tamd64\nconfig-files\tdeb\tgone\t1\tall\n"'
  shim rpm 'printf "rpm\tbash\t5.2-1.amzn2023\tx86_64\nrpm\tgpg-pubkey\tabc-1\t(none)\nrpm\tnvidia-driver\t3:595.64-1\tx86_64\n"'
  shim apt-mark 'printf "linux-aws\nlibnvidia-compute-595\n"'
  shim grubby 'echo /boot/vmlinuz-7.0.0-1001-aws'
  shim modinfo 'echo 595.91.07'
  make_environment
}

make_environment() {
  python3 -m venv --without-pip "$VENV_DIR"
  packages="$("$VENV_DIR/bin/python" -c 'import site; print(site.getsitepackages()[0])')"
  mkdir "$packages/gpumon-9.8.7.dist-info"
  printf 'Metadata-Version: 2.1\nName: gpumon\nVersion: 9.8.7\n' >"$packages/gpumon-9.8.7.dist-info/METADATA"
  cat >"$packages/pynvml.py" <<'PYTHON'
def nvmlInit(): pass
def nvmlSystemGetDriverVersion(): return "595.91.07"
def nvmlSystemGetCudaDriverVersion_v2(): return 13020
PYTHON
}

fact() { python3 -c 'import json, sys; print(json.dumps(json.load(open(sys.argv[1]))[sys.argv[2]]))' "$BAKE_DIR/facts/facts.json" "$1"; }

@test "apt: every fact is read" {
  run bash "$scripts/collect-facts.sh"
  echo "$output"
  [ "$status" -eq 0 ]
  [ "$(fact instance_id)" = '"i-0123456789abcdef0"' ]
  [ "$(fact os_id) $(fact os_version) $(fact architecture)" = "\"ubuntu\" \"24.04\" \"$(uname -m)\"" ]
  [ "$(fact kernel_running) $(fact kernel_default)" = "\"$(uname -r)\" \"7.0.0-1001-aws\"" ]
  [ "$(fact nvidia_driver_version) $(fact cuda_version)" = '"595.91.07" "13.2.1"' ]
  [ "$(fact cuda_driver_version) $(fact dcgm_version)" = '"13.2" "1:4.7.0-1"' ]
  [ "$(fact cloudwatch_agent_version) $(fact gpumon_version)" = '"1.300064.0b1337" "9.8.7"' ]
  [ "$(fact held_packages)" = '["libnvidia-compute-595", "linux-aws"]' ]
  [ "$(fact free_disk_bytes)" -gt 0 ]
  [[ "$(fact python_version)" == '"3.'* ]]
  [[ "$(fact booted_at)" < "$(fact collected_at)" ]]
}

@test "apt: packages are sorted lines of four fields, those that are only half removed left out" {
  bash "$scripts/collect-facts.sh"
  diff - "$BAKE_DIR/facts/packages.tsv" <<<$'deb\tdatacenter-gpu-manager-4-core\t1:4.7.0-1\tamd64\ndeb\tzlib1g\t1:1.3\tamd64\npypi\tgpumon\t9.8.7\tany'
}

@test "dnf: packages without rpm's keys, and what dnf excludes" {
  printf '[main]\nexcludepkgs=kernel6.12 cuda-13-2\n' >"$DNF_CONF"
  PACKAGE_FAMILY=dnf run bash "$scripts/collect-facts.sh"
  echo "$output"
  [ "$status" -eq 0 ]
  diff - "$BAKE_DIR/facts/packages.tsv" <<<$'pypi\tgpumon\t9.8.7\tany\nrpm\tbash\t5.2-1.amzn2023\tx86_64\nrpm\tnvidia-driver\t3:595.64-1\tx86_64'
  [ "$(fact held_packages)" = '["cuda-13-2", "kernel6.12"]' ]
  [ "$(fact dcgm_version)" = null ]
}

@test "what cannot be read is null, not empty and not zero" {
  rm -r "$CLOUD_DIR" "$AGENT_DIR" "$CUDA_DIR" "$packages/pynvml.py"
  for name in grubby modinfo apt-mark df; do shim "$name" 'exit 1'; done
  run bash "$scripts/collect-facts.sh"
  echo "$output"
  [ "$status" -eq 0 ]
  for name in instance_id kernel_default cuda_version cuda_driver_version cloudwatch_agent_version held_packages free_disk_bytes; do
    [ "$(fact $name)" = null ] || { echo "$name: $(fact $name)" && false; }
  done
  [[ "$output" == *"NVML does not answer"* ]]
}

@test "a driver that does not answer is read from its module" {
  rm "$packages/pynvml.py"
  bash "$scripts/collect-facts.sh"
  if [[ -e /proc/driver/nvidia/version ]]; then skip "this machine has the driver"; fi
  [ "$(fact nvidia_driver_version)" = '"595.91.07"' ]
}

@test "a package list that cannot be read fails the bake" {
  shim dpkg-query 'exit 2'
  run bash "$scripts/collect-facts.sh"
  [ "$status" -eq 1 ]
  [[ "$output" == *"error: The packages of the base cannot be listed"* ]]
}

@test "an image without gpumon fails the bake" {
  rm -r "$VENV_DIR"
  run bash "$scripts/collect-facts.sh"
  [ "$status" -eq 1 ]
  [[ "$output" == *"error: gpumon's Python in $VENV_DIR does not answer"* ]]
}

@test "each input that is missing is named" {
  for name in BAKE_DIR PACKAGE_FAMILY; do
    run env --unset="$name" bash "$scripts/collect-facts.sh"
    [ "$status" -ne 0 ]
    [[ "$output" == *"Set $name to"* ]]
  done
}
