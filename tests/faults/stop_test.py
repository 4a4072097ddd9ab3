"""Asked to stop - by a signal, limits.max_time or a stop file - a run saves what is in flight and exits with 75; the same
command resumes to the same bytes. Two runs at once are refused; a finished job is shown again without computing."""

import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import harness  # noqa: E402
from harness import check, check_equal, check_has  # noqa: E402


def under_way(job, ranks, **kwargs):
    """A fresh run that has begun to generate."""
    job.discard()
    run = job.start(ranks, [harness.SLOWLY], **kwargs)
    journal = job.output() / "journal/segment-000001.nj"
    run.wait_until(lambda: journal.exists() and journal.stat().st_size > 3000)
    check(run.process.poll() is None, f"the run ended too early\n{run.text()}")
    check(job.manifest()["status"] == "running", f"the manifest of a run under way: {job.manifest()}")
    return run


def stopped(job, run, reason, expected, within, codes=(75,)):
    begin = time.monotonic()
    code, text = run.wait(30)
    seconds = time.monotonic() - begin
    check(code in codes, f"{reason}: exit code {code}\n{text}")
    check(seconds < within, f"{reason}: took {seconds:.1f} s")
    check_has(text, rf"stopped by {reason}")
    check(job.manifest()["status"] == "stopped", f"the manifest after {reason}: {job.manifest()}")
    code, text = job.run(2)
    check(code == 0, text)
    check_equal(job.results(), expected, f"after {reason}")
    again = job.counts()["recomputed_tokens"]
    print(f"stopped by {reason}: {seconds:.1f} s, {again} tokens computed again")


def by_signals(job, expected):
    run = under_way(job, 4)
    run.process.send_signal(signal.SIGUSR1)  # mpirun hands it to all ranks
    stopped(job, run, "a signal", expected, 8)
    run = under_way(job, 1, mpirun=False)
    run.process.send_signal(signal.SIGTERM)
    stopped(job, run, "a signal", expected, 8)
    run = under_way(job, 2)
    harness.send(run.ranks()[0], signal.SIGTERM)  # what a scheduler may send to a single task
    harness.send(run.ranks()[1], signal.SIGTERM)
    stopped(job, run, "a signal", expected, 8)


def by_sigterm_to_mpirun(job, expected):
    """mpirun gives its ranks one second, and says 1 whatever they say."""
    run = under_way(job, 2)
    run.process.terminate()
    code, text = run.wait(30)
    check(code in (1, 75), f"exit code {code}\n{text}")
    code, text = job.run(3)
    check(code == 0, text)
    check_equal(job.results(), expected, "after SIGTERM to mpirun")


def by_a_second_signal(job, expected):
    run = under_way(job, 1, mpirun=False)
    run.process.send_signal(signal.SIGINT)
    run.process.send_signal(signal.SIGTERM)
    code, text = run.wait(10)
    check(code == 75, f"exit code {code}\n{text}")
    code, text = job.run(1, mpirun=False)
    check(code == 0, text)
    check_equal(job.results(), expected, "after two signals")


def by_limits(job, expected):
    job.discard()
    run = job.start(2, ["limits.max_time=1s", "parallel.pipeline=2", harness.SLOWLY])  # counts from the program's start
    stopped(job, run, "limits.max_time", expected, 10)
    run = under_way(job, 3)
    (job.output() / "stop").touch()
    stopped(job, run, "the stop file", expected, 10)
    check(not (job.output() / "stop").exists(), "the stop file is still there")


def before_the_first_step(job):
    run = job.start(2, fresh=True)
    run.wait_until(lambda: len(run.ranks()) == 2)
    time.sleep(0.3)
    run.process.send_signal(signal.SIGUSR1)
    code, text = run.wait(30)
    check(code in (75, 128 + signal.SIGUSR1), f"exit code {code}\n{text}")  # the latter: before main() began


def at_once(job, expected):
    run = under_way(job, 2)
    code, text = job.run(1, mpirun=False)
    check(code == 1, f"exit code {code}\n{text}")
    check_has(text, "another run is writing here: process \\d+ on ")
    code, text = run.wait()
    check(code == 0, text)
    check_equal(job.results(), expected, "beside a refused run")


def when_done(job, expected):
    (job.output() / "results.jsonl").unlink()
    begin = time.monotonic()
    code, text = job.run(1, mpirun=False)
    check(code == 0 and "done: " in text, text)
    check_equal(job.results(), expected, "made again")
    print(f"a finished job again: {time.monotonic() - begin:.1f} s")


job, expected = harness.lasting_job("job", seconds=3, prompts=20, max_tokens=80, long_tokens=700)
by_signals(job, expected)
by_sigterm_to_mpirun(job, expected)
by_a_second_signal(job, expected)
by_limits(job, expected)
before_the_first_step(job)
job.run(2)
at_once(job, expected)
when_done(job, expected)
