#!/usr/bin/env bash
# A job's results from a pack are those from the checkpoint's folder, byte for byte, on any layout and in every format.
set -euo pipefail
# shellcheck source=launch/environment.sh
source "$NEMO_SOURCE_DIR/launch/environment.sh"
export NEMO_PROGRESS=off
rm -rf ./*

printf '%s\n' '{"prompt": "In the beginning"}' '{"token_ids": [5, 6, 7], "n": 3}' \
  '{"messages": [{"role": "user", "content": "What is a raven?"}]}' >prompts.jsonl

job() { # name, model.path
  printf '%s\n' "model: {path: $2}" "input: {path: prompts.jsonl}" "output: {path: out-$1}" \
    "sampling: {max_tokens: 24, seed: 3, logprobs: 2, ignore_eos: true}" "parallel: {threads: 1}" >"$1.yaml"
}

compare() { # name, model folder
  "$NEMO_DIST" pack --model "$2" --out "$1.h5" </dev/null
  job "$1-folder" "$2"
  job "$1-pack" "$PWD/$1.h5"
  "$NEMO_DIST" --job "$1-folder.yaml" </dev/null
  mpirun -np 4 "$NEMO_DIST" --job "$1-pack.yaml" --set parallel.pipeline=2 --set parallel.expert=2 </dev/null
  cmp "out-$1-folder/results.jsonl" "out-$1-pack/results.jsonl"
  cmp "out-$1-folder/results.h5" "out-$1-pack/results.h5"
}

compare trained "$NEMO_SOURCE_DIR/configs/checkpoints/kjv-wordnet-7m"
sed 's/"vocab_size": 96/"vocab_size": 512/' "$NEMO_SOURCE_DIR/tests/golden/models/latent/config.json" >config.json
for format in bf16 fp8 nvfp4; do
  "$NEMO_DIST" synth --config config.json --out "model-$format" --quant "$format" </dev/null
  compare "$format" "$PWD/model-$format"
done

"$NEMO_DIST" inspect trained.h5 >inspect.log
grep -q "all tensors are there" inspect.log
"$NEMO_DIST" --job trained-pack.yaml --plan --np 4 >plan.log
grep -q "layers" plan.log
# A run that began with the folder goes on with the pack.
sed -i "s|path: .*h5|path: $PWD/trained.h5|" trained-folder.yaml
"$NEMO_DIST" --job trained-folder.yaml </dev/null
if mpirun -np 2 "$NEMO_DIST" pack --model model-bf16 --out two.h5 </dev/null 2>two.log; then exit 1; fi
grep -q "packs on one" two.log
echo "all results are alike"
