#!/usr/bin/env bash
# Builds everything and runs the tests, on a bare Debian 12 too. Arguments go on to ctest: `launch/test.sh -L fast`.
# NEMO_PRESET picks another preset of CMakePresets.json than release.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/environment.sh

preset=${NEMO_PRESET:-release}
echo "test: installs what is missing, builds what has changed in build/$preset, then runs ctest $*"

nemo_install_missing "${NEMO_PACKAGES[@]}" "${NEMO_TEST_PACKAGES[@]}"
nemo_build "$preset"
status=0
ctest --preset "$preset" -j "$(nproc)" "$@" || status=$?
# ctest says which tests it skipped, not why.
grep -h '^SKIPPED: ' "build/$preset/Testing/Temporary/LastTest.log" || true
exit $status
