#!/usr/bin/env python3
"""Writes the trained state as a Hugging Face folder in the published form, and checks it with transformers.

  python export.py --work /tmp/kjv --out ../../configs/checkpoints/kjv-wordnet-7m
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

import corpus
import reference
from checkpoint_config import CONFIG, namespace
from trainable import Nemotron


def published(state):
    """Tensors under published names and types: BF16, but F32 for e_score_correction_bias."""
    out = {}
    for name, tensor in state.items():
        if name.endswith((".experts.up_proj", ".experts.down_proj")):
            head, which = name.rsplit(".", 1)
            for e, matrix in enumerate(tensor):
                out[f"{head}.{e}.{which}.weight"] = matrix.bfloat16().contiguous()
        elif name.endswith("e_score_correction_bias"):
            out[name] = tensor.float()
        else:
            out[name] = tensor.bfloat16().contiguous()
    return out


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--work", type=Path, required=True)
    p.add_argument("--out", type=Path, required=True)
    args = p.parse_args()
    torch.set_num_threads(2)
    state = torch.load(args.work / "state.pt", weights_only=True)
    args.out.mkdir(parents=True, exist_ok=True)
    tensors = published(state["model"])
    save_file(tensors, args.out / "model.safetensors", metadata={"format": "pt"})
    (args.out / "model.safetensors").chmod(0o644)
    (args.out / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(args.work / name, args.out / name)

    # The trainer's own forward with the rounded weights, transformers' loader, and ours must agree.
    from tokenizers import Tokenizer
    from transformers import AutoModelForCausalLM
    ids = [1] + Tokenizer.from_file(str(args.out / "tokenizer.json")).encode(corpus.split()[1][0].text).ids[:299]
    mine = Nemotron(namespace())
    mine.load_state_dict({k: v.float() if k.endswith("bias") and "e_score" in k else v.bfloat16().float()
                          for k, v in state["model"].items()})
    with torch.no_grad():
        expected = mine(torch.tensor([ids]))[0]
    spec = reference.logits(reference.build(args.out), ids)
    loaded = AutoModelForCausalLM.from_pretrained(args.out, dtype=torch.float32)
    clamped = reference.logits(loaded, ids)
    for module in loaded.modules():
        if hasattr(module, "time_step_limit"):
            module.time_step_limit = (0.0, float("inf"))
    stock = reference.logits(loaded, ids)
    print(f"step {state['step']}, {sum(t.numel() for t in tensors.values()):,} parameters, {len(tensors)} tensors")
    print(f"largest logit difference: trainer {(expected - spec).abs().max():.2e}, "
          f"from_pretrained {(stock - spec).abs().max():.2e}, with transformers' dt clamp {(clamped - spec).abs().max():.2e}")
    assert (expected - spec).abs().max() < 2e-3 and (stock - spec).abs().max() < 1e-3


if __name__ == "__main__":
    main()
