#!/usr/bin/env bash
# C++ is formatted as .clang-format says, by version 14 (others differ in details); scripts pass shellcheck.
# Skipped where these are not installed, but not if NEMO_REQUIRE_TOOLS is set, as it is in .ci/run.
set -euo pipefail
cd "$NEMO_SOURCE_DIR"

skip() {
  echo "skipped: $*"
  [ -z "${NEMO_REQUIRE_TOOLS:-}" ] || exit 1
  exit 77
}

# The clone may belong to another user than the one who runs the tests; a tracked file may be deleted.
tracked() {
  git -c safe.directory='*' ls-files -z -- "$@" | while IFS= read -r -d '' file; do
    [ ! -e "$file" ] || printf '%s\0' "$file"
  done
}

unformatted() { # of the files on standard input
  xargs -0r clang-format-14 --dry-run 2>&1 | sed -n 's/^\([^ :]*\):[0-9].*clang-format-violations.*/\1/p' | sort -u
}

command -v clang-format-14 >/dev/null || skip "no clang-format-14"
command -v shellcheck >/dev/null || skip "no shellcheck"
git -c safe.directory='*' rev-parse --git-dir >/dev/null 2>&1 || skip "$PWD is not a git clone"

ill=$(mktemp --suffix=.cpp)
trap 'rm -f "$ill"' EXIT
echo 'int  x ;' >"$ill"
[ "$(printf '%s\0' "$ill" | unformatted)" = "$ill" ] || { echo "would not notice an unformatted file"; exit 1; }

files=$(tracked '*.h' '*.cpp' '*.cu' '*.cuh' | unformatted)
[ -z "$files" ] || printf 'not formatted; clang-format-14 -i %s\n' "${files//$'\n'/ }"
tracked '*.sh' .ci/run .githooks/pre-commit | xargs -0r shellcheck -x
[ -z "$files" ]
