#!/usr/bin/env bash
# Builds the fuzzers and runs every target, one on each core at a time, so many seconds each (60 if not given):
#
#   tests/fuzz/run.sh [seconds-per-target] [target...]
#
# The corpus grows in build/fuzz/corpus/<target>, so a longer run goes on where the last one ended; what is found is kept in
# build/fuzz/findings, and fails the run. NEMO_FUZZ_SEED makes a run repeatable as far as it comes in its time. Needs
# clang and libclang-rt-14-dev.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source launch/environment.sh

seconds=${1:-60}
shift || true
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
  for source in tests/fuzz/*_fuzz.cpp; do
    targets+=("$(basename "$source" _fuzz.cpp)")
  done
fi
nemo_install_missing clang libclang-rt-14-dev
nemo_build fuzz fuzzers

export LSAN_OPTIONS=suppressions=$PWD/tests/leak_sanitizer.supp
# Readers of small inputs have no use for much memory or time: more than this is a finding. Python may take longer.
limits() {
  local timeout=20
  [ "$1" != chat_template ] || timeout=60
  echo "-rss_limit_mb=2048 -malloc_limit_mb=512 -timeout=$timeout -max_len=16384"
}

run_target() { # -> a line of the table; nonzero if something was found
  local target=$1 folder=build/fuzz log dictionary=tests/fuzz/dictionaries/$1.dict extra=()
  mkdir -p "$folder/corpus/$target" "$folder/findings" "$folder/logs"
  log=$folder/logs/$target.txt
  [ ! -e "$dictionary" ] || extra+=(-dict="$dictionary")
  [ -z "${NEMO_FUZZ_SEED:-}" ] || extra+=(-seed="$NEMO_FUZZ_SEED")
  read -ra limited < <(limits "$target")
  local found=0
  "$folder/bin/${target}_fuzz" -max_total_time="$seconds" -print_final_stats=1 -artifact_prefix="$folder/findings/$target-" \
    "${limited[@]}" "${extra[@]}" "$folder/corpus/$target" "tests/fuzz/seeds/$target" >"$log" 2>&1 || found=1
  printf '%-20s %12s executions %6s features %9s\n' "$target" \
    "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")" \
    "$(sed -n 's/.* ft: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)" "$([ $found = 0 ] && echo clean || echo FOUND)"
  [ $found = 0 ] || tail -n 40 "$log"
  return $found
}

export -f limits run_target
export seconds
printf '%s\n' "${targets[@]}" | xargs -P "$(nproc)" -I{} bash -c 'run_target {}'
