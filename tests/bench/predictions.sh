#!/usr/bin/env bash
# Predicted against measured: jobs on slices of published models, of true width with random weights, each nearly all
# prompts or nearly all generation; with 1 to 4 ranks, and on two hosts made of namespaces with a rate between them.
# Every round measures this machine's rates and then runs every case. Prints the medians of the rounds in tokens a second,
# and each round's ratio. Needs 20 GB of memory, 30 GB of disk and root. Nothing is asserted.
#
#   tests/bench/predictions.sh [ROUNDS] [REGEX]      3 rounds; cases whose line matches REGEX only
#
# NEMO_DIST and NEMO_BENCH name the programs, NEMO_SLICES the folder of checkpoints (kept, so that a second run does not
# write them again). A case whose checkpoint cannot be written, for want of space, is skipped.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
# shellcheck source-path=SCRIPTDIR source=../hosts/hosts.sh
source "$root/tests/hosts/hosts.sh"
enter_private_world "$here/$(basename "${BASH_SOURCE[0]}")" "${1:-3}" "${2:-.}"
source "$root/launch/environment.sh"
: "${NEMO_DIST:=$root/build/release/bin/nemo-dist}" "${NEMO_BENCH:=$(dirname "$NEMO_DIST")/nemo-bench}"
: "${NEMO_SLICES:=$root/build/slices}"
export NEMO_PROGRESS=off

# Slices: a few layers of each kind, all of a layer's experts. super-stage is the first of 16 stages.
slices='
nano-bf16    nemotron-3-nano-30b-a3b      0-1,5  bf16
super-stage  nemotron-3-super-120b-a12b   0-5    nvfp4
253b-nvfp4   nemotron-ultra-253b          0-1,7  nvfp4
ultra-nvfp4  nemotron-3-ultra-550b-a55b   0-1    nvfp4
dense-fp8    nano-9b-v2                   0-5,14 fp8
'

# write_slice <slice>: if it is missing. Half a slice, of a run that was stopped, is never taken for a whole one.
write_slice() {
  local name model layers format
  read -r name model layers format < <(grep "^$1 " <<<"$slices")
  [ ! -e "$NEMO_SLICES/$name" ] || return 0
  rm -rf "$NEMO_SLICES/$name.part"
  "$NEMO_DIST" synth --config "$root/configs/models/$model" --out "$NEMO_SLICES/$name.part" --layers "$layers" \
    --quant "$format" >/dev/null && mv "$NEMO_SLICES/$name.part" "$NEMO_SLICES/$name" && return 0
  rm -rf "$NEMO_SLICES/$name.part"
  return 1
}

# Cases: slice, what, replicas x stages x expert ranks, threads, requests at once in a lane, rate between hosts or -.
cases='
nano-bf16    prompts     1x1x1  2  16  -
nano-bf16    prompts     1x1x1  1  16  -
nano-bf16    generation  1x1x1  2   1  -
nano-bf16    generation  1x1x1  2   8  -
nano-bf16    generation  1x1x1  2  16  -
nano-bf16    generation  1x1x1  2  32  -
nano-bf16    prompts     1x1x2  1  16  -
nano-bf16    generation  1x1x2  1   8  -
nano-bf16    prompts     1x2x1  1  32  -
nano-bf16    generation  1x2x1  1  16  -
nano-bf16    prompts     1x2x2  1  32  -
nano-bf16    generation  1x2x2  1  16  -
super-stage  prompts     1x1x1  2   4  -
super-stage  generation  1x1x1  2   8  -
super-stage  generation  1x1x2  1   8  -
253b-nvfp4   prompts     1x1x1  2   4  -
253b-nvfp4   generation  1x1x1  2   8  -
ultra-nvfp4  prompts     1x1x1  2   4  -
ultra-nvfp4  generation  1x1x1  2   8  -
dense-fp8    prompts     1x1x1  2  16  -
dense-fp8    generation  1x1x1  2   8  -
dense-fp8    generation  2x1x1  1   8  -
super-stage  prompts     1x1x2  1   4  100mbit
super-stage  generation  1x1x2  1   8  20mbit
nano-bf16    prompts     1x2x1  1  32  20mbit
'

# write_job <slice> <what> <layout> <threads> <sequences> <length>: into job/; sets np, tokens (those that count) and
# prompt_tokens. A job of length 1 is a part of one of length 3.
write_job() {
  local replicas stages lanes requests
  IFS=x read -r replicas stages lanes <<<"$3"
  np=$((replicas * stages * lanes))
  requests=$(($5 * replicas * lanes))
  prompt_tokens=1 output_tokens=$((24 * $6))
  if [ "$2" = prompts ]; then
    prompt_tokens=256 output_tokens=1 requests=$((requests * $6 / 2))
  elif [ $((replicas * lanes)) -gt 1 ]; then
    output_tokens=$((8 * $6)) requests=$((requests * 3)) # lanes ask for more than they run: enough for all of them
  fi
  tokens=$((requests * (prompt_tokens > output_tokens ? prompt_tokens : output_tokens)))
  rm -rf job && mkdir job
  cat >job/job.yaml <<END
model: {path: $NEMO_SLICES/$1}
input: {path: prompts.jsonl}
output: {path: out, formats: [jsonl]}
parallel: {replicas: $replicas, pipeline: $stages, expert: $lanes, threads: $4}
sampling: {max_tokens: $output_tokens, ignore_eos: true}
engine: {max_sequences: $5, max_batch_tokens: 512, prefill_chunk: 256}
END
  jq -nc --argjson n "$requests" --argjson k "$prompt_tokens" \
    'range($n) as $i | {token_ids: [range($k) | ($i * 7919 + . * 104729) % 250 + 10]}' >job/prompts.jsonl
}

# predicted <ranks of a host> <option...>
predicted() {
  local per_host=$1 phase=decode
  shift
  [ "$output_tokens" -gt 1 ] || phase=prefill
  "$NEMO_DIST" --job job/job.yaml --plan --np "$np" --ranks-per-host "$per_host" --prompt-tokens "$prompt_tokens" \
    --calibration "$calibration" --json "$@" | jq ".prediction.$phase.tokens_per_s"
}

# What a job took; tells of a request without an answer.
seconds_of_run() {
  ! grep -m 1 '"error":{' job/out/results.jsonl >&2 || fail "a request of the job was not answered"
  jq .timings_s.run job/out/manifest.json
}

# run_on_hosts <rate>: a rank a host.
run_on_hosts() {
  local i hosts=h1:1
  for i in $(seq 2 "$np"); do hosts+=,h$i:1; done
  for i in $(seq "$np"); do limit_rate "$i" "$1"; done
  on_host 1 mpirun --host "$hosts" -np "$np" --mca plm rsh --mca plm_rsh_agent "$shell" \
    --mca oob_tcp_if_include eth0 --mca btl_tcp_if_include eth0 "$NEMO_DIST" --job job/job.yaml
}

# Measured is what a long job does in the time that it takes more than a short one: starting and ending, which no
# prediction means, are in both.
run_case() {
  local slice=$1 what=$2 layout=$3 threads=$4 sequences=$5 rate=$6 length expected got done=() took=()
  if ! write_slice "$slice"; then
    echo "skipped, because $NEMO_SLICES/$slice could not be written: $*" >&2
    return 0
  fi
  for length in 1 3; do
    write_job "$slice" "$what" "$layout" "$threads" "$sequences" "$length"
    if [ "$rate" = - ]; then
      expected=$(predicted "$np")
      mpirun -np "$np" "$NEMO_DIST" --job job/job.yaml >job/log 2>&1 </dev/null || fail "$(cat job/log)"
    else
      # The two hosts share this machine's cores.
      expected=$(predicted 1 --host-cores $(($(nproc) / np)) --network "$latency,${rate%mbit}Mbit/s")
      run_on_hosts "$rate" >job/log 2>&1 </dev/null || fail "$(cat job/log)"
    fi
    done+=("$tokens")
    took+=("$(seconds_of_run)")
  done
  got=$(jq -n "(${done[1]} - ${done[0]}) / (${took[1]} - ${took[0]})")
  jq -nc --arg line "$*" "{\$line, predicted: $expected, measured: $got}" | tee -a figures >&2
}

# Of all rounds so far.
print_table() {
  printf '%-12s %-11s %-6s %7s %9s %9s %10s %10s %6s\n' slice what layout threads sequences network predicted measured ratio
  jq -rs 'def median: sort | (.[(length - 1) / 2 | floor] + .[length / 2 | floor]) / 2;
    reduce .[] as $f ([]; if any(.[]; .[0].line == $f.line) then map(if .[0].line == $f.line then . + [$f] else . end)
      else . + [[$f]] end) | .[]
    | [.[0].line, (map(.predicted) | median), (map(.measured) | median), (map(.predicted / .measured) | median),
       (map(.predicted / .measured * 100 | round / 100 | tostring) | join(" "))] | @tsv' figures |
    while IFS=$'\t' read -r line expected got ratio ratios; do
      # shellcheck disable=SC2086  # one argument each
      printf '%-12s %-11s %-6s %7s %9s %9s %10.1f %10.1f %6.2f  (%s)\n' $line "$expected" "$got" "$ratio" "$ratios"
    done
}

rounds=$1 latency=50us # of the kernel's bridge and TCP, with both ends on this machine
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
calibration=$work/calibration.json
mkdir -p "$NEMO_SLICES"
touch figures
mapfile -t chosen < <(grep -E "$2" <<<"$cases" | grep .)
[ ${#chosen[@]} -gt 0 ] || fail "no case matches $2"
hosts_by_bridge 2
shell=$(remote_shell)
for _ in $(seq "$rounds"); do
  mpirun -np 2 "$NEMO_BENCH" --calibrate "$calibration" </dev/null >/dev/null
  for line in "${chosen[@]}"; do
    # shellcheck disable=SC2086  # one argument each
    run_case $line
  done
done
print_table
