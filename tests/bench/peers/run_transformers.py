"""Measures transformers on PyTorch: run_transformers.py CHECKPOINT THREADS. Prints a line [case, tokens per second] for each.

Generation comes first: without its CUDA kernels transformers' Mamba-2 takes minutes for a long prompt."""

import json
import sys
import time

import torch
from transformers import AutoModelForCausalLM, StoppingCriteria, StoppingCriteriaList

PROMPTS = (512, 2048)
BATCHES = (1, 8, 32)
STEPS = 4


class Clock(StoppingCriteria):
    """Notes when each token came; stops nothing."""

    def __init__(self):
        self.times = [time.perf_counter()]

    def __call__(self, input_ids, scores, **kwargs):
        self.times.append(time.perf_counter())
        return torch.zeros(input_ids.shape[0], dtype=torch.bool)


def generate(model, batch, length, new_tokens):
    """Seconds until the first token, and from it to the last."""
    ids = torch.randint(0, model.config.vocab_size, (batch, length), generator=torch.Generator().manual_seed(1))
    clock = Clock()
    model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=new_tokens,
                   min_new_tokens=new_tokens, pad_token_id=0, stopping_criteria=StoppingCriteriaList([clock]))
    return clock.times[1] - clock.times[0], clock.times[-1] - clock.times[1]


def report(case, rate):
    print(json.dumps([case, rate]), flush=True)


def main():
    path, threads = sys.argv[1], int(sys.argv[2])
    torch.set_num_threads(threads)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16).eval()
    generate(model, 1, 16, 2)  # weights are read
    for batch in BATCHES:
        _, seconds = generate(model, batch, 32, 1 + STEPS)
        report(f"decode x{batch}", batch * STEPS / seconds)
    for n in PROMPTS:
        report(f"prefill {n}", n / generate(model, 1, n, 1)[0])


with torch.inference_mode():
    main()
