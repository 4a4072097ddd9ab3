"""Measures llama.cpp: run_llama_cpp.py MODEL.gguf THREADS. Prints a line [case, tokens per second] for each."""

import json
import random
import sys
import time

import llama_cpp as ll

PROMPTS = (512, 2048)
BATCHES = (1, 8, 32)
STEPS = 24
DEPTH = 32  # tokens before the first timed one


def new_context(model, threads, tokens, sequences):
    params = ll.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_ubatch = tokens, 2048, 512
    params.n_seq_max, params.n_threads, params.n_threads_batch = sequences, threads, threads
    context = ll.llama_init_from_model(model, params)
    if not context:
        sys.exit("llama.cpp could not make a context")
    return context


def step(context, rows):
    """Runs (token, position, sequence) rows as one batch; logits of each sequence's last row."""
    batch = ll.llama_batch_init(len(rows), 0, 1)
    last = {sequence: i for i, (_, _, sequence) in enumerate(rows)}
    for i, (token, position, sequence) in enumerate(rows):
        batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0] = token, position, 1, sequence
        batch.logits[i] = last[sequence] == i
    batch.n_tokens = len(rows)
    if ll.llama_decode(context, batch) != 0:
        sys.exit("llama.cpp could not run a batch")
    ll.llama_synchronize(context)
    ll.llama_batch_free(batch)


def prefill(model, threads, length, token):
    context = new_context(model, threads, length, 1)
    step(context, [(token(), i, 0) for i in range(16)])  # buffers are there, weights are read
    ll.llama_memory_clear(ll.llama_get_memory(context), True)
    begin = time.perf_counter()
    step(context, [(token(), i, 0) for i in range(length)])
    seconds = time.perf_counter() - begin
    ll.llama_free(context)
    return length / seconds


def decode(model, threads, batch, token):
    context = new_context(model, threads, batch * 256, batch)
    step(context, [(token(), i, s) for s in range(batch) for i in range(DEPTH)])
    begin = time.perf_counter()
    for i in range(STEPS):
        step(context, [(token(), DEPTH + i, s) for s in range(batch)])
    seconds = time.perf_counter() - begin
    ll.llama_free(context)
    return batch * STEPS / seconds


def main():
    path, threads = sys.argv[1], int(sys.argv[2])
    quiet = ll.llama_log_callback(lambda *_: None)  # a name, or it would be collected
    ll.llama_log_set(quiet, None)
    ll.llama_backend_init()
    params = ll.llama_model_default_params()
    params.n_gpu_layers = 0
    model = ll.llama_model_load_from_file(path.encode(), params)
    if not model:
        sys.exit(f"llama.cpp could not load {path}")
    choose = random.Random(1)
    vocabulary = ll.llama_vocab_n_tokens(ll.llama_model_get_vocab(model))
    token = lambda: choose.randrange(vocabulary)
    for n in PROMPTS:
        print(json.dumps([f"prefill {n}", prefill(model, threads, n, token)]), flush=True)
    for b in BATCHES:
        print(json.dumps([f"decode x{b}", decode(model, threads, b, token)]), flush=True)


main()
