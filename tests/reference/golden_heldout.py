"""The trained checkpoint on text it has not seen: scores of whole documents and greedy continuations.

tests/golden/heldout/documents.jsonl is itself the input of a `score` job. A document's score is the sum of -ln p over the tokens of
its continuation, given its context and the tokens before. Context and continuation are encoded separately, as written;
each document is scored from its own start in one forward pass.
"""

import gzip
import json
import lzma
import math
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer
from transformers import AutoTokenizer

import corpus
import reference

CHATS = 80
PROMPTS = ["Genesis 1\n1 In the beginning", "Psalms 23\n1 The LORD is my shepherd;", "And it came to pass", "12 And he said unto them,",
           "Romans 12\n1 I beseech you therefore, brethren,"]
QUESTIONS = ["What is a lantern?", "What does it mean to sing?", "Define harbor."]


def documents(tokenizer):
    _, chapters, _, entries = corpus.split()
    out = []
    for chapter in chapters:
        for i, text in enumerate(corpus.pieces(chapter)):
            out.append({"id": f"{chapter.heading}, part {i + 1}", "context": "<s>", "continuation": text})
    for entry in entries[::len(entries) // CHATS][:CHATS]:
        context = tokenizer.apply_chat_template([{"role": "user", "content": entry.question}], tokenize=False,
                                                add_generation_prompt=True, enable_thinking=False)
        out.append({"id": f"{entry.lemma}, {entry.part}", "context": context, "continuation": entry.answer + "<|im_end|>"})
    return out


@torch.no_grad()
def score(model, context, continuation):
    ids = context + continuation
    lines = reference.logits(model, ids[:-1])[len(context) - 1:].log_softmax(-1)
    return -lines.gather(1, torch.tensor(continuation)[:, None]).double().sum().item()


def count_choices(model):
    """One tensor a MoE layer, which fills with how often each expert is chosen."""
    counts = []
    for layer in model.model.layers:
        if hasattr(layer.mixer, "gate"):
            count = torch.zeros(layer.mixer.gate.num_experts, dtype=torch.long)

            def add(_, __, out, count=count):
                count.add_(torch.bincount(out[2].flatten(), minlength=len(count)))

            layer.mixer.gate.register_forward_hook(add)
            counts.append(count)
    return counts


def compressed(held_out):
    """Bits per byte of general compressors on the held-out chapters, alone and after the training chapters."""
    train = "".join(c.text for c in corpus.split()[0]).encode()
    both = train + held_out
    strongest = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 1 << 26}]
    size = {"gzip -9": lambda b: len(gzip.compress(b, 9, mtime=0)), "xz -9e": lambda b: len(lzma.compress(b, lzma.FORMAT_XZ, filters=strongest))}
    out = {}
    for name, of in size.items():
        out[name] = round(8 * of(held_out) / len(held_out), 4)
        out[name + ", after the training chapters"] = round(8 * (of(both) - of(train)) / len(held_out), 4)
    return out


def make(out, checkpoint):
    folder = Path(out) / "heldout"
    folder.mkdir(parents=True, exist_ok=True)
    plain, chat = Tokenizer.from_file(str(Path(checkpoint) / "tokenizer.json")), AutoTokenizer.from_pretrained(checkpoint)
    cases = documents(chat)
    (folder / "documents.jsonl").write_text("".join(json.dumps(d, ensure_ascii=False) + "\n" for d in cases), encoding="utf-8")

    rows = [{"id": d["id"], "bytes": len(d["continuation"].encode())} for d in cases]
    models = {"float32": reference.build(checkpoint), "bfloat16": reference.build(checkpoint, torch.bfloat16)}
    counts = count_choices(models["float32"])
    for row, case in zip(rows, cases):
        context, continuation = (plain.encode(case[k]).ids for k in ("context", "continuation"))
        assert len(context) + len(continuation) <= 1024
        row["tokens"] = len(continuation)
        for name, model in models.items():
            row[f"nats_{name}"] = score(model, context, continuation)
    shares = [count / count.sum() * len(count) for count in counts]         # 1 is even load
    verses = len(cases) - CHATS
    totals = {}
    for kind, part in (("chapters", rows[:verses]), ("chats", rows[verses:]), ("all", rows)):
        total = {k: sum(r[k] for r in part) for k in rows[0] if k != "id"} | {"documents": len(part)}
        for name in models:
            total[f"bits_per_byte_{name}"] = total[f"nats_{name}"] / math.log(2) / total["bytes"]
        totals[kind] = total
    text = "".join(d["continuation"] for d in cases[:verses]).encode()
    usage = [{"least": round(s.min().item(), 3), "most": round(s.max().item(), 3)} for s in shares]
    expected = {"transformers": transformers.__version__, "torch": torch.__version__, "totals": totals,
                "expert_share_of_even_load_by_layer": usage,
                "bits_per_byte_of_compressors": compressed(text)}
    body = json.dumps(expected, indent=1)[:-2] + ',\n "documents": [\n  ' + ",\n  ".join(json.dumps(r) for r in rows) + "\n ]\n}\n"
    (folder / "expected.json").write_text(body)
    print(json.dumps(expected, indent=1))

    greedy = []
    for prompt in PROMPTS + QUESTIONS:
        case = {"prompt": prompt}
        if prompt in QUESTIONS:
            case = {"messages": [{"role": "user", "content": prompt}]}
            prompt = chat.apply_chat_template(case["messages"], tokenize=False, add_generation_prompt=True)
        ids = plain.encode(prompt).ids
        tokens, lead = reference.greedy(models["float32"], ids, 64)
        case |= {"prompt_token_ids": ids, "token_ids": tokens, "text": plain.decode(tokens, skip_special_tokens=False), "smallest_lead": lead}
        greedy.append(case)
        print(repr(prompt[-40:]), "->", repr(case["text"]))
    (folder / "greedy.json").write_text("[\n " + ",\n ".join(json.dumps(c, ensure_ascii=False) for c in greedy) + "\n]\n", encoding="utf-8")
