"""A job so small that it also runs under a sanitizer: threads, reader, recorder and two ranks; stopped by a signal and
resumed to the same bytes."""

import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "faults"))
import harness  # noqa: E402
from harness import check, check_equal  # noqa: E402

job = harness.Job("job", prompts=8, max_tokens=12)
code, text = job.run(1, ["parallel.threads=3"], mpirun=False)
check(code == 0, text)
expected = job.results()
job.discard()
run = job.start(2, ["parallel={pipeline: 2, threads: 2}", harness.SLOWLY])
journal = job.output() / "journal/segment-000001.nj"
run.wait_until(lambda: journal.exists() and journal.stat().st_size > 1000)
run.process.send_signal(signal.SIGUSR1)
code, text = run.wait(100)
check(code in (0, 75), f"exit code {code}\n{text}")  # a fast machine may be done before it hears the signal
code, text = job.run(2, ["parallel={expert: 2, threads: 2}"])
check(code == 0, text)
check_equal(job.results(), expected, "stopped and resumed")
