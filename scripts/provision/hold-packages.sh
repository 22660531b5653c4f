#!/usr/bin/env bash
# Holds the installed packages of the kernel and of NVIDIA (driver, CUDA, DCGM, fabric manager): a clone that upgrades one
# of them by itself loses its GPUs. Security fixes for them come with the next bake.
# dnf: excludepkgs in dnf.conf, which is dnf's own and needs no network. versionlock is a plugin that Amazon Linux 2023
# does not come with, and dnf 4 reads no other file for the exclusion.
set -euo pipefail

log() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

fail() {
  log "error: $*"
  exit 1
}

# shellcheck disable=SC2016 # dpkg's variables, not the shell's
readonly dpkg_line='${db:Status-Status} ${binary:Package}\n'

# Regular expressions of what is held, one a line.
list_kinds() {
  cat <<'KINDS'
^(lib|xserver-xorg-video-|kmod-|dkms-)?nvidia
^cuda
^libcu(da|blas|fft|rand|solver|sparse|dnn|file)
^libn(ccl|pp|vjpeg|vjitlink|vvm|vsdm)
^datacenter-gpu-manager
^dkms$
^linux-(image|headers|modules|objects|signatures|aws|generic|virtual|cloud)
^kernel[0-9.]*(-(core|devel|headers|modules.*))?$
KINDS
}

# Not held: the container toolkit, which works with any driver, and live patches, which are made for the running kernel.
select_held() {
  grep --extended-regexp --file <(list_kinds) | grep --invert-match --extended-regexp 'container|nvidia-docker' |
    sort --unique
}

list_installed() {
  case "$family" in
    apt) # apt names the architecture of foreign packages only, dpkg that of libraries, too
      dpkg-query --show --showformat "$dpkg_line" | sed -n "s/:$(dpkg --print-architecture)\$//; s/^installed //p"
      ;;
    dnf) rpm --query --all --queryformat '%{NAME}\n' ;;
    *) fail "The package family $family is not known; set package_family to apt or dnf." ;;
  esac
}

# Adds to what dnf.conf excludes; the rest of the file stays as it is.
exclude_from_dnf() {
  python3 - "${DNF_CONF:-/etc/dnf/dnf.conf}" "$@" <<'PYTHON'
import configparser, pathlib, re, sys

path, names = pathlib.Path(sys.argv[1]), sys.argv[2:]
text = path.read_text() if path.exists() else ""
if not re.search(r"^\[main\]", text, re.MULTILINE):
    text = f"[main]\n{text}"
config = configparser.ConfigParser(interpolation=None, strict=False)
config.read_string(text)
before = [config.get("main", key, fallback="") for key in ("exclude", "excludepkgs")]
excluded = sorted({*names, *" ".join(before).replace(",", " ").split()})
head, main, rest = re.split(r"^(\[main\].*\n(?:(?!\[).*\n?)*)", text, maxsplit=1, flags=re.MULTILINE)
main = re.sub(r"^(exclude|excludepkgs)\s*[=:].*\n?(?:[ \t]+\S.*\n?)*", "", main, flags=re.MULTILINE)
main = re.sub(r"^\[main\].*\n", lambda line: f"{line.group()}excludepkgs={' '.join(excluded)}\n", main)
path.write_text(head + main + rest)
PYTHON
}

main() {
  local family="${PACKAGE_FAMILY:?Set PACKAGE_FAMILY to apt or dnf.}"
  local check installed names
  check="$(dirname "${BASH_SOURCE[0]}")/check-hold.sh"
  installed="$(list_installed)" || fail "The packages of the base cannot be listed; see the reason above."
  mapfile -t names < <(select_held <<<"$installed")
  if ((${#names[@]} == 0)); then
    log "nothing to hold: the base has no kernel or NVIDIA package"
    return
  fi
  case "$family" in
    apt) apt-mark hold "${names[@]}" >/dev/null || fail "apt-mark cannot hold ${names[*]}; see its reason above." ;;
    dnf) exclude_from_dnf "${names[@]}" || fail "dnf.conf cannot be changed; see the reason above." ;;
  esac
  log "held ${#names[@]} packages"
  bash "$check" "${names[@]}"
}

main "$@"
