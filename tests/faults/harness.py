"""What the fault tests share: a small job, runs of it under mpirun on any layout, ways to kill them, a comparison."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

SOURCE = Path(os.environ.get("NEMO_SOURCE_DIR", Path(__file__).resolve().parents[2]))
PROGRAM = os.environ.get("NEMO_DIST", str(SOURCE / "build/release/bin/nemo-dist"))
BUILD = Path(os.environ.get("NEMO_BUILD_DIR", SOURCE / "build/release"))
MODEL = SOURCE / "configs/checkpoints/kjv-wordnet-7m"

# A few sequences in small steps: slow, and one request is finished after the other.
SLOWLY = "engine={max_sequences: 2, max_batch_tokens: 16, prefill_chunk: 4}"

sys.stdout.reconfigure(line_buffering=True)  # ctest and logs show how far it is
WORDS = ("in the beginning was the word and king david said unto his people hear me for there is light "
         "define the word mountain river to walk a servant of kings").split()


def environment():
    """That of launch/environment.sh, also when the test is started by hand."""
    values = dict(os.environ, NEMO_PROGRESS="off")
    for line in (SOURCE / "launch/environment.sh").read_text().splitlines():
        match = re.match(r"export (OMPI_[A-Za-z_]+)=([^ #]*)", line)
        if match:
            values.setdefault(match[1], match[2])
    return values


class Job:
    """A job in a folder of its own, below the working folder."""

    def __init__(self, name, prompts=40, max_tokens=160, long_tokens=0, sampling="", model=MODEL):
        self.folder = Path.cwd() / name
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        self.path = self.folder / "job.yaml"
        self.input = self.folder / "prompts.jsonl"
        self.path.write_text(
            f"model: {{path: {model}, dtype: float32}}\n"
            f"input: {{path: prompts.jsonl}}\noutput: {{path: out}}\n"
            f"sampling: {{max_tokens: {max_tokens}, temperature: 0.8, ignore_eos: true, logprobs: 2{sampling}}}\n")
        self.input.write_text("".join(line + "\n" for line in self.lines(prompts, long_tokens)))

    @staticmethod
    def lines(prompts, long_tokens):
        """Prompts of 1 to 40 words; some with several samples, some with stop strings, the first ones long."""
        choose = random.Random(7)
        for i in range(prompts):
            line = {"id": f"p{i}", "prompt": " ".join(choose.choices(WORDS, k=choose.randint(1, 40)))}
            if i % 5 == 1:
                line["n"] = 3
            if i % 7 == 2:
                line["stop"] = ["the LORD", " him "]
            if long_tokens and i < 2:
                line["max_tokens"] = long_tokens
                line["n"] = 1 + i % 2
            yield json.dumps(line)

    def output(self, name="out"):
        return self.folder / name

    def discard(self):
        shutil.rmtree(self.output(), ignore_errors=True)

    def results(self, name="out"):
        return {file: (self.output(name) / file).read_bytes() for file in ("results.jsonl", "results.h5")}

    def manifest(self, name="out"):
        return json.loads((self.output(name) / "manifest.json").read_text())

    def counts(self, name="out"):
        return self.manifest(name)["counts"]

    def start(self, ranks=1, overrides=(), out="out", options=(), fresh=False, mpirun=True):
        return Run(self, ranks, overrides, out, options, fresh, mpirun)

    def run(self, *args, limit=240, **kwargs):
        """Runs to the end; returns (exit code, what was printed)."""
        return self.start(*args, **kwargs).wait(limit)


def lasting_job(name, seconds, prompts, **kwargs):
    """A job that takes one process at least so long in small steps, however fast the machine; and its results."""
    while True:
        job = Job(name, prompts=prompts, **kwargs)
        begin = time.monotonic()
        code, text = job.run(1, [SLOWLY], mpirun=False)
        check(code == 0, text)
        if time.monotonic() - begin >= seconds:
            return job, job.results()
        prompts *= 2


class Run:
    count = 0

    def __init__(self, job, ranks, overrides, out, options, fresh, mpirun):
        command = ["mpirun", "-np", str(ranks), *options] if mpirun else []
        command += [PROGRAM, "--job", str(job.path), "--set", f"output.path={out}"]
        for override in overrides:
            command += ["--set", override]
        if fresh:
            command.append("--fresh")
        self.is_mpirun = mpirun
        Run.count += 1
        self.log = (job.folder / f"log-{Run.count % 10}").open("w+")
        # A process group of its own, so that what the terminal or ctest sends comes to us and not to the run.
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                        env=environment(), cwd=job.folder, start_new_session=True)

    def ranks(self):
        """The processes of the ranks that are there."""
        if not self.is_mpirun:
            return [self.process.pid]
        try:
            children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        except OSError:
            return []
        return [int(pid) for pid in children if "nemo-dist" in name_of(int(pid))]

    def text(self):
        self.log.flush()
        return Path(self.log.name).read_text(errors="replace")

    def wait(self, limit=240):
        try:
            code = self.process.wait(limit)
        except subprocess.TimeoutExpired:
            text = self.text()
            self.kill_all()
            fail(f"the run did not end within {limit} s\n{text}")
        return (128 - code if code < 0 else code), self.text()

    def wait_until(self, condition, limit=120):
        """Until `condition()` is true; False if the run has ended before."""
        end = time.monotonic() + limit
        while time.monotonic() < end:
            if condition():
                return True
            if self.process.poll() is not None:
                return False
            time.sleep(0.02)
        text = self.text()
        self.kill_all()
        fail(f"nothing happened for {limit} s\n{text}")

    def kill_all(self):
        """SIGKILL for mpirun and every rank at once, as when power or a node fails."""
        ranks = self.ranks()
        for pid in [self.process.pid, *ranks]:
            send(pid, signal.SIGKILL)
        self.process.wait()
        wait_gone(ranks)

    def kill_mpirun(self):
        ranks = self.ranks()
        self.process.kill()
        self.process.wait()
        wait_gone(ranks)

    def kill_rank(self, which):
        """mpirun ends all, unless the rank dies while MPI starts: there Open MPI 4.1 may hang. True if it did not."""
        ranks = self.ranks()
        if not ranks:
            self.kill_mpirun()
            return True
        send(ranks[which % len(ranks)], signal.SIGKILL)
        try:
            self.process.wait(30)
            wait_gone(ranks)
            return True
        except subprocess.TimeoutExpired:
            self.kill_all()
            return False


def name_of(pid):
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return ""


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def send(pid, what):
    try:
        os.kill(pid, what)
    except ProcessLookupError:
        pass


def wait_gone(pids, limit=15):
    end = time.monotonic() + limit
    while any(is_running(pid) for pid in pids):
        if time.monotonic() > end:
            for pid in pids:
                send(pid, signal.SIGKILL)
            fail(f"ranks outlived mpirun by {limit} s")
        time.sleep(0.02)


def random_layout(choose, most_ranks=8):
    """(ranks, overrides): any split of up to `most_ranks` ranks, with step sizes and threads to match nothing else."""
    while True:
        pipeline, expert, replicas = choose.randint(1, 5), choose.choice([1, 1, 2, 3, 4, 5, 8]), choose.randint(1, 3)
        if pipeline * expert * replicas <= most_ranks:
            break
    batch = choose.choice([16, 33, 128, 512])
    return pipeline * expert * replicas, [
        f"parallel={{pipeline: {pipeline}, expert: {expert}, replicas: {replicas}, threads: {choose.randint(1, 2)}}}",
        f"engine={{max_sequences: {choose.choice([2, 5, 16])}, max_batch_tokens: {batch}, "
        f"prefill_chunk: {choose.choice([4, batch])}}}"]


def fail(text):
    print(f"FAILED: {text}", flush=True)
    sys.exit(1)


def check(condition, text):
    if not condition:
        fail(text)


def check_has(text, *parts):
    for part in parts:
        check(re.search(part, text), f"'{part}' is not in\n{text}")


def check_equal(found, expected, what):
    for name, data in expected.items():
        check(found[name] == data, f"{what}: {name} differs from the undisturbed run's")
