#!/usr/bin/env python3
"""nemo-dist beside llama.cpp and transformers on one synthetic checkpoint, measured in turn; prints a Markdown table.

    python3 -m venv build/peers/venv
    build/peers/venv/bin/pip install --no-binary llama-cpp-python -r tests/bench/peers/requirements.txt
    tests/bench/peers/compare.py --converter FOLDER [--rounds 3] [--only REGEX]

FOLDER is vendor/llama.cpp of llama-cpp-python's source distribution (pip download --no-binary :all: --no-deps llama-cpp-python).
The checkpoint is layers 2 to 6 of Nano 30B (a Mamba, two mixture-of-experts, an attention layer and a Mamba layer) at true
width with its embedding and head: 7 GB in BF16. Formats compared have equal bytes per weight but for scales: BF16 with BF16,
FP8 with Q8_0 (8 against 8.5 bits), NVFP4 with Q4_0 (4.5 bits each); embedding and head are BF16 in all. FP8 and NVFP4 leave
attention in BF16, as the releases do; Q8_0 and Q4_0 do not. All use the same threads.

Figures are tokens per second, the median of the rounds; every round runs all engines one after the other. nemo-dist's are
of whole jobs, from the first step to the last record. Under the table stands why an engine's cases are missing."""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
MODEL, LAYERS = "nemotron-3-nano-30b-a3b", "2-6"
FORMATS = {"bf16": None, "fp8": "q8_0", "nvfp4": "q4_0"}  # ours: llama.cpp's
PROMPTS = (512, 2048)
BATCHES = (1, 8, 32)
CASES = [f"prefill {n}" for n in PROMPTS] + [f"decode x{b}" for b in BATCHES]
STEPS = 48


def call(command, **kwargs):
    """Standard output; raises RuntimeError with the last lines of the error output."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **kwargs)
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise RuntimeError(lines[-1][:200] if lines else f"exit code {done.returncode}")
    return done.stdout


def prepare(options):
    """Makes the checkpoints that are missing; an unfinished one is not left behind."""
    for ours, theirs in FORMATS.items():
        checkpoint = options.work / f"nano-{ours}"
        if not checkpoint.exists():
            print(f"writing {checkpoint}", file=sys.stderr)
            call([options.program, "synth", "--config", ROOT / "configs/models" / MODEL, "--layers", LAYERS, "--quant", ours,
                  "--out", checkpoint])
        gguf = options.work / f"{theirs or 'bf16'}.gguf"
        if not gguf.exists():
            print(f"writing {gguf}", file=sys.stderr)
            partial = gguf.with_suffix(".partial")
            call([options.python, HERE / "quantize_gguf.py", options.work / "bf16.gguf", partial, theirs] if theirs else
                 [options.python, HERE / "to_gguf.py", options.work / "nano-bf16", partial, options.converter])
            partial.rename(gguf)


def run_job(options, checkpoint, prompt_tokens, requests, at_once, output_tokens):
    """Seconds of a job's run without loading."""
    folder = options.work / "job"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    lines = [{"token_ids": [(i * 7919 + k * 104729) % 250 for k in range(prompt_tokens)]} for i in range(requests)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    job = {"model": {"path": str(checkpoint)}, "input": {"path": "prompts.jsonl"}, "output": {"path": "out"},
           "parallel": {"threads": options.threads}, "sampling": {"max_tokens": output_tokens, "ignore_eos": True},
           "engine": {"max_sequences": at_once, "max_batch_tokens": max(512, at_once), "prefill_chunk": 512}}
    (folder / "job.yaml").write_text(json.dumps(job))
    call([options.program, "--job", folder / "job.yaml"], env=dict(os.environ, NEMO_PROGRESS="off"))
    return json.loads((folder / "out/manifest.json").read_text())["timings_s"]["run"]


def run_nemo_dist(options, checkpoint):
    """Yields (case, tokens per second), as run_peer does."""
    for n in PROMPTS:
        yield f"prefill {n}", 4 * n / run_job(options, checkpoint, n, 4, 1, 1)
    for b in BATCHES:
        yield f"decode x{b}", b * STEPS / run_job(options, checkpoint, 2, b, b, STEPS)


def run_peer(options, script, model):
    """Raises RuntimeError after the last case if that was not the script's end."""
    command = [options.python, HERE / script, model, options.threads]
    try:
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=options.limit)
        lines, failure = done.stdout, done.stderr.strip().splitlines()[-1:] if done.returncode else None
    except subprocess.TimeoutExpired as late:
        lines, failure = (late.stdout or b"").decode(), [f"not finished in {options.limit} s"]
    for line in lines.splitlines():
        yield tuple(json.loads(line))
    if failure is not None:
        raise RuntimeError(failure[0][:200] if failure else "failed without a word")


def engines(options):
    """(format, engine, generator of its cases)"""
    for ours, theirs in FORMATS.items():
        yield ours, f"nemo-dist {ours.upper()}", run_nemo_dist(options, options.work / f"nano-{ours}")
        kind = theirs or "bf16"
        yield ours, f"llama.cpp {kind.upper()}", run_peer(options, "run_llama_cpp.py", options.work / f"{kind}.gguf")
    yield "bf16", "transformers BF16", run_peer(options, "run_transformers.py", options.work / "nano-bf16")


def measure(options):
    """{engine: {case: [tokens per second]}} and {engine: why cases are missing}; an engine that failed is not asked again."""
    figures, failures = {}, {}
    for turn in range(options.rounds):
        for _, engine, cases in engines(options):
            if not re.search(options.only, engine) or engine in failures:
                continue
            print(f"round {turn + 1}: {engine}", file=sys.stderr)
            rates = figures.setdefault(engine, {})
            try:
                for case, rate in cases:
                    rates.setdefault(case, []).append(rate)
            except RuntimeError as error:
                failures[engine] = str(error)
    return figures, failures


def cell(rates, reference):
    """A median, and how many times as fast the reference is."""
    if not rates:
        return ""
    rate = statistics.median(rates)
    return f"{rate:,.1f}" + (f" ({statistics.median(reference) / rate:.2f}x)" if reference else "")


def print_table(options, figures, failures):
    print("| engine | " + " | ".join(CASES) + " |\n|---|" + "---:|" * len(CASES))
    for ours, engine, _ in engines(options):
        if engine not in figures:
            continue
        nemo_dist = f"nemo-dist {ours.upper()}"
        reference = {} if engine == nemo_dist else figures.get(nemo_dist, {})
        cells = [cell(figures[engine].get(case), reference.get(case)) for case in CASES]
        print(f"| {engine} | " + " | ".join(cells) + " |")
    print("\nTokens per second; in brackets how many times as fast nemo-dist is.")
    for engine, reason in failures.items():
        print(f"{engine}: {reason}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--converter", type=Path, required=True, help="vendor/llama.cpp of the source distribution")
    parser.add_argument("--work", type=Path, default=ROOT / "build/peers", help="where checkpoints are kept")
    parser.add_argument("--python", type=Path, default=None, help="of the environment with the peers")
    parser.add_argument("--program", type=Path, default=ROOT / "build/release/bin/nemo-dist")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=600, help="seconds a peer has for all its cases of a round")
    parser.add_argument("--only", default="", help="a regular expression for the engines' names")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    options.python = options.python or options.work / "venv/bin/python"
    prepare(options)
    print_table(options, *measure(options))


main()
