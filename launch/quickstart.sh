#!/usr/bin/env bash
# From a bare Debian 12 to generated text. Arguments go on to nemo-dist, e.g. --set sampling.temperature=0.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/environment.sh

job=configs/jobs/quickstart # .yaml, and its prompts in .jsonl
output=out/quickstart       # as the job says
echo "quickstart: installs what is missing, builds what has changed, then runs $job.yaml with 16 ranks on this machine."

nemo_install_missing "${NEMO_PACKAGES[@]}"
nemo_build release nemo-dist

run=(mpirun -np 16 build/release/bin/nemo-dist --job "$job.yaml" --fresh "$@")
echo "${run[*]}"
rm -f $output/results.jsonl
"${run[@]}"
[ -e $output/results.jsonl ] || exit 0 # --plan, or another output.path in the arguments

printf '\nSome of the records, prompt > generated text:\n'
# shellcheck disable=SC2016  # jq expands these
jq -rn --slurpfile prompts $job.jsonl --slurpfile records $output/results.jsonl '
  $records[0, 1, 2, -2, -1]
  | $prompts[.index] as $line
  | ($line.prompt // $line.messages[-1]?.content // "") as $prompt
  | (.text // .outputs[0]?.text // .error.message)[:300] as $text
  | "\n[\(.id)] \($prompt) > \($text | ltrimstr(" "))" | gsub("\n(?=.)"; "\n  ")'
printf '\nAll of them: %s/results.jsonl; with arrays: results.h5, and how they were made: manifest.json, beside it.\n' "$PWD/$output"
