#!/usr/bin/env bash
# How fast weights are loaded from a cold disk, against dd from the same disk: cold_load.sh MODEL... , each a checkpoint
# folder or a pack. Drops the page cache, so it needs root. NEMO_DIST is the program, NP its ranks (1), ROUNDS how often
# (5): in turn, since a disk's speed varies. Prints each round, the median of the ratios, and the most memory that a rank
# had, beside which a copy of its weights would show.
set -euo pipefail
repository=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../..")
program=${NEMO_DIST:-$repository/build/release/bin/nemo-dist}
np=${NP:-1}
rounds=${ROUNDS:-5}
# shellcheck source=launch/environment.sh
source "$repository/launch/environment.sh"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

drop_cache() {
  sync
  echo 3 >/proc/sys/vm/drop_caches
  sleep 1 # a virtual machine may give what is free back to its host, and then has to get it again
}

seconds_of_dd() { # files
  local start end
  start=$(date +%s.%N)
  for file in "$@"; do dd if="$file" of=/dev/null bs=16M status=none; done
  end=$(date +%s.%N)
  echo "$end - $start" | bc -l
}

load() { # model; leaves the seconds in $work/seconds and the largest rank's KiB in $work/memory
  printf '%s\n' "model: {path: $1}" "input: {path: input.jsonl}" "output: {path: out}" \
    "sampling: {max_tokens: 1}" "engine: {max_sequences: 1, max_batch_tokens: 16}" >"$work/job.yaml"
  echo '{"token_ids": [1, 2, 3]}' >"$work/input.jsonl"
  NEMO_PROGRESS=off python3 -c 'import resource, subprocess, sys
code = subprocess.call(sys.argv[2:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=open(sys.argv[1], "w"))
sys.exit(code)' "$work/memory" mpirun -np "$np" "$program" --job "$work/job.yaml" --fresh >"$work/log" 2>&1 </dev/null ||
    { cat "$work/log" >&2; exit 1; }
  sed -n 's/^ *"load": \([0-9.e+-]*\).*/\1/p' "$work/out/manifest.json" >"$work/seconds"
}

for model in "$@"; do
  model=$(realpath "$model")
  files=("$model")
  [ ! -d "$model" ] || files=("$model"/*.safetensors)
  bytes=$(stat -Lc %s "${files[@]}" | paste -sd+ | bc)
  ratios=()
  for ((round = 0; round < rounds; ++round)); do
    turns=(dd load) # in changing order: some disks are faster for a while after they have rested
    ((round % 2 == 0)) || turns=(load dd)
    for turn in "${turns[@]}"; do
      drop_cache
      if [ "$turn" = dd ]; then dd_s=$(seconds_of_dd "${files[@]}"); else load "$model"; fi
    done
    load_s=$(cat "$work/seconds")
    ratios+=("$(echo "100 * $dd_s / $load_s" | bc -l)")
    printf '%s: %.2f GB, dd %.2f GB/s, load %.2f GB/s, %.0f %%\n' "$(basename "$model")" \
      "$(echo "$bytes / 10^9" | bc -l)" "$(echo "$bytes / 10^9 / $dd_s" | bc -l)" \
      "$(echo "$bytes / 10^9 / $load_s" | bc -l)" "${ratios[-1]}"
  done
  printf '%s: np %d, median %.0f %% of dd, at most %.2f GB of memory in a rank\n' "$(basename "$model")" "$np" \
    "$(printf '%s\n' "${ratios[@]}" | sort -n | sed -n $((rounds / 2 + 1))p)" \
    "$(echo "1024 * $(cat "$work/memory") / 10^9" | bc -l)"
done
