"""Two more small tokenizers, a corpus of hard strings, and the ids that the `tokenizers` library gives for each."""

import gzip
import json
import random
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, processors

import corpus
import nasty_strings
from tokenizer_files import PATTERN_A, PATTERN_B, SPECIAL, byte_level_bpe

WHOLE_WORDS = ["Ġgentleman", "Ġwheresoever", "Ġlantern", "Nebuchadnezzar", "Ġ12", "ĠXMLHttpRequest", "....", "Ġæĸĩ", "zzzz", "ĠĠĠĠĠĠĠĠ"]


def write_lines(path, values):
    """JSON values, one a line, in a gzip file without a date."""
    text = "".join(json.dumps(v, separators=(",", ":")) + "\n" for v in values)
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as out:
        out.write(text.encode("ascii"))


def training_text():
    chapters, _, entries, _ = corpus.split()
    yield from nasty_strings.strings(seed=8)
    for chapter in chapters[::12]:
        yield chapter.text
    for entry in entries[::12]:
        yield entry.answer


def whole_words(folder):
    """Pattern (a), <s> in front, ignore_merges, and words in the vocabulary that no merge leads to."""
    tokenizer = byte_level_bpe(PATTERN_A, training_text(), 1600, ignore_merges=True)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    raw = json.loads(tokenizer.to_str())
    vocabulary = raw["model"]["vocab"]
    for word in WHOLE_WORDS:
        vocabulary.setdefault(word, len(vocabulary))
    (folder / "whole_words.json").write_text(json.dumps(raw, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")


def threes(folder):
    """Pattern (b), with one added token that is not special."""
    tokenizer = byte_level_bpe(PATTERN_B, training_text(), 1500)
    tokenizer.add_tokens([AddedToken("<extra>", special=False, normalized=False)])
    raw = json.loads(tokenizer.to_str())
    raw["model"]["merges"] = [" ".join(m) for m in raw["model"]["merges"]]      # the older spelling of merges
    (folder / "threes.json").write_text(json.dumps(raw, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")


def cut(tokenizer, encoded, rng):
    """Decoding of pieces of id lists: they may begin or end inside a character."""
    out = []
    for _ in range(400):
        ids = rng.choice(encoded)
        if len(ids) < 3:
            continue
        first = rng.randrange(len(ids) - 1)
        part = ids[first:first + rng.randint(1, 24)]
        skip = rng.random() < 0.5
        out.append({"ids": part, "skip_special_tokens": skip, "text": tokenizer.decode(part, skip_special_tokens=skip)})
    return out


def make(out, checkpoint):
    folder = Path(out) / "tokenizer"
    folder.mkdir(parents=True, exist_ok=True)
    whole_words(folder)
    threes(folder)
    strings = nasty_strings.strings() + ["a<extra>b", " <extra> ", "<extra><s>"]
    write_lines(folder / "strings.jsonl.gz", strings)
    files = {"checkpoint": Path(checkpoint) / "tokenizer.json", "whole_words": folder / "whole_words.json", "threes": folder / "threes.json"}
    for name, file in files.items():
        tokenizer = Tokenizer.from_file(str(file))
        encoded = [e.ids for e in tokenizer.encode_batch(strings)]
        same = sum(tokenizer.decode(ids, skip_special_tokens=False).removeprefix("<s>" if name == "whole_words" else "") == s
                   for ids, s in zip(encoded, strings))
        write_lines(folder / f"{name}.ids.jsonl.gz", encoded)
        write_lines(folder / f"{name}.decoded.jsonl.gz", cut(tokenizer, encoded, random.Random(9)))
        print(f"{name}: {len(strings)} strings, {sum(map(len, encoded))} ids, {same} come back unchanged")
