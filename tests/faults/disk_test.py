"""Disks that fail under the output folder: full, read-only, broken. The job ends with exit code 1 and says what, where and
what to do; once the disk is well again, it resumes to the same bytes."""

import errno
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import harness  # noqa: E402
from harness import check, check_equal, check_has  # noqa: E402

# LD_PRELOAD takes a space in a path for the end of it, and the build folder may have one: it is preloaded from elsewhere.
PRELOADED = tempfile.TemporaryDirectory(dir="/tmp")
LIBRARY = Path(PRELOADED.name) / "libfailing_disk.so"
shutil.copy(harness.BUILD / "tests/libfailing_disk.so", LIBRARY)


def with_fault(job, call, error, after_bytes, ranks=2):
    """A run whose ranks see the fault; mpirun itself does not."""
    options = []
    for name, value in {"LD_PRELOAD": LIBRARY, "NEMO_FAULT_FOLDER": job.output(), "NEMO_FAULT_CALL": call,
                        "NEMO_FAULT_ERRNO": error, "NEMO_FAULT_BYTES": after_bytes}.items():
        options += ["-x", f"{name}={value}"]
    return job.run(ranks, options=options, limit=60)


def fails_and_resumes(job, expected, call, error, after_bytes, *words):
    code, text = with_fault(job, call, error, after_bytes)
    check(code == 1, f"{call} {errno.errorcode[error]} after {after_bytes} bytes: exit code {code}\n{text}")
    check_has(text, *words)
    check(not (job.output() / "results.jsonl").exists(), "results of a failed run")
    print(f"{call} {errno.errorcode[error]} after {after_bytes} bytes: "
          + next(line for line in text.splitlines() if "nemo-dist" in line))
    code, text = job.run(2)
    check(code == 0, text)
    check_equal(job.results(), expected, f"after {call} failed")


job = harness.Job("job", prompts=40, max_tokens=100)
code, text = job.run(1)
check(code == 0, text)
expected = job.results()
journal_bytes = (job.output() / "journal/segment-000001.nj").stat().st_size


job.discard()
fails_and_resumes(job, expected, "write", errno.ENOSPC, journal_bytes // 2, r"segment-000001\.nj: cannot write: No space",
                  "free some space")
job.discard()
# The journal fits, the results do not.
fails_and_resumes(job, expected, "write", errno.ENOSPC, journal_bytes + 3000, r"results\.(jsonl|h5)", "No space|space")
job.discard()
fails_and_resumes(job, expected, "sync", errno.EIO, journal_bytes // 3, r"cannot make it durable: Input/output error",
                  "disk or its connection fails")
job.discard()
fails_and_resumes(job, expected, "create", errno.EROFS, 0, "Read-only file system", "choose an output.path")
