#!/usr/bin/env bash
# Writes what is on the image for the evidence: facts.json (null = could not be read) and packages.tsv (manager, name,
# version, architecture). Changes nothing else, and fails only where the lists themselves cannot be written.
set -euo pipefail

log() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

fail() {
  log "error: $*"
  exit 1
}

# shellcheck disable=SC2016 # dpkg's variables, not the shell's
readonly dpkg_line='${db:Status-Status}\tdeb\t${Package}\t${Version}\t${Architecture}\n'
readonly rpm_line='rpm\t%{NAME}\t%|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}\t%{ARCH}\n'

# Prints a fact and its value, which may be empty: then it could not be read.
fact() { printf '%s\t%s\n' "$1" "$2"; }

first_line() { head --lines 1 "$1" 2>/dev/null || true; }

list_packages() {
  case "$family" in
    apt) dpkg-query --show --showformat "$dpkg_line" | sed -n 's/^installed\t//p' ;;
    dnf) rpm --query --all --queryformat "$rpm_line" | sed '/^rpm\tgpg-pubkey\t/d' ;; # a key, not a package
    *) fail "The package family $family is not known; set package_family to apt or dnf." ;;
  esac
}

# One process for all that Python reads: gpumon's packages for the list, and what NVML says for the facts.
read_gpumon() {
  "$venv/bin/python" - "$1" <<'PYTHON'
import platform, sys
from importlib.metadata import distributions

with open(sys.argv[1], "a") as packages:
    for found in distributions():
        name, version = found.metadata["Name"], found.version
        packages.write(f"pypi\t{name}\t{version}\tany\n")
        if name == "gpumon":
            print("gpumon_version", version, sep="\t")
print("python_version", platform.python_version(), sep="\t")
try:
    import pynvml

    pynvml.nvmlInit()
    print("nvidia_driver_version", pynvml.nvmlSystemGetDriverVersion(), sep="\t")
    cuda = pynvml.nvmlSystemGetCudaDriverVersion_v2()
    print("cuda_driver_version", f"{cuda // 1000}.{cuda % 1000 // 10}", sep="\t")
except Exception as error:  # the driver is asked elsewhere, too
    print(f"collect-facts.sh: NVML does not answer: {error}", file=sys.stderr)
PYTHON
}

driver_version() {
  local version
  version="$(sed -n 's/^NVRM version:.* \([0-9][0-9.]*[0-9]\) .*/\1/p' /proc/driver/nvidia/version 2>/dev/null)" ||
    version="$(modinfo --field version nvidia 2>/dev/null)" || true
  printf '%s' "$version"
}

cuda_version() {
  sed -n '/"cuda" *:/,/}/s/.*"version" *: *"\([^"]*\)".*/\1/p' "${CUDA_DIR:-/usr/local/cuda}/version.json" 2>/dev/null ||
    true
}

default_kernel() {
  local image
  image="$(grubby --default-kernel 2>/dev/null || readlink "${BOOT_DIR:-/boot}/vmlinuz" || true)"
  printf '%s' "${image##*vmlinuz-}"
}

os_release() { sed -n "s/^$1=//p" "${OS_RELEASE:-/etc/os-release}" | tr -d '"'; }

instance_id() { first_line "${CLOUD_DIR:-/var/lib/cloud}/data/instance-id"; }

list_held() {
  case "$family" in
    apt) apt-mark showhold ;;
    dnf) sed -n 's/^excludepkgs=//p' "${DNF_CONF:-/etc/dnf/dnf.conf}" ;;
  esac
}

list_facts() {
  local packages="$1" held
  fact collected_at "$(date --utc +%Y-%m-%dT%H:%M:%SZ)"
  fact booted_at "$(date --utc --date "@$(sed -n 's/^btime //p' /proc/stat)" +%Y-%m-%dT%H:%M:%SZ)"
  fact instance_id "$(instance_id)"
  fact kernel_running "$(uname --kernel-release)"
  fact kernel_default "$(default_kernel)"
  fact architecture "$(uname --machine)"
  fact os_id "$(os_release ID)"
  fact os_version "$(os_release VERSION_ID)"
  fact nvidia_driver_version "$(driver_version)"
  fact cuda_version "$(cuda_version)"
  fact dcgm_version "$(awk -F '\t' '$2 ~ /^datacenter-gpu-manager(-4-core)?$/ { print $3; exit }' "$packages")"
  fact cloudwatch_agent_version "$(first_line "${AGENT_DIR:-/opt/aws/amazon-cloudwatch-agent}/bin/CWAGENT_VERSION")"
  fact free_disk_bytes "$(df --output=avail --block-size=1 / | tail -n 1)"
  if held="$(list_held)"; then fact held_packages "$(paste --serial --delimiters=' ' <<<"$held")"; fi
}

main() {
  : "${BAKE_DIR:?Set BAKE_DIR to the directory that the bake was uploaded to.}"
  local family="${PACKAGE_FAMILY:?Set PACKAGE_FAMILY to apt or dnf.}"
  local folder="$BAKE_DIR/facts" venv="${VENV_DIR:-/opt/gpumon}"
  umask 022
  mkdir -p "$folder"
  list_packages >"$folder/packages.tsv" || fail "The packages of the base cannot be listed; see the reason above."
  {
    list_facts "$folder/packages.tsv"
    read_gpumon "$folder/packages.tsv" || fail "gpumon's Python in $venv does not answer; install gpumon first."
  } >"$folder/facts.tsv"
  LC_ALL=C sort --unique --output="$folder/packages.tsv" "$folder/packages.tsv"
  write_json "$folder/facts.tsv" "$folder/facts.json"
  rm "$folder/facts.tsv"
  log "$(wc --lines <"$folder/packages.tsv") packages"
}

# Later lines win; an empty value does not take the place of one that was read.
write_json() {
  python3 - "$1" "$2" <<'PYTHON'
import json, sys

KEYS = """instance_id os_id os_version architecture kernel_running kernel_default nvidia_driver_version cuda_version
cuda_driver_version dcgm_version cloudwatch_agent_version gpumon_version python_version held_packages free_disk_bytes
booted_at collected_at"""
facts = dict.fromkeys(KEYS.split())
with open(sys.argv[1]) as lines:
    for line in lines:
        name, _, value = line.rstrip("\n").partition("\t")
        if name == "held_packages":
            facts[name] = sorted(value.split())
        elif value.strip():
            facts[name] = int(value) if name == "free_disk_bytes" else value.strip()
with open(sys.argv[2], "w") as file:
    json.dump(facts, file, indent=2)
    file.write("\n")
PYTHON
}

main "$@"
