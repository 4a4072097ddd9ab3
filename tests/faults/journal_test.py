"""A journal that was truncated or has flipped bits, or belongs to another job: refused with the reason, or resumed to the
same bytes; never wrong results."""

import random
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import harness  # noqa: E402
from harness import check, check_equal, check_has  # noqa: E402


def half_done(job):
    """Stops a fresh run when about half is done; returns the journal's path."""
    job.discard()
    run = job.start(1, ["parallel.threads=1", harness.SLOWLY], mpirun=False)
    journal = job.output() / "journal/segment-000001.nj"
    run.wait_until(lambda: journal.exists() and journal.stat().st_size > 40000)
    run.kill_all()
    check(not (job.output() / "results.jsonl").exists(), "the job was done too early for this test")
    return journal


def resumes(job, expected, what):
    code, text = job.run(1, mpirun=False)
    check(code == 0, f"{what}: exit code {code}\n{text}")
    check_equal(job.results(), expected, what)
    (job.output() / "results.jsonl").unlink()
    (job.output() / "results.h5").unlink()


def truncated(job, expected, journal, whole):
    choose = random.Random(3)
    for size in (0, 10, choose.randrange(len(whole)), len(whole) - 1):
        journal.write_bytes(whole[:size])
        resumes(job, expected, f"journal cut to {size} of {len(whole)} bytes")


def flipped(job, expected, journal, whole):
    choose = random.Random(4)
    refused = 0
    for place in [30, 2000, *(choose.randrange(len(whole)) for _ in range(3))]:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << choose.randrange(8)
        journal.write_bytes(damaged)
        code, text = job.run(1, mpirun=False)
        if code == 0:  # at the torn end: recomputed
            check_equal(job.results(), expected, f"bit {place} flipped")
            continue
        check(code == 1, f"bit of byte {place} flipped: exit code {code}\n{text}")
        check_has(text, r"segment-000001\.nj: the journal is damaged at offset \d+", "--fresh")
        refused += 1
    check(refused >= 2, "damage in the middle of the journal was not refused")
    journal.write_bytes(whole)
    resumes(job, expected, "the undamaged journal")
    print(f"{refused} of 5 flipped bits refused")


def refused(job, expected_word, overrides=()):
    code, text = job.run(1, overrides, mpirun=False)
    check(code == 1, f"{expected_word}: exit code {code}\n{text}")
    check_has(text, "the journal belongs to another job", expected_word, "--fresh")


def of_another_job(job, model, expected):
    refused(job, r'job was "  seed: 0" and is now "  seed: 1"', ["sampling.seed=1"])
    refused(job, "dtype was", ["model.dtype=bfloat16"])
    refused(job, r'"  kv_cache_dtype: auto" and is now "  kv_cache_dtype: fp8"', ["engine.kv_cache_dtype=fp8"])
    text = job.input.read_text()
    job.input.write_text(text.replace("king", "ring"))
    refused(job, "input was")
    job.input.write_text(text)
    weights = model / "model.safetensors"
    original = weights.read_bytes()
    weights.write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
    refused(job, "model was")
    weights.write_bytes(original)
    config = model / "tokenizer_config.json"
    original = config.read_bytes()
    config.write_bytes(original + b"\n")
    refused(job, "tokenizer was")
    config.write_bytes(original)
    moved = job.folder / "elsewhere"
    model.rename(moved)
    code, text = job.run(2, [f"model.path={moved}"])
    check(code == 0, f"a model in another folder is the same model: exit code {code}\n{text}")
    check_equal(job.results(), expected, "model moved")


model = Path.cwd() / "model"
shutil.rmtree(model, ignore_errors=True)
shutil.copytree(harness.MODEL, model)
job, expected = harness.lasting_job("job", seconds=3, prompts=50, max_tokens=120, model=model)
journal = half_done(job)
whole = journal.read_bytes()
truncated(job, expected, journal, whole)
flipped(job, expected, journal, whole)
half_done(job)
of_another_job(job, model, expected)
