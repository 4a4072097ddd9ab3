"""Kills a job again and again at random moments - a rank, mpirun, or everything at once -, starts it again on a random
layout until it is done, and compares the results with those of an undisturbed run, byte for byte.

    kill_test.py [--kills 200] [--seed 1]

Prints how many tokens had to be computed again."""

import argparse
import collections
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import harness  # noqa: E402
from harness import check, check_equal  # noqa: E402


def kill(run, choose):
    """One kill; returns its name."""
    kind = choose.choice(["rank", "mpirun", "everything"])
    if kind == "rank":
        if not run.kill_rank(choose.randrange(8)):
            kind = "rank, and mpirun hung"
    elif kind == "mpirun":
        run.kill_mpirun()
    else:
        run.kill_all()
    return kind


class Tally:
    def __init__(self):
        self.kills = collections.Counter()
        self.jobs = self.starts = self.needed = self.recomputed = 0

    def __str__(self):
        kinds = ", ".join(f"{count} of {kind}" for kind, count in self.kills.items())
        share = 100 * self.recomputed / max(1, self.needed)
        return (f"{sum(self.kills.values())} kills ({kinds}), {self.starts} starts of {self.jobs} jobs: "
                f"{self.needed:,} tokens needed, {self.recomputed:,} ({share:.1f}%) computed again; "
                "all results equal an undisturbed run's")


def torture(job, expected, seconds, choose, tally, most_kills):
    """One job from nothing to results, killed up to `most_kills` times. `seconds`: what an undisturbed start takes."""
    job.discard()
    while True:
        ranks, overrides = harness.random_layout(choose)
        run = job.start(ranks, overrides)
        tally.starts += 1
        if most_kills > 0:
            # From before the first step to just before the end; more ranks than cores are slower to start.
            time.sleep(choose.uniform(0.1, 1.0) * seconds)
            if run.process.poll() is None:
                tally.kills[kill(run, choose)] += 1
                most_kills -= 1
                continue
        code, text = run.wait()
        if code in (1, 75) and "stopped by a signal" in text:
            continue  # by somebody else than us
        check(code == 0, f"{ranks} ranks {overrides}: exit code {code}\n{text}")
        break
    check_equal(job.results(), expected, f"after kills, last on {ranks} ranks {overrides}")
    counts = job.counts()
    tally.jobs += 1
    tally.needed += counts["computed_tokens"] - counts["recomputed_tokens"]
    tally.recomputed += counts["recomputed_tokens"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    choose = random.Random(options.seed)
    job = harness.Job("job", prompts=16, max_tokens=24, long_tokens=340)
    begin = time.monotonic()
    code, text = job.run(1)
    check(code == 0, text)
    seconds = time.monotonic() - begin
    expected = job.results()
    check(job.counts()["recomputed_tokens"] == 0, f"an undisturbed run computed tokens twice: {job.counts()}")
    tally = Tally()
    while (left := options.kills - sum(tally.kills.values())) > 0:
        torture(job, expected, seconds, choose, tally, min(left, choose.randint(2, 8)))
        print(f"{time.monotonic() - begin:.0f} s: {tally}", flush=True)


main()
