#!/usr/bin/env bash
# The package manager itself says that it holds each package that is named.
set -euo pipefail

log() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

fail() {
  log "error: $*"
  exit 1
}

list_held() {
  case "$family" in
    apt) apt-mark showhold ;;
    # dnf's own reading of its configuration; the system's python3 is the one that dnf runs on.
    dnf) python3 -c 'import dnf; conf = dnf.Base().conf; conf.read(); print(*conf.excludepkgs, sep="\n")' ;;
  esac
}

main() {
  local family="${PACKAGE_FAMILY:?Set PACKAGE_FAMILY to apt or dnf.}"
  local held missing
  held="$(list_held)" || fail "$family does not say what it holds."
  missing="$(comm -23 <(printf '%s\n' "$@" | sort) <(sort <<<"$held") | paste --serial --delimiters=' ')"
  [[ -z "$missing" ]] || fail "These packages are not held and an upgrade on a clone could take its GPUs: $missing."
  log "$# packages are held"
}

main "$@"
