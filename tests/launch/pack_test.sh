#!/usr/bin/env bash
# A job's results from a pack are those from the checkpoint's folder, byte for byte, on any layout and in every format;
# every rank reads as many bytes of it as its plan says.
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
  python3 - "out-$1-pack/manifest.json" <<'PYTHON'
import json, sys
weights = json.load(open(sys.argv[1]))["weight_bytes"]
assert len(weights["read"]) == 4 and min(weights["read"]) > 0 and weights["read"] == weights["planned"], weights
PYTHON
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

# Several ranks write the same bytes, at any time: HDF5 would count seconds.
sleep 1.1
for np in 2 3 5; do
  for format in bf16 nvfp4; do
    mpirun -np $np "$NEMO_DIST" pack --model "model-$format" --out "$format-$np.h5" </dev/null
    cmp "$format.h5" "$format-$np.h5"
  done
done

refuse() { # name, what its error says, ranks, command...
  local name=$1 what=$2 np=$3
  shift 3
  if mpirun -np "$np" "$@" pack --model "model-$name" --out "$name.h5" </dev/null >"$name.log" 2>&1; then exit 1; fi
  [ "$(grep -c '^nemo-dist: ' "$name.log")" = 1 ] || { cat "$name.log"; exit 1; }
  grep -q "$what" "$name.log" || { cat "$name.log"; exit 1; }
}

# Trouble of any rank is one message, and leaves no half pack behind: a scale that is none, a file that may not grow.
refuse bf16 "is there already" 3 "$NEMO_DIST"
cp -r model-fp8 model-scale
python3 - model-scale/*.safetensors <<'PYTHON'
import json, struct, sys
with open(sys.argv[1], "r+b") as file:
    (size,) = struct.unpack("<Q", file.read(8))
    header = json.loads(file.read(size))
    name = max(name for name in header if name.endswith("weight_scale"))
    file.seek(8 + size + header[name]["data_offsets"][0])
    file.write(struct.pack("<f", float("nan")))
PYTHON
refuse scale "which is no scale" 3 "$NEMO_DIST"
cp -r model-bf16 model-full
refuse full "cannot write" 3 bash -c 'trap "" XFSZ; ulimit -f 200; exec "$@"' limited "$NEMO_DIST"
for name in scale full; do [ ! -e "$name.h5" ] && [ ! -e "$name.h5.partial" ]; done
echo "all results are alike"
