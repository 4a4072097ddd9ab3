"""Writes the seeds: small inputs of every kind that the fuzz targets begin with. `found-*` files beside them come from
fuzzing and are kept by hand. Run it again after a change of a format: python3 tests/fuzz/make_seeds.py"""

import gzip
import io
import json
import struct
from pathlib import Path

import h5py
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
SEEDS = ROOT / "tests/fuzz/seeds"


def write(target, name, *parts):
    """Several parts have zero bytes between them, as the target's first lines say."""
    data = b"\0".join(part if isinstance(part, bytes) else part.encode() for part in parts)
    (SEEDS / target).mkdir(parents=True, exist_ok=True)
    (SEEDS / target / name).write_bytes(data)


def compact(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def safetensors():
    def tensor(dtype, shape, begin, end):
        return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    two = {"__metadata__": {"format": "pt"}, "a.weight": tensor("F32", [2, 3], 0, 24),
           "b": tensor("BF16", [4], 24, 32), "scalar": tensor("U8", [], 32, 33), "none": tensor("F16", [0, 5], 33, 33)}
    write("safetensors", "two", compact(two), "33")
    write("safetensors", "fp8", compact({"w": tensor("F8_E4M3", [4, 4], 0, 16), "s": tensor("F32", [1], 16, 20)}), "20")
    write("safetensors", "empty", "{}", "0")
    raw = compact({"x": tensor("I64", [1], 0, 8)}).encode()
    write("safetensors", "raw", b"", struct.pack("<Q", len(raw)) + raw + bytes(8))
    write("safetensors_index", "index", compact({"metadata": {"total_size": 37}, "weight_map": {
        "x": "a.safetensors", "y": "a.safetensors", "z": "b.safetensors"}}))
    write("safetensors_index", "missing", compact({"weight_map": {"x": "b.safetensors", "q": "c.safetensors"}}))


def model_config():
    for folder in ["nemotron-h-4b", "nemotron-h-56b", "nemotron-3-nano-30b-a3b", "nemotron-ultra-253b",
                   "nemotron-3-super-120b-a12b"]:
        config = json.loads((ROOT / "configs/models" / folder / "config.json").read_text())
        write("model_config", folder, json.dumps(config, separators=(",", ":")))
    for name in ["all_kinds", "puzzle", "latent"]:
        write("model_config", name, (ROOT / "tests/golden/models" / name / "config.json").read_text())


def job_config():
    for name in ["quickstart", "score-example", "super-120b-16-ranks"]:
        write("job_config", name, (ROOT / f"configs/jobs/{name}.yaml").read_text())
    write("job_config", "all_keys", """name: psalms
task: generate
model: {path: ../m, dtype: float32}
parallel: {pipeline: auto, expert: 2, replicas: 1, threads: auto}
input: {path: [a.jsonl, "b*.jsonl.gz"]}
output: {path: out/, formats: [jsonl, hdf5]}
sampling: {max_tokens: 256, temperature: 1.0, top_p: 0.9, top_k: 5, min_p: 0.0, n: 2, seed: 7, stop: ["x", 'y'],
  ignore_eos: false, logprobs: 3}
engine: {max_sequences: 8, max_batch_tokens: 64, prefill_chunk: 16}
limits: {max_time: 1h30m, memory: 2GiB}
""", "sampling.seed=3", "output.formats=[jsonl]")
    write("job_config", "anchor", "model: &a {path: x}\ninput: *a\n")
    write("job_config", "tag", "name: !!str x\n")
    write("job_config", "documents", "name: x\n---\nname: \"y\\n\"\n", "--", "sampling.stop=[a, 'b']")


def byte_spellings():
    """The letters that stand for the 256 bytes in byte-level BPE."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    letters = {byte: chr(byte) for byte in plain} | {byte: chr(256 + i) for i, byte in enumerate(others)}
    return [letters[byte] for byte in range(256)]


def tokenizer_json(vocab, merges, **changes):
    split = {"type": "Split", "pattern": {"Regex": r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|\s+(?!\S)|\s+"},
             "behavior": "Isolated", "invert": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    special = {"id": len(vocab), "content": "<s>", "single_word": False, "lstrip": False, "rstrip": True,
               "normalized": False, "special": True}
    post = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                                                     {"Sequence": {"id": "A", "type_id": 0}}], "pair": [],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [len(vocab)], "tokens": ["<s>"]}}}
    return compact({"version": "1.0", "added_tokens": [special], "normalizer": None,
                    "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
                    "post_processor": post, "decoder": {"type": "ByteLevel"},
                    "model": {"type": "BPE", "dropout": None, "unk_token": None, "fuse_unk": False,
                              "byte_fallback": False, "ignore_merges": False, "vocab": vocab, "merges": merges},
                    **changes})


def tokenizer():
    whole = {letter: i for i, letter in enumerate(byte_spellings())} | {"ab": 256, "abc": 257, "Ġt": 258, "é": 233}
    write("tokenizer", "bytes", tokenizer_json(whole, [["a", "b"], ["ab", "c"], ["Ġ", "t"]]),
          "<s>abc the été 12345\n\n  x")
    small = {"a": 0, "b": 1, "ab": 2, "?": 3}
    model = {"type": "BPE", "unk_token": "?", "fuse_unk": True, "ignore_merges": True, "vocab": small, "merges": ["a b"]}
    removed = {"type": "Split", "pattern": {"String": " "}, "behavior": "Removed", "invert": False}
    sequence = {"type": "Sequence", "pretokenizers": [removed, {"type": "ByteLevel", "add_prefix_space": True}]}
    words = [{"id": 4, "content": "word", "single_word": True, "lstrip": True, "rstrip": True, "normalized": True}]
    write("tokenizer", "small", tokenizer_json(small, [], model=model, pre_tokenizer=sequence, post_processor=None,
                                               added_tokens=words, decoder={"type": "Sequence", "decoders": [
                                                   {"type": "ByteLevel"}]}), "ab abab word xyz" + "ab" * 40)
    lookaround = {"type": "Split", "behavior": "Isolated",
                  "pattern": {"Regex": r"(?i:'s|'t)|(?<!\s)[[a-z]&&[^b]]++|\p{Han}{1,2}?|(?>x+)|[\x{41}-\u005a]|(?=b)"}}
    write("tokenizer", "regex", tokenizer_json(small, [["a", "b"]], post_processor=None, added_tokens=[], pre_tokenizer={
        "type": "Sequence", "pretokenizers": [lookaround, {"type": "ByteLevel", "use_regex": True}]}), "abba")


def chats():
    token = {"content": "</s>", "lstrip": False, "special": True}
    write("tokenizer_config", "text", compact({"bos_token": "<s>", "eos_token": token, "chat_template": "{{ messages }}"}))
    write("tokenizer_config", "list", compact({"chat_template": [{"name": "default", "template": "a"},
                                                                 {"name": "tool_use", "template": "b"}]}))
    write("tokenizer_config", "files", "{}", "{{ strftime_now('%Y') }}", "tool_use", "{{ tools }}")
    messages = compact([{"role": "user", "content": "Hi é"}, {"role": "assistant", "content": [
        {"type": "text", "text": "a"}], "tool_calls": [{"id": "1", "type": "function", "function": {
            "name": "f", "arguments": "{\"x\":1}"}}]}])
    tools = compact([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}])
    write("chat_template", "plain", messages, tools, compact({"enable_thinking": False}), "")
    own = "{%- for m in messages if m.role != 'x' -%}{{ m.content | trim }}{% generation %}{{ loop.index }}" \
          "{% endgeneration %}{%- endfor -%}{% set ns = namespace(a=1) %}{{ raise_exception('no') if ns.a > 1 }}"
    write("chat_template", "own_template", messages, "", "", own)
    write("chat_template", "escape", "[{}]", "null", "{}", "{{ ''.__class__.__mro__ }}{{ cycler.__init__.__globals__ }}")


LINES = {
    "prompt": {"id": "a", "prompt": "ab c", "max_tokens": 5, "temperature": 0.5, "stop": ["x"], "extra": {"k": [1, None]}},
    "ids": {"id": 7, "token_ids": [0, 1, 257], "n": 2, "logprobs": 3, "seed": 1, "ignore_eos": True, "min_p": 0.1},
    "messages": {"messages": [{"role": "user", "content": "hi"}], "tools": [{"type": "function"}],
                 "chat_template_kwargs": {"a": 1}, "add_generation_prompt": False},
    "score": {"context": "ab ", "continuation": " c", "label": "é\u0000\\"},
    "text": {"text": "abcabc"},
    "chat_batch": {"custom_id": "r1", "method": "POST", "url": "/v1/chat/completions", "body": {
        "model": "m", "messages": [{"role": "system", "content": [{"type": "text", "text": "x"}]}], "top_logprobs": 2,
        "logprobs": True, "max_completion_tokens": 3, "stop": "y", "metadata": {"a": "b"}}},
    "completion_batch": {"custom_id": "r2", "method": "POST", "url": "/v1/completions", "body": {
        "model": "m", "prompt": ["ab"], "max_tokens": 3, "echo": False, "logprobs": 2, "best_of": 1, "suffix": None}},
}


def input_lines():
    for name, line in LINES.items():
        write("input_line", name, compact(line))
    write("input_line", "spaces", ' { "prompt" : "\\u00e9\\ud83d\\ude00" , "x" : 1.5e3 } ')
    lines = "\n".join(compact(line) for line in LINES.values()).encode() + b"\r\n\n{\"prompt\":\xff}\n[1]\n"
    write("input_jsonl", "plain", lines)
    write("input_jsonl", "gzip", gzip.compress(lines, mtime=0))
    write("input_jsonl", "two_members", gzip.compress(b"\xef\xbb\xbf{\"prompt\":\"a\"}\n", mtime=0)
          + gzip.compress(b"{\"text\":\"ab\"}", mtime=0))
    write("input_jsonl", "cut_off", gzip.compress(lines, mtime=0)[:-20])


# The byte forms of lib/request/serialize.cpp and dist/schedule/step_message.cpp.
def text(value):
    return struct.pack("<I", len(value)) + value.encode()


def array(form, values):
    return struct.pack(f"<I{len(values)}{form}", len(values), *values)


def sampling():
    return (struct.pack("<qqddqdqQddd", 5, 0, 1.0, 0.9, 3, 0.0, 2, 7, 1.0, 0.0, 0.0) + struct.pack("<I", 1) + text("x")
            + array("i", [2]) + b"\0" + struct.pack("<q", 2))


def output():
    top = struct.pack("<II", 1, 1) + struct.pack("<if", 65, -0.5)
    return text("A") + array("i", [65]) + array("f", [-0.5]) + top + text("stop")


def record(index):
    return (b"R\x01" + struct.pack("<q", index) + text("id") + b"\0\0" + struct.pack("<q", 3) + struct.pack("<I", 1)
            + output() + b"\0" + b"\0" + text("{\"a\":1}"))


def error_record(index):
    score = b"\x01" + struct.pack("<d", -1.5) + b"\x01" + array("i", [1]) + array("f", [-1.5])
    return (b"R\x01" + struct.pack("<q", index) + text("") + b"\x01\x01" + struct.pack("<q", 0) + struct.pack("<I", 0)
            + score + b"\x01" + text("malformed_line") + text("why") + text(""))


def rank_messages():
    write("rank_message", "request", b"Q\x01" + struct.pack("<q", 4) + text("id") + b"\0\x01" + array("i", [1, 2])
          + array("i", []) + sampling() + text("{}") + struct.pack("<I", 1) + output())
    write("rank_message", "record", record(1))
    write("rank_message", "error", error_record(2))
    write("rank_message", "progress", b"P\x01" + struct.pack("<qq", 1, 0) + output())
    key = b"\x01" + sampling() + struct.pack("<Qqq", 9, 0, 2) + array("i", [2])
    first = struct.pack("<iq", 0, 0) + array("i", [5, 6]) + array("i", [3]) + b"\0" + key + b"\x01" + array("i", [])
    fork_of = struct.pack("<Bi", 1, 0)
    fork = struct.pack("<iq", 2, 1) + array("i", [6]) + array("i", [4]) + fork_of + key + b"\x01" + array("i", [])
    later = struct.pack("<iq", 1, 9) + array("i", [7]) + array("i", []) + b"\0\0\0" + array("i", [-1])
    write("rank_message", "step", b"M\x02" + struct.pack("<q", 12) + b"\0" + struct.pack("<I", 3) + first + fork + later)
    write("rank_message", "stop", b"M\x02" + struct.pack("<q", 13) + b"\x01" + struct.pack("<I", 0))
    sampled = b"\x01" + struct.pack("<if", 8, -0.25) + struct.pack("<I", 1) + struct.pack("<if", 8, -0.25)
    answer = struct.pack("<i", 0) + sampled + array("f", [-1.0]) + array("B", [1])
    write("rank_message", "answer", b"A\x02" + struct.pack("<q", 12) + struct.pack("<I", 1) + answer)
    write("rank_message", "dispatch", b"D\x02" + struct.pack("<ii", 2, 3) + struct.pack("<ii", 1, 2)
          + struct.pack("<iii", 0, 1, 2) + struct.pack("<fff", 0.5, 0.25, 0.25) + struct.pack("<ffff", 1, 2, 3, 4))


def journal():
    identity = (compact({"identity": [["job", "x"], ["model", "y"]], "segment": 1}) + "\n").encode()
    header = b"NEMOJRNL" + struct.pack("<IIQ", 1, len(identity), 0) + identity

    def entry(kind, sample, index, traits, payload):
        return b"NREC" + struct.pack("<IIIqQqQQ", len(payload), kind, sample, index, traits, 0, 0, 0) + payload

    records = entry(1, 0, 0, 1 << 32 | 1, record(0)) + entry(2, 1, 3, 0, record(3)) + entry(3, 0, 0, 0, bytes(16))
    write("journal", "three_kinds", b"C" + header + records + entry(1, 0, 2, 1 << 35, error_record(2)))
    write("journal", "torn", b"C" + header + records[:-20])
    write("journal", "header", b"C" + header)
    write("journal", "raw", b" " + header + records)


def pack():
    about = {"schema": "nemo-dist pack", "version": 1, "dtype": "bfloat16", "layout": "00", "checkpoint": "11",
             "tokenizer": "22", "files": {"config.json": "{}", "tokenizer.json": "{}"}, "tensors": {
                 "layers.0.norm.weight": {"form": "float32", "checksums": [2**64 - 1], "scales": [1.0]},
                 "layers.0.mixer.experts.up_proj": {"form": "packed nvfp4", "checksums": [1, 2], "scales": [0.5, 0.25]}}}
    write("pack", "about", compact(about))
    write("pack", "version", compact(about | {"version": 2}))
    write("pack", "no_tensors", compact({key: value for key, value in about.items() if key != "tensors"}))
    with io.BytesIO() as memory:
        with h5py.File(memory, "w", libver=("v110", "v110")) as file:
            text = b"0000000000000000\n" + compact(about).encode()
            file["about"] = np.frombuffer(text, np.uint8).reshape(1, -1)
            file["tensors/layers.0.norm.weight"] = np.zeros((1, 16), np.uint8)
        write("pack", "wrong_checksum", b"", memory.getvalue())


for make in [safetensors, model_config, job_config, tokenizer, chats, input_lines, rank_messages, journal, pack]:
    make()
