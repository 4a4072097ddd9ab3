"""What layouts_test.py runs: model folders, inputs and jobs, made in a work folder from fixed seeds."""
import json
import random
import shutil
import struct
from pathlib import Path

GOLDEN = {"dense": 0, "moe": 8, "latent": 16, "grouped": 16, "no_norm": 8, "puzzle": 8, "all_kinds": 8}  # experts
GOLDEN_VOCABULARY = 96
SHORT_CONTEXT = 256  # of the trained checkpoint, cut so that texts are longer than it and lanes run out of pages


class Workload:
    """One job without its layout."""

    def __init__(self, name, model, lines, task="generate", dtype="float32", sampling=None, engine=None):
        self.name, self.model, self.lines = name, model, lines
        self.task, self.dtype, self.sampling, self.engine = task, dtype, sampling or {}, engine or {}


def toy_tokenizer():
    """A byte-level BPE without merges whose ids fit the small models: three added tokens, then ASCII."""
    vocabulary = {chr(33 + i): 3 + i for i in range(GOLDEN_VOCABULARY - 3)}
    added = [{"id": i, "content": text, "special": True, "normalized": False, "single_word": False, "lstrip": False,
              "rstrip": False} for i, text in enumerate(["<unk>", "<s>", "</s>"])]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    vocabulary.update({token["content"]: token["id"] for token in added})
    return {"added_tokens": added, "normalizer": None, "pre_tokenizer": byte_level, "post_processor": None,
            "decoder": {"type": "ByteLevel"}, "model": {"type": "BPE", "vocab": vocabulary, "merges": []}}


def link_all(source, folder, without=()):
    for file in sorted(source.iterdir()):
        if file.name not in without and not file.name.startswith("golden"):
            (folder / file.name).symlink_to(file)


def add_kv_scales(checkpoint, folder):
    """The checkpoint with scales of an FP8 KV cache, in a file of their own; different ones in every layer."""
    folder.mkdir()
    link_all(checkpoint, folder, without={"model.safetensors"})
    (folder / "weights.safetensors").symlink_to(checkpoint / "model.safetensors")
    with open(checkpoint / "model.safetensors", "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    files = {name: "weights.safetensors" for name in header if name != "__metadata__"}
    keys = sorted(name for name in files if name.endswith(".k_proj.weight"))
    names = [key.replace("k_proj.weight", scale) for key in keys for scale in ("k_proj.k_scale", "v_proj.v_scale")]
    files.update({name: "kv_scales.safetensors" for name in names})
    entries = {name: {"dtype": "F32", "shape": [], "data_offsets": [4 * i, 4 * i + 4]} for i, name in enumerate(names)}
    text = json.dumps(entries).encode()
    values = b"".join(struct.pack("<f", 0.013 + 0.002 * i) for i in range(len(names)))
    (folder / "kv_scales.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + values)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))


def make_models(source, work):
    """{name: (folder, layers, routed experts)}. Links to one copy of the weights: the oracle's answers are kept for hours in
    a soak, and somebody may put another checkpoint into the source tree meanwhile."""
    checkpoint = work / "models/kjv"
    shutil.copytree(source / "configs/checkpoints/kjv-wordnet-7m", checkpoint)
    models = {"kjv": (checkpoint, 14, 64)}
    short = work / "models/kjv_short"
    short.mkdir()
    link_all(checkpoint, short, without={"config.json"})
    config = json.loads((checkpoint / "config.json").read_text())
    config["max_position_embeddings"] = SHORT_CONTEXT
    (short / "config.json").write_text(json.dumps(config))
    models["kjv_short"] = (short, 14, 64)
    add_kv_scales(checkpoint, work / "models/kjv_kv_scales")
    models["kjv_kv_scales"] = (work / "models/kjv_kv_scales", 14, 64)
    for name, experts in GOLDEN.items():
        folder = work / "models" / name
        folder.mkdir()
        link_all(source / "tests/golden/models" / name, folder)
        (folder / "tokenizer.json").write_text(json.dumps(toy_tokenizer()))
        config = json.loads((folder / "config.json").read_text())
        layers = len(config.get("hybrid_override_pattern") or config["block_configs"])
        models[name] = (folder, layers, experts)
    return models


def random_ids(draw, count):
    return [draw.randrange(3, GOLDEN_VOCABULARY) for _ in range(count)]


def quickstart(source):
    return [json.loads(line) for line in (source / "configs/jobs/quickstart.jsonl").read_text().splitlines()]


def long_text(source, words):
    text = (source / "tests/golden/heldout/documents.jsonl").read_text().splitlines()
    return " ".join(" ".join(json.loads(line)["continuation"] for line in text[:12]).split()[:words])


def draw_lines(source):
    """Chats and texts; every line has sampling keys of its own."""
    draw = random.Random(11)
    lines = quickstart(source)[8:24:2]
    for line in lines:
        line["max_tokens"] = draw.randrange(1, 28)
        if draw.random() < 0.4:
            line["n"] = 3
        if draw.random() < 0.3:
            line["temperature"] = 0
        line["topic"] = {"any": ["field", draw.randrange(9)]}
    return lines


def score_lines(source):
    lines = [json.loads(line) for line in (source / "configs/jobs/score-example.jsonl").read_text().splitlines()]
    lines += [{"id": f"long/{words}", "text": long_text(source, words)} for words in (40, 170, 400)]
    lines.append({"id": "long context", "context": long_text(source, 150), "continuation": long_text(source, 90)})
    context = long_text(source, 60)  # choices, whose lane computes it once
    lines += [{"id": f"choice/{i}", "context": context, "continuation": f" {word} of it"}
              for i, word in enumerate(["part", "all", "none", "some"])]
    lines.append({"id": "nothing", "context": "The LORD is", "continuation": ""})
    return lines


def pressure_lines(source):
    """Prompts of a few up to almost all tokens of the context, one beyond it, and one that is no JSON."""
    lines = [{"id": f"words/{words}", "prompt": long_text(source, words), "max_tokens": 250 - words}
             for words in (1, 3, 20, 60, 90, 5, 120, 30, 2)]
    lines.insert(4, {"id": "too long", "prompt": long_text(source, 400)})
    return lines + [{"id": "empty", "prompt": ""}, {"id": "neither"}]


def golden_workloads():
    workloads = []
    for number, name in enumerate(GOLDEN):
        draw = random.Random(100 + number)
        lines = [{"id": f"{name}/{i}", "token_ids": random_ids(draw, draw.choice([1, 2, 5, 17, 64, 65, 90])),
                  "max_tokens": draw.randrange(1, 30)} for i in range(9)]
        dtype = ["float32", "bfloat16"][number % 2]
        other = ["bfloat16", "float32"][number % 2]
        workloads.append(Workload(f"{name}-draw", name, lines, dtype=dtype, sampling={"seed": 5, "logprobs": 2}))
        workloads.append(Workload(f"{name}-greedy", name, lines[:3], dtype=other,
                                  sampling={"temperature": 0, "ignore_eos": True}))
        workloads.append(Workload(f"{name}-score", name,
                                  [{"id": line["id"], "token_ids": line["token_ids"] + [7, 9]} for line in lines],
                                  task="score", dtype=other))
    return workloads


def make_workloads(source):
    plain = quickstart(source)
    penalties = {"temperature": 1.1, "min_p": 0.02, "repetition_penalty": 1.3, "frequency_penalty": 0.2,
                 "presence_penalty": 0.1, "stop": [" and", "."], "min_tokens": 3, "max_tokens": 40, "seed": 3,
                 "n": 2}
    draws = {"temperature": 0.8, "top_p": 0.9, "top_k": 50, "n": 2, "seed": 7, "logprobs": 3}
    workloads = [
        Workload("verses", "kjv", plain[:10], sampling={"temperature": 0, "max_tokens": 24, "logprobs": 1}),
        Workload("draws", "kjv", draw_lines(source), dtype="bfloat16", sampling=draws),
        Workload("penalties", "kjv", plain[3:9] + plain[-3:], sampling=penalties),
        Workload("few", "kjv", plain[5:7], dtype="bfloat16", sampling={"max_tokens": 30, "logprobs": 1}),
        Workload("one", "kjv", plain[-1:], sampling={"max_tokens": 12, "n": 3}),
        Workload("fp8_kv", "kjv_kv_scales", plain[2:8] + [{"id": "long", "prompt": long_text(source, 300)}],
                 dtype="bfloat16", sampling={"max_tokens": 20, "logprobs": 1, "seed": 6},
                 engine={"kv_cache_dtype": "fp8"}),
        Workload("score", "kjv_short", score_lines(source), task="score", dtype="bfloat16"),
        Workload("score32", "kjv_short", score_lines(source), task="score", dtype="float32"),
        Workload("pressure", "kjv_short", pressure_lines(source), dtype="bfloat16",
                 sampling={"ignore_eos": True, "max_tokens": 200, "seed": 2}),
        Workload("pressure32", "kjv_short", pressure_lines(source), dtype="float32",
                 sampling={"ignore_eos": True, "max_tokens": 90, "temperature": 0, "logprobs": 1}),
    ]
    return {workload.name: workload for workload in workloads + golden_workloads()}
