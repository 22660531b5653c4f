#!/usr/bin/env bash
# Installs gpumon from its wheelhouse, without any network, into a virtual environment of its own, and enables its unit.
# Supply chain: pip accepts only files whose SHA-256 stands in the wheelhouse's requirements.txt.
set -euo pipefail

log() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

# pip comes out of the base system's ensurepip bundle: it installs, but does not stay in the image.
find_pip_wheel() {
  python3 - <<'PYTHON'
import importlib.util, pathlib, sysconfig

unbundled = sysconfig.get_config_var("WHEEL_PKG_DIR") or "/usr/share/python-wheels"
ensurepip = importlib.util.find_spec("ensurepip")  # Debian and Ubuntu have it in python3-venv only
places = [pathlib.Path(unbundled), *([pathlib.Path(ensurepip.origin).with_name("_bundled")] if ensurepip else [])]
print(next((wheel for place in places for wheel in sorted(place.glob("pip-*.whl"))), ""))
PYTHON
}

main() {
  : "${WHEELHOUSE:?Set WHEELHOUSE to the directory of gpumon wheels.}"
  : "${EXPECTED_GPUMON_VERSION:?Set EXPECTED_GPUMON_VERSION to the version that must be installed.}"
  local venv="${VENV_DIR:-/opt/gpumon}"
  local units="${UNIT_DIR:-/etc/systemd/system}"
  local check pip_dir pip_wheel unit
  check="$(dirname "${BASH_SOURCE[0]}")/check-gpumon.sh"
  if [[ ! -f "$WHEELHOUSE/requirements.txt" ]]; then
    log "There is no $WHEELHOUSE/requirements.txt; build the wheelhouse first."
    exit 1
  fi
  umask 022
  pip_wheel="$(find_pip_wheel)"
  if [[ -z "$pip_wheel" ]]; then
    log "This Python has no pip bundled; install python3-venv in the base image."
    exit 1
  fi
  python3 -m venv --without-pip --clear "$venv"
  cd "$WHEELHOUSE"
  pip_dir="$(mktemp -d)"
  python3 -m zipfile --extract "$pip_wheel" "$pip_dir" # out of the zip file it would start a second slower
  # Nothing unprivileged can write below /opt later, so the byte code is made now or never.
  PYTHONPATH="$pip_dir" "$venv/bin/python" -m pip install \
    --quiet --disable-pip-version-check --no-cache-dir --compile \
    --no-index --find-links "$WHEELHOUSE" --require-hashes --only-binary :all: --requirement requirements.txt
  rm -rf "$pip_dir"
  unit="$("$venv/bin/python" -c 'import gpumon, pathlib; print(pathlib.Path(gpumon.__file__).with_name("gpumon.service"))')"
  install -m 0644 "$unit" "$units/gpumon.service"
  systemctl daemon-reload
  systemctl enable --quiet gpumon.service
  log "installed gpumon $EXPECTED_GPUMON_VERSION in $venv"
  bash "$check"
}

main "$@"
