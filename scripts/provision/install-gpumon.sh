#!/usr/bin/env bash
# Installs gpumon from its wheelhouse, without any network, into a virtual environment of its own, and enables its unit.
# Supply chain: pip accepts only files whose SHA-256 stands in the wheelhouse's requirements.txt.
set -euo pipefail

log() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

fail() {
  log "error: $*"
  exit 1
}

# Prints the Python that gpumon gets: it needs 3.10, and Amazon Linux 2023's own python3 is 3.9.
find_python() {
  local minor
  if [[ "$family" == apt ]]; then
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
      fail "The base's python3 is older than 3.10, which gpumon needs; use Debian 12, Ubuntu 22.04 or newer."
    printf 'python3'
    return
  fi
  for minor in {30..10}; do
    if command -v "python3.$minor" >/dev/null; then
      printf 'python3.%s' "$minor"
      return
    fi
  done
  dnf --quiet --assumeyes install python3.11 >&2 ||
    fail "The base has no Python 3.10 or newer and dnf cannot install python3.11; give the instance a way to dnf's repositories."
  printf 'python3.11'
}

# pip comes out of the base system's ensurepip bundle: it installs, but does not stay in the image.
find_pip_wheel() {
  "$python" - <<'PYTHON'
import importlib.util, pathlib, sysconfig

unbundled = sysconfig.get_config_var("WHEEL_PKG_DIR") or "/usr/share/python-wheels"
ensurepip = importlib.util.find_spec("ensurepip")  # Debian and Ubuntu have it in python3-venv only
places = [pathlib.Path(unbundled), *([pathlib.Path(ensurepip.origin).with_name("_bundled")] if ensurepip else [])]
print(next((wheel for place in places for wheel in sorted(place.glob("pip-*.whl"))), ""))
PYTHON
}

# What a base without the bundle lacks; Ubuntu's cloud images come without it.
install_pip_wheel() {
  log "$python has no pip bundled: installing the package that has it"
  case "$family" in
    apt)
      apt-get --quiet=2 update &&
        apt-get --quiet=2 --option DPkg::Lock::Timeout=300 install --no-install-recommends python3-pip-whl
      ;;
    dnf) dnf --quiet --assumeyes install "$python-pip-wheel" ;;
  esac >&2 || fail "$python has no pip bundled and its package cannot be installed; install python3-venv in the base image."
}

install_wheels() {
  local pip_dir
  cd "$wheelhouse"
  pip_dir="$(mktemp -d)"
  "$python" -m zipfile --extract "$1" "$pip_dir" # out of the zip file it would start a second slower
  # Nothing unprivileged can write below /opt later, so the byte code is made now or never.
  PYTHONPATH="$pip_dir" "$venv/bin/python" -m pip install \
    --quiet --disable-pip-version-check --no-cache-dir --compile \
    --no-index --find-links "$wheelhouse" --require-hashes --only-binary :all: --requirement requirements.txt ||
    fail "pip refuses gpumon's wheelhouse, see its reason above; build the wheelhouse anew."
  rm -rf "$pip_dir"
}

main() {
  local wheelhouse="${WHEELHOUSE:?Set WHEELHOUSE to the directory of gpumon wheels.}"
  : "${EXPECTED_GPUMON_VERSION:?Set EXPECTED_GPUMON_VERSION to the version that must be installed.}"
  local family="${PACKAGE_FAMILY:?Set PACKAGE_FAMILY to apt or dnf.}"
  local venv="${VENV_DIR:-/opt/gpumon}"
  local units="${UNIT_DIR:-/etc/systemd/system}"
  local check pip_wheel python unit
  check="$(dirname "${BASH_SOURCE[0]}")/check-gpumon.sh"
  [[ -f "$wheelhouse/requirements.txt" ]] ||
    fail "There is no $wheelhouse/requirements.txt; build the wheelhouse first."
  umask 022
  python="$(find_python)" || exit 1
  pip_wheel="$(find_pip_wheel)"
  if [[ -z "$pip_wheel" ]]; then
    install_pip_wheel
    pip_wheel="$(find_pip_wheel)"
    [[ -n "$pip_wheel" ]] || fail "$python has no pip bundled; install python3-venv in the base image."
  fi
  "$python" -m venv --without-pip --clear "$venv"
  install_wheels "$pip_wheel"
  unit="$("$venv/bin/python" -c 'import gpumon; print(gpumon.__path__[0])')/gpumon.service"
  install -m 0644 "$unit" "$units/gpumon.service"
  systemctl daemon-reload
  systemctl enable --quiet gpumon.service
  log "installed gpumon $EXPECTED_GPUMON_VERSION in $venv"
  bash "$check"
}

main "$@"
