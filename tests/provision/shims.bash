# Puts programs in front of the real ones: each records its command line in $commands and succeeds, or does what a test
# wrote into it.

setup_shims() {
  scripts="$BATS_TEST_DIRNAME/../../scripts/provision"
  commands="$BATS_TEST_TMPDIR/commands"
  shims="$BATS_TEST_TMPDIR/shims"
  mkdir -p "$shims"
  : >"$commands"
  export commands
  PATH="$shims:$PATH"
}

shim() {
  local name="$1" body="${2:-}"
  printf '#!/bin/bash\nprintf "%%s %%s\\n" "%s" "$*" >>"$commands"\n%s\n' "$name" "$body" >"$shims/$name"
  chmod +x "$shims/$name"
}
