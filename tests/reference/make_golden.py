#!/usr/bin/env python3
"""Makes the files under tests/golden anew.

  python make_golden.py models|tokenizer|chat|heldout|all
"""

import argparse
import importlib
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
PARTS = ("models", "tokenizer", "chat", "heldout")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("part", choices=(*PARTS, "all"))
    p.add_argument("--out", type=Path, default=ROOT / "tests" / "golden")
    p.add_argument("--checkpoint", type=Path, default=ROOT / "configs" / "checkpoints" / "kjv-wordnet-7m")
    args = p.parse_args()
    torch.set_num_threads(1)            # one thread: the same sums, the same files
    for part in PARTS if args.part == "all" else (args.part,):
        importlib.import_module(f"golden_{part}").make(args.out, args.checkpoint)


if __name__ == "__main__":
    main()
