"""Whole jobs give the same bytes on any layout.

Every job runs on some number of ranks, layout, threads, engine sizes and order of its input lines; results.jsonl must equal,
byte for byte, what serial_job writes (one process, one sequence at a time), and results.h5 that of one rank.

  layouts_test.py                          the chosen combinations below; what ctest runs
  layouts_test.py --soak 200 --seed 1      so many random ones
  layouts_test.py --only '{"workload": ...}'   one combination, as a failure prints it

Needs NEMO_DIST and NEMO_BUILD_DIR (see tests/CMakeLists.txt).
"""
import argparse
import json
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))
import workloads as w  # noqa: E402

SOURCE = Path(__file__).resolve().parents[2]
RUN_LIMIT_S = 240

# workload, layout (replicas, pipeline, expert), further keys. Chosen so that every dimension is met, and 3, 5, 6, 7, 12 ranks.
CHOSEN = [
    ("verses", (1, 1, 3), {"threads": 2}),
    ("verses", (1, 2, 2), {"max_sequences": 3, "prefill_chunk": 1, "order": 4}),
    ("verses", (1, 7, 1), {"threads": 1, "max_batch_tokens": 16}),
    ("draws", (1, 1, 5), {"max_sequences": 2, "max_batch_tokens": 9, "prefill_chunk": 7}),
    ("draws", (2, 2, 3), {"threads": 1, "order": 9}),
    ("draws", (1, 4, 4), {"threads": 1}),
    ("penalties", (1, 3, 2), {"max_sequences": 4, "prefill_chunk": 128, "max_batch_tokens": 128}),
    ("few", (1, 2, 4), {"threads": 1}),
    ("one", (2, 1, 6), {"threads": 1}),
    ("score", (1, 2, 1), {"max_batch_tokens": 40, "prefill_chunk": 7, "threads": 3}),
    ("score32", (1, 1, 4), {"max_sequences": 5, "order": 2}),
    ("pressure", (1, 2, 1), {"max_sequences": 8, "max_batch_tokens": 1024, "pressure": True}),
    ("pressure32", (1, 1, 2), {"max_sequences": 8, "pressure": True, "prefill_chunk": 7, "threads": 1}),
    ("all_kinds-draw", (1, 4, 2), {"threads": 1}),
    ("puzzle-draw", (1, 2, 3), {"max_sequences": 3, "threads": 2}),
    ("latent-score", (1, 1, 7), {"threads": 1}),
    ("dense-greedy", (1, 6, 1), {"threads": 1, "prefill_chunk": 1}),
    ("fp8_kv", (1, 3, 2), {"max_sequences": 3, "prefill_chunk": 7, "threads": 2}),
    ("fp8_kv", (2, 1, 2), {"threads": 1, "order": 3}),
]


def mpi_environment():
    """The caller's environment with what launch/environment.sh exports."""
    script = f"source {shlex.quote(str(SOURCE))}/launch/environment.sh && env -0"
    shown = subprocess.run(["bash", "-c", script], check=True, capture_output=True, text=True).stdout
    environment = dict(item.split("=", 1) for item in shown.split("\0") if item)
    return {**environment, "NEMO_PROGRESS": "off"}


def yaml_of(job):
    return json.dumps(job, indent=1)  # JSON is YAML


class Bench:
    def __init__(self, work):
        self.work = work
        self.program = os.environ["NEMO_DIST"]
        self.oracle_program = str(Path(os.environ["NEMO_BUILD_DIR"], "tests/serial_job"))
        self.environment = mpi_environment()
        self.models = w.make_models(SOURCE, work)
        self.workloads = w.make_workloads(SOURCE)
        self.expected_jsonl, self.expected_h5 = {}, {}
        self.counts, self.preempting = Counter(), 0

    def job_file(self, name, workload, order, parallel, engine, memory=None):
        """Writes input and job into a folder of their own; returns the job file. `order`: seed of a shuffle, or None."""
        folder = self.work / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        lines = list(workload.lines)
        if order is not None:
            random.Random(order).shuffle(lines)
        (folder / "input.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        job = {"name": workload.name, "task": workload.task,
               "model": {"path": str(self.models[workload.model][0]), "dtype": workload.dtype},
               "input": {"path": "input.jsonl"}, "output": {"path": "out"}, "sampling": workload.sampling,
               "parallel": parallel, "engine": {**workload.engine, **engine}}
        if memory is not None:
            job["limits"] = {"memory": memory}
        (folder / "job.yaml").write_text(yaml_of(job))
        return folder / "job.yaml"

    def run(self, command):
        """None, or what went wrong."""
        try:
            done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=RUN_LIMIT_S)
        except subprocess.TimeoutExpired:
            return f"no end after {RUN_LIMIT_S} s"
        if done.returncode != 0:
            return f"exit code {done.returncode}: {(done.stdout + done.stderr)[-1500:]}"
        return None

    def expected(self, workload):
        """(results.jsonl of the oracle, results.h5 of one rank)."""
        if workload.name not in self.expected_jsonl:
            job = self.job_file("expected/" + workload.name, workload, None, {"threads": 1}, {})
            jsonl = job.parent / "serial.jsonl"
            for command in ([self.oracle_program, str(job), str(jsonl)],
                            ["mpirun", "-np", "1", self.program, "--job", str(job)]):
                trouble = self.run(command)
                if trouble:
                    sys.exit(f"FAILED: {' '.join(command)}\n{trouble}")
            self.expected_jsonl[workload.name] = jsonl.read_bytes()
            self.expected_h5[workload.name] = (job.parent / "out/results.h5").read_bytes()
            if (job.parent / "out/results.jsonl").read_bytes() != self.expected_jsonl[workload.name]:
                sys.exit(f"FAILED: one rank differs from the serial oracle:\n{job.parent}")
        return self.expected_jsonl[workload.name], self.expected_h5[workload.name]

    def plan(self, job, np):
        command = [self.program, "--job", str(job), "--plan", "--json", "--np", str(np)]
        return json.loads(subprocess.run(command, env=self.environment, check=True, capture_output=True).stdout)

    def least_memory(self, name, workload, c, parallel, engine):
        """limits.memory with which lanes have the fewest pages the plan allows, so that sequences are preempted."""
        job = self.job_file(name, workload, None, parallel, engine)
        command = [self.program, "--job", str(job), "--plan", "--json", "--np", str(c["np"])]
        plan = subprocess.run(command, env=self.environment, check=True, capture_output=True).stdout
        return f"{max(json.loads(plan)['least_bytes_per_rank'] // 1024 + 1, 16 * 1024)}KiB"  # the key's own least: 16 MiB

    def check(self, c, name="run"):
        """Runs one combination; None, or what differs."""
        workload = self.workloads[c["workload"]]
        expected_jsonl, expected_h5 = self.expected(workload)
        parallel = {key: c[key] for key in ("replicas", "pipeline", "expert", "threads") if key in c}
        engine = {key: c[key] for key in ("max_sequences", "max_batch_tokens", "prefill_chunk") if key in c}
        memory = self.least_memory(name, workload, c, parallel, engine) if c.get("pressure") else None
        job = self.job_file(name, workload, c.get("order"), parallel, engine, memory)
        trouble = self.run(["mpirun", "-np", str(c["np"]), self.program, "--job", str(job)])
        if trouble:
            return trouble
        manifest = json.loads((job.parent / "out/manifest.json").read_text())
        self.preempting += bool(c.get("pressure")) and manifest["counts"]["recomputed_tokens"] > 0
        jsonl = (job.parent / "out/results.jsonl").read_bytes()
        if c.get("order") is not None:
            return None if by_id(jsonl) == by_id(expected_jsonl) else difference(expected_jsonl, jsonl)
        if jsonl != expected_jsonl:
            return difference(expected_jsonl, jsonl)
        same = (job.parent / "out/results.h5").read_bytes() == expected_h5
        return None if same else "results.h5 differs from that of one rank"


def by_id(jsonl):
    """{id: line without its place in the input}, as text, so that not a digit may differ."""
    lines = jsonl.decode().splitlines()
    at_index, at_place = re.compile(r'"index":\d+,'), re.compile(r"input\.jsonl:\d+")
    return {json.loads(line)["id"]: at_place.sub("input.jsonl", at_index.sub("", line, count=1)) for line in lines}


def difference(expected, actual):
    ours, theirs = by_id(actual), by_id(expected)
    wrong = [key for key in theirs if ours.get(key) != theirs[key]]
    text = f"{len(wrong)} of {len(theirs)} records differ"
    return text + (f"; {wrong[0]}:\n  expected {theirs[wrong[0]]}\n  is       {ours.get(wrong[0])}"[:1200] if wrong else "")


def combination(workload, layout, keys):
    """Without threads: as many as the plan wants."""
    replicas, pipeline, expert = layout
    return {"workload": workload, "np": replicas * pipeline * expert, "replicas": replicas, "pipeline": pipeline,
            "expert": expert, **keys}


def random_combination(bench, draw):
    is_short = draw.random() < 0.1  # of memory: sequences are preempted
    names = [name for name in sorted(bench.workloads) if name.startswith("pressure") or not is_short]
    workload = bench.workloads[draw.choice(names)]
    _, layers, experts = bench.models[workload.model]
    while True:
        np = draw.choice([1, 2, 2, 3, 3, 4, 4, 5, 6, 6, 7, 8, 9, 10, 11, 12, 12, 13, 14, 15, 16, 16])
        divisors = [(r, p, np // r // p) for r in range(1, np + 1) for p in range(1, np + 1) if np % (r * p) == 0]
        layout = draw.choice([d for d in divisors if d[1] <= layers and d[2] <= max(experts, 1)])
        if is_short and layout[0] * layout[2] <= 2:  # else there is a request a lane and nobody to take pages from
            break
        if not is_short and (layout[0] <= 4 or draw.random() < 0.2):
            break
    keys = {"threads": draw.choice([1, 1, 1, 2, 3])}
    sequences = draw.choice([5, 8, 16] if is_short else [1, 2, 3, 5, 8, 16, None])
    rows = draw.choice([16, 17, 33, 128, 512, None])
    chunk = draw.choice([1, 7, 16, 128, None])
    keys.update({"max_sequences": sequences} if sequences else {})
    keys.update({"max_batch_tokens": rows} if rows else {})
    keys.update({"prefill_chunk": min(chunk, rows or chunk)} if chunk else {})
    if is_short:
        keys["pressure"] = True
    elif draw.random() < 0.1:
        return {"workload": workload.name, "np": np, **keys}  # the planner's own layout
    if draw.random() < 0.3:
        keys["order"] = draw.randrange(1000)
    return combination(workload.name, layout, keys)


def check_score_of_generated(bench):
    """The logprobs of scoring (prompt, generated) are those of generating, to the last digit, on other layouts."""
    prompts = [{"id": str(i), "token_ids": w.random_ids(random.Random(i), 3 + 20 * i)} for i in range(5)]
    generate = w.Workload("generate", "moe", prompts, sampling={"logprobs": 1, "max_tokens": 30, "seed": 4})
    job = bench.job_file("generate", generate, None, {"expert": 3, "pipeline": 1}, {})
    trouble = bench.run(["mpirun", "-np", "3", bench.program, "--job", str(job)])
    if trouble:
        return trouble
    outputs = [json.loads(line) for line in (job.parent / "out/results.jsonl").read_text().splitlines()]
    whole = [{"id": p["id"], "token_ids": p["token_ids"] + o["token_ids"]} for p, o in zip(prompts, outputs)]
    score = w.Workload("score", "moe", whole, task="score")
    job = bench.job_file("score", score, None, {"expert": 2, "pipeline": 2}, {"prefill_chunk": 7})
    trouble = bench.run(["mpirun", "-np", "4", bench.program, "--job", str(job)])
    if trouble:
        return trouble
    scores = [json.loads(line) for line in (job.parent / "out/results.jsonl").read_text().splitlines()]
    wrong = [o["id"] for o, s in zip(outputs, scores) if s["logprobs"][-len(o["logprobs"]):] != o["logprobs"]]
    return f"generated and scored logprobs differ for {wrong}" if wrong else None


def run_all(bench, combinations):
    failed = 0
    start = time.monotonic()
    for number, c in enumerate(combinations, 1):
        trouble = bench.check(c)
        bench.counts.update(np=1, **{f"np {c['np']}": 1})
        if trouble:
            failed += 1
            print(f"FAILED: {Path(__file__).name} --only '{json.dumps(c)}'\n{trouble}", flush=True)
        elif number % 20 == 0:
            print(f"{number} combinations, {failed} failed, {time.monotonic() - start:.0f} s", flush=True)
    print(f"{bench.counts.pop('np', 0)} combinations, {failed} failed, {time.monotonic() - start:.0f} s;",
          f"{bench.preempting} with preemption;",
          ", ".join(f"{key}: {count}" for key, count in sorted(bench.counts.items(), key=lambda i: int(i[0][3:]))))
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--soak", type=int, metavar="N", help="run N random combinations")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", metavar="JSON", help="run this combination and keep its folder")
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="layouts-", dir=os.getcwd()))
    bench = Bench(work)
    if options.only:
        trouble = bench.check(json.loads(options.only))
        print(trouble or "the same bytes", f"\nfolder: {work}")
        sys.exit(1 if trouble else 0)
    if options.soak:
        draw = random.Random(options.seed)
        failed = run_all(bench, (random_combination(bench, draw) for _ in range(options.soak)))
    else:
        failed = run_all(bench, [combination(*chosen) for chosen in CHOSEN])
        assert bench.preempting == 2, "the two jobs that are to be short of pages have enough"
        trouble = check_score_of_generated(bench)
        if trouble:
            failed += 1
            print("FAILED: score of what was generated:", trouble)
    if not failed:
        shutil.rmtree(work)
    sys.exit(1 if failed else 0)


main()
