#!/usr/bin/env python3
"""Trains the small checkpoint on a CPU and leaves its state in a folder; export.py turns that into a checkpoint.

  python train_checkpoint.py --work /tmp/kjv

Warm-up, a flat stretch, then a linear decay: over the last `--decay` steps, or with --minutes over the last
`--decay-minutes`, whatever the machine's load lets it do until then. Started again, it goes on from the last saved state.
"""

import argparse
import json
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F

import corpus
import tokenizer_files
from checkpoint_config import namespace
from optimiser import optimisers
from trainable import Nemotron


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--work", type=Path, required=True)
    p.add_argument("--steps", type=int, default=928)
    p.add_argument("--decay", type=int, default=500)
    p.add_argument("--minutes", type=float, help="stop after so many minutes, instead of --steps")
    p.add_argument("--decay-minutes", type=float, default=50)
    p.add_argument("--rows", type=int, default=5, help="sequences a step")
    p.add_argument("--sequence", type=int, default=512)
    p.add_argument("--chats", type=int, default=2, help="of the rows, those with chats")
    p.add_argument("--muon", type=float, default=0.02)
    p.add_argument("--adam", type=float, default=0.003)
    p.add_argument("--weight-decay", type=float, default=0.05)
    p.add_argument("--balance", type=float, default=0.01, help="step of the expert bias")
    p.add_argument("--save-every", type=int, default=100)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--seed", type=int, default=1)
    return p.parse_args()


def verse_rows(documents, length, rng):
    """Chapters one after another, cut into rows; half of them begin with <s>."""
    stream = []
    while True:
        for i in rng.sample(range(len(documents)), len(documents)):
            stream += documents[i][rng.randint(0, 1):]
            while len(stream) >= length:
                yield stream[:length]
                stream = stream[length:]


def chat_rows(documents, length, rng):
    """Chats without <s> and </s>, as the template gives them; a row begins with the head of a chat."""
    row = []
    while True:
        for i in rng.sample(range(len(documents)), len(documents)):
            row += documents[i][1:-1]
            if len(row) >= length:
                yield row[:length]
                row = []


def batches(tokenizer_folder, args):
    verses, chats = tokenizer_files.encode_all(tokenizer_folder, args.seed)
    rng = random.Random(args.seed)
    first = verse_rows(verses, args.sequence + 1, rng)
    second = chat_rows(chats, args.sequence + 1, rng)
    while True:
        rows = [next(second) if i < args.chats else next(first) for i in range(args.rows)]
        yield torch.tensor(rows)


@torch.no_grad()
def held_out_loss(model, tokenizer):
    """Nats per byte of a sample of the held-out chapters."""
    _, chapters, _, _ = corpus.split()
    nats = size = 0
    for chapter in chapters[::3]:
        text = corpus.pieces(chapter)[0]
        ids = torch.tensor([[1] + tokenizer.encode(text).ids])
        nats += F.cross_entropy(model(ids[:, :-1])[0], ids[0, 1:], reduction="sum").item()
        size += len(text.encode())
    return nats / size


def balance(model, step):
    """Moves each expert's selection bias towards even load, without a loss term."""
    for moe in model.moe_layers():
        load = moe.load.float()
        bias = moe.gate.e_score_correction_bias
        bias += step * torch.sign(load.mean() - load)
        bias -= bias.mean()


def main():
    args = arguments()
    args.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    if not (args.work / "tokenizer.json").exists():
        tokenizer_files.write(args.work)
    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_file(str(args.work / "tokenizer.json"))

    model = Nemotron(namespace())
    optimiser_list = optimisers(model, args.muon, args.adam, args.weight_decay)
    data = batches(args.work, args)
    step = 0
    state_file, log = args.work / "state.pt", (args.work / "log.jsonl").open("a")
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        model.load_state_dict(state["model"])
        for optimiser, saved in zip(optimiser_list, state["optimisers"]):
            optimiser.load_state_dict(saved)
        step = state["step"]
        for _ in range(step):
            next(data)

    def save():
        torch.save({"model": model.state_dict(), "step": step,
                    "optimisers": [o.state_dict() for o in optimiser_list]}, args.work / "state.tmp")
        (args.work / "state.tmp").rename(state_file)

    began, losses = time.time(), []
    while True:
        left = (args.steps - step) / args.decay
        if args.minutes:
            left = (args.minutes - (time.time() - began) / 60) / args.decay_minutes
        if left <= 0:
            break
        rate = min(1.0, (step + 1) / 100, left)
        ids = next(data)
        for optimiser in optimiser_list:
            for group in optimiser.param_groups:
                group["lr"] = group["base"] * rate
        hidden = model.hidden(ids[:, :-1])
        logits = model.lm_head(hidden).flatten(0, 1)
        each = F.cross_entropy(logits, ids[:, 1:].flatten(), reduction="none").view(args.rows, -1).mean(1)
        each.mean().backward()
        for optimiser in optimiser_list:
            optimiser.step()
            optimiser.zero_grad()
        balance(model, args.balance * (max(rate, 0.02) if step > 100 else 1.0))
        step += 1
        each = each.detach()
        losses.append((each[:args.chats].mean().item(), each[args.chats:].mean().item()))
        if step % 20 == 0:
            loads = torch.stack([m.load.float() / m.load.sum() * m.load.numel() for m in model.moe_layers()])
            chat, verse = (sum(x) / len(losses) for x in zip(*losses))
            record = {"step": step, "chat": round(chat, 4), "verse": round(verse, 4), "rate": round(rate, 4),
                      "load_min": round(loads.min().item(), 3), "load_max": round(loads.max().item(), 3),
                      "seconds": round(time.time() - began, 1)}
            if step % args.save_every == 0:
                record["held_out_bits_per_byte"] = round(held_out_loss(model, tokenizer) / 0.6931472, 4)
            print(json.dumps(record), file=log, flush=True)
            losses = []
        if step % args.save_every == 0:
            save()
    save()


if __name__ == "__main__":
    main()
