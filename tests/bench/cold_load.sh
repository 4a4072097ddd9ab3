#!/usr/bin/env bash
# How fast weights are loaded from a cold disk, against dd from the same disk: cold_load.sh MODEL... , each a checkpoint
# folder or a pack. Drops the page cache, so it needs root. NEMO_DIST is the program. Five rounds in turn, since a disk's
# speed varies; prints each and the median of the ratios.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
program=${NEMO_DIST:-$PWD/build/release/bin/nemo-dist}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

drop_cache() {
  sync
  echo 3 >/proc/sys/vm/drop_caches
}

seconds_of_dd() { # files
  local start end
  start=$(date +%s.%N)
  for file in "$@"; do dd if="$file" of=/dev/null bs=16M status=none; done
  end=$(date +%s.%N)
  echo "$end - $start" | bc -l
}

seconds_of_load() { # model
  printf '%s\n' "model: {path: $1}" "input: {path: input.jsonl}" "output: {path: out}" \
    "sampling: {max_tokens: 1}" "engine: {max_sequences: 1, max_batch_tokens: 16}" >"$work/job.yaml"
  echo '{"token_ids": [1, 2, 3]}' >"$work/input.jsonl"
  NEMO_PROGRESS=off "$program" --job "$work/job.yaml" --fresh >"$work/log" 2>&1 </dev/null || { cat "$work/log" >&2; exit 1; }
  sed -n 's/^ *"load": \([0-9.e+-]*\).*/\1/p' "$work/out/manifest.json"
}

for model in "$@"; do
  model=$(realpath "$model")
  files=("$model")
  [ ! -d "$model" ] || files=("$model"/*.safetensors)
  bytes=$(stat -Lc %s "${files[@]}" | paste -sd+ | bc)
  ratios=()
  for _ in 1 2 3 4 5; do
    drop_cache
    dd_s=$(seconds_of_dd "${files[@]}")
    drop_cache
    load_s=$(seconds_of_load "$model")
    ratios+=("$(echo "100 * $dd_s / $load_s" | bc -l)")
    printf '%s: %.2f GB, dd %.2f GB/s, load %.2f GB/s, %.0f %%\n' "$(basename "$model")" \
      "$(echo "$bytes / 10^9" | bc -l)" "$(echo "$bytes / 10^9 / $dd_s" | bc -l)" \
      "$(echo "$bytes / 10^9 / $load_s" | bc -l)" "${ratios[-1]}"
  done
  printf '%s: median %.0f %% of dd\n' "$(basename "$model")" "$(printf '%s\n' "${ratios[@]}" | sort -n | sed -n 3p)"
done
