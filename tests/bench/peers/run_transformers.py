"""Measures transformers on PyTorch: run_transformers.py CHECKPOINT THREADS. Prints one JSON object: tokens per second."""

import json
import sys
import time

import torch
from transformers import AutoModelForCausalLM

PROMPTS = (512, 2048)
BATCHES = (1, 8, 32)
STEPS = 4


def generate(model, batch, length, new_tokens):
    ids = torch.randint(0, model.config.vocab_size, (batch, length), generator=torch.Generator().manual_seed(1))
    begin = time.perf_counter()
    model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=new_tokens,
                   min_new_tokens=new_tokens, pad_token_id=0)
    return time.perf_counter() - begin


def main():
    path, threads = sys.argv[1], int(sys.argv[2])
    torch.set_num_threads(threads)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16).eval()
    generate(model, 1, 16, 2)  # weights are read
    rates = {f"prefill {n}": n / generate(model, 1, n, 1) for n in PROMPTS}
    for batch in BATCHES:
        seconds = generate(model, batch, 32, 1 + STEPS) - generate(model, batch, 32, 1)
        rates[f"decode x{batch}"] = batch * STEPS / seconds
    print(json.dumps(rates))


with torch.inference_mode():
    main()
