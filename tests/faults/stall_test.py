"""A rank that stops without dying: the deadline fires, names both ranks, stage, lane, operation and step, ends the job with
exit code 1, and the job resumes to the same bytes."""

import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import harness  # noqa: E402
from harness import check, check_equal, check_has  # noqa: E402

DEADLINE = 5


def stall(job, expected, parallel, victim):
    job.discard()
    run = job.start(4, [f"parallel={parallel}", f"limits.wait_deadline={DEADLINE}s", harness.SLOWLY])
    # Well into the run: the journal has something.
    journal = job.output() / "journal/segment-000001.nj"
    run.wait_until(lambda: journal.exists() and journal.stat().st_size > 4000)
    ranks = run.ranks()
    check(len(ranks) == 4, f"the run ended too early\n{run.text()}")
    harness.send(ranks[victim], signal.SIGSTOP)
    begin = time.monotonic()
    code, text = run.wait(60)
    seconds = time.monotonic() - begin
    harness.wait_gone(ranks)
    check(code == 1, f"exit code {code}\n{text}")
    check(seconds < 4 * DEADLINE + 10, f"took {seconds:.0f} s")
    check_has(text, r"nemo-dist: rank \d on \S+ \(replica 0, stage \d, lane \d, step \d+\): ",
              rf"rank \d waited {DEADLINE} s for .* (from rank {victim}|of all ranks)|heard nothing from rank \d")
    print(f"{parallel}, rank {victim} stopped: {seconds:.1f} s: "
          + next(line for line in text.splitlines() if "nemo-dist: rank" in line))
    code, text = job.run(2)
    check(code == 0, text)
    check_equal(job.results(), expected, "after a stall")


job, expected = harness.lasting_job("job", seconds=3, prompts=40, max_tokens=100)
stall(job, expected, "{pipeline: 2, expert: 2}", 3)
stall(job, expected, "{pipeline: 1, expert: 4}", 0)
