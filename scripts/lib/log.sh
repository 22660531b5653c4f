# shellcheck shell=bash
# What every script here says, and how it gives up. Meant to be sourced; sets no shell options for its caller.

# log MESSAGE...: one line for a person, on stderr.
log() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
}

# die EXIT_CODE MESSAGE...: 2 = usage or preflight, 3 = an outside tool failed.
die() {
  local exit_code=$1
  shift
  log "$*"
  exit "$exit_code"
}
