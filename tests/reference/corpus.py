"""The training text of the small checkpoint: the King James Bible and WordNet's glosses.

Both come from Debian packages (bible-kjv, bible-kjv-text, wordnet-base). What is held out is
decided by a fixed rule, so that the split can be rebuilt anywhere:

  chapters  counting all 1,189 chapters from 0 in canonical order, those with index % 80 == 17
  words     those whose lemma has crc32 % 50 == 0 (in every part of speech)
"""

import random
import re
import subprocess
import zlib
from dataclasses import dataclass
from pathlib import Path

WORDNET = Path("/usr/share/wordnet")

BOOKS = """Genesis|Exodus|Leviticus|Numbers|Deuteronomy|Joshua|Judges|Ruth|1 Samuel|2 Samuel|1 Kings
2 Kings|1 Chronicles|2 Chronicles|Ezra|Nehemiah|Esther|Job|Psalms|Proverbs|Ecclesiastes
Song of Solomon|Isaiah|Jeremiah|Lamentations|Ezekiel|Daniel|Hosea|Joel|Amos|Obadiah|Jonah|Micah
Nahum|Habakkuk|Zephaniah|Haggai|Zechariah|Malachi|Matthew|Mark|Luke|John|Acts|Romans
1 Corinthians|2 Corinthians|Galatians|Ephesians|Philippians|Colossians|1 Thessalonians
2 Thessalonians|1 Timothy|2 Timothy|Titus|Philemon|Hebrews|James|1 Peter|2 Peter|1 John|2 John
3 John|Jude|Revelation""".replace("\n", "|").split("|")

PARTS = {"noun": "n", "verb": "v", "adj": "a", "adv": "r"}


@dataclass(frozen=True)
class Chapter:
    index: int
    heading: str        # "Genesis 1"
    verses: tuple       # "1 In the beginning ..."

    @property
    def text(self):
        return "\n".join((self.heading, *self.verses)) + "\n"

    @property
    def held_out(self):
        return self.index % 80 == 17


@dataclass(frozen=True)
class Entry:
    """One word with the gloss of its most frequent sense."""
    lemma: str
    part: str           # noun, verb, adj, adv
    gloss: str
    kind: str           # the first hypernym's first lemma, or ""

    @property
    def held_out(self):
        return zlib.crc32(self.lemma.encode()) % 50 == 0

    @property
    def question(self):
        if self.part == "noun":
            if self.lemma[0].isupper():
                return f"What is {self.lemma}?"
            return f"What is {'an' if self.lemma[0] in 'aeiou' else 'a'} {self.lemma}?"
        if self.part == "verb":
            return f"What does it mean to {self.lemma}?"
        return f"What does {self.lemma} mean?"

    @property
    def answer(self):
        return self.gloss[0].upper() + self.gloss[1:] + "."

    @property
    def reasoning(self):
        names = {"noun": "a noun", "verb": "a verb", "adj": "an adjective", "adv": "an adverb"}
        text = f"The word {self.lemma} is {names[self.part]}."
        if not self.kind:
            return text
        return text + (f" It is one way to {self.kind}." if self.part == "verb" else f" It is a kind of {self.kind}.")


def chapters():
    """All 1,189 chapters in canonical order, one verse a line."""
    run = subprocess.run(["bible", "-f", "gen1:1-rev22:21"], capture_output=True, check=True, text=True)
    grouped = {}
    for line in run.stdout.splitlines():
        reference, verse = line.split(" ", 1)
        name, number = re.fullmatch(r"(\d?[A-Za-z]+\d+):(\d+)", reference).groups()
        grouped.setdefault(name, []).append(f"{number} {verse.strip()}")
    abbreviations = list(dict.fromkeys(re.sub(r"\d+$", "", name) for name in grouped))
    assert len(abbreviations) == len(BOOKS) and len(grouped) == 1189
    full = dict(zip(abbreviations, BOOKS))
    out = []
    for index, (name, verses) in enumerate(grouped.items()):
        book, number = re.fullmatch(r"(\d?[A-Za-z]+?)(\d+)", name).groups()
        out.append(Chapter(index, f"{full[book]} {number}", tuple(verses)))
    return out


def _synsets(part):
    """offset -> (first lemma, offset of the first hypernym or None, gloss without examples)"""
    out = {}
    for line in (WORDNET / f"data.{part}").read_text(encoding="latin-1").splitlines():
        if line.startswith("  "):
            continue                                    # the licence at the head of the file
        data, gloss = line.split(" | ", 1)
        fields = data.split()
        words = int(fields[3], 16)
        pointers = fields[4 + 2 * words:]
        hypernym = None
        for i in range(int(pointers[0])):
            symbol, target = pointers[1 + 4 * i], pointers[2 + 4 * i]
            if symbol in ("@", "@i"):
                hypernym = target
                break
        lemma = re.sub(r"\((a|p|ip)\)$", "", fields[4]).replace("_", " ")
        gloss = re.split(r'; "|: "', gloss.strip())[0].strip(" ;:")
        out[fields[0]] = (lemma, hypernym, gloss)
    return out


def entries():
    """Words that WordNet's tagged corpora contain, each with its first sense."""
    out = []
    for part in PARTS:
        synsets = _synsets(part)
        for line in (WORDNET / f"index.{part}").read_text(encoding="latin-1").splitlines():
            if line.startswith("  "):
                continue
            fields = line.split()
            pointers = int(fields[3])
            tagged = int(fields[5 + pointers])
            first = fields[6 + pointers]
            name, hypernym, gloss = synsets[first]
            if tagged == 0 or not gloss or not gloss.isascii():
                continue
            lemma = fields[0].replace("_", " ")
            if name.lower() == lemma:
                lemma = name                            # keeps capitals: "Paris"
            kind = synsets[hypernym][0] if hypernym else ""
            out.append(Entry(lemma, part, gloss, kind))
    return out


SYSTEMS = ("", "", "", "You are a dictionary.", "Answer in one sentence.")


def messages_of(entry, rng):
    """A chat of one or two turns; a third of the answers think first."""
    chat = []
    system = rng.choice(SYSTEMS)
    if system:
        chat.append({"role": "system", "content": system})
    question = entry.question if rng.random() < 0.8 else f"Define {entry.lemma}."
    chat.append({"role": "user", "content": question})
    answer = {"role": "assistant", "content": entry.answer}
    if rng.random() < 0.4:
        answer["reasoning_content"] = entry.reasoning
    chat.append(answer)
    return chat


def split():
    """(training chapters, held-out chapters, training entries, held-out entries)"""
    verses, words = chapters(), entries()
    return ([c for c in verses if not c.held_out], [c for c in verses if c.held_out],
            [e for e in words if not e.held_out], [e for e in words if e.held_out])


def pieces(chapter, limit=3000):
    """A held-out chapter in documents of whole verses, each under its own heading."""
    out, current = [], [chapter.heading]
    for verse in chapter.verses:
        if len(current) > 1 and sum(len(v) + 1 for v in current) + len(verse) + 1 > limit:
            out.append("\n".join(current) + "\n")
            current = [chapter.heading]
        current.append(verse)
    return out + ["\n".join(current) + "\n"]


if __name__ == "__main__":
    train_chapters, held_chapters, train_entries, held_entries = split()
    print(len(train_chapters), [c.heading for c in held_chapters], len(train_entries), len(held_entries))
    print(sum(len(c.text) for c in train_chapters), sum(len(c.text) for c in held_chapters))
    rng = random.Random(0)
    for entry in rng.sample(train_entries, 12):
        print(messages_of(entry, rng), entry.reasoning)
