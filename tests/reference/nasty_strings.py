"""Strings that are hard on a tokenizer. Everything follows from the seed and from Python's Unicode tables.

Only code points assigned in Unicode 14 are used (and noncharacters and private ones, whose class never changes), so that
Unicode tables of different age agree about every string.
"""

import random
import unicodedata

import corpus

assert unicodedata.unidata_version == "14.0.0", "made with Python 3.11"

SCRIPTS = [(0x41, 0x5B), (0x61, 0x7B), (0xC0, 0x250), (0x250, 0x2B0), (0x370, 0x400), (0x400, 0x530), (0x531, 0x590),
           (0x5D0, 0x5EB), (0x600, 0x700), (0x700, 0x750), (0x780, 0x7B2), (0x7C0, 0x7FB), (0x900, 0x980), (0x980, 0xA00),
           (0xA00, 0xA80), (0xA80, 0xB00), (0xB80, 0xC00), (0xC00, 0xC80), (0xD00, 0xD80), (0xD80, 0xE00), (0xE00, 0xE5C),
           (0xE80, 0xEE0), (0xF00, 0xFDB), (0x1000, 0x10A0), (0x10A0, 0x1100), (0x1100, 0x1200), (0x1200, 0x139A),
           (0x13A0, 0x13FE), (0x1400, 0x1680), (0x1680, 0x169D), (0x16A0, 0x16F9), (0x1780, 0x17FA), (0x1800, 0x18AB),
           (0x1E00, 0x1F00), (0x1F00, 0x2000), (0x2C00, 0x2C60), (0x2D30, 0x2D80), (0x3040, 0x30A0), (0x30A0, 0x3100),
           (0x3105, 0x3130), (0x4E00, 0x9FFD), (0xA000, 0xA48D), (0xA4D0, 0xA640), (0xAC00, 0xD7A4), (0xF900, 0xFA6E),
           (0xFB50, 0xFE00), (0xFF00, 0xFFEF), (0x10000, 0x100FB), (0x10330, 0x1034B), (0x10400, 0x10450),
           (0x12000, 0x1239A), (0x13000, 0x1342F), (0x1D400, 0x1D800), (0x1E900, 0x1E960), (0x20000, 0x2A6E0)]
SYMBOLS = [(0x20A0, 0x20C1), (0x2100, 0x214F), (0x2190, 0x2400), (0x2500, 0x2700), (0x2700, 0x27C0), (0x2800, 0x2900),
           (0x1F300, 0x1F650), (0x1F680, 0x1F6D8), (0x1F900, 0x1FA54)]
SPACES = [" ", "  ", "\t", "\n", "\r", "\r\n", "\u00a0", "\u1680", "\u2002", "\u2003", "\u2009", "\u2028", "\u2029", "\u202f",
          "\u205f", "\u3000", "\v", "\f", "\x85", "\u200b", "\ufeff", "\x1c", "\x1f"]
ODD = ["\0", "\x01", "\x1b", "\x7f", "\x80", "\xad", "\u034f", "\u061c", "\u180e", "\u200c", "\u200d", "\u200e", "\u202a",
       "\u202e", "\u2060", "\u2066", "\ufe0e", "\ufe0f", "\ufeff", "\ufff9", "\ufffc", "\ufffd", "\ufffe", "\uffff", "\ue000",
       "\uf8ff", "\U0001fffe", "\U000e0001", "\U000e0061", "\U000f0000", "\U0010fffd", "\U0010ffff", "\ud7ff", "\ufdd0"]
MARKS = [chr(c) for c in range(0x300, 0x370)] + [chr(c) for c in (0x483, 0x591, 0x64B, 0x93C, 0x94D, 0xE31, 0x20D0, 0x20DD,
                                                                  0x20E3, 0x3099, 0xFE20, 0x1D165)]
DIGITS = ["0123456789", "٠١٢٣٤٥٦٧٨٩", "०१२३४५६७८९", "０１２３４５６７８９", "⁰¹²³⁴⁵⁶⁷⁸⁹", "ⅠⅡⅢⅳⅷⅫ", "½¼¾⅓⅛", "①②③⑩⑳", "〇一二三", "𝟎𝟏𝟐𝟗"]
EMOJI = ["👩‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "🇩🇪🇫🇷", "1️⃣", "❤️", "🤷🏿‍♀️", "🏴󠁧󠁢󠁳󠁣󠁴󠁿", "😀", "🧑‍🚀", "☺", "☺️", "🫠", "‼️", "©", "®️"]
CONTRACTIONS = ["don't", "DON'T", "I'll", "we've", "they're", "it's", "IT'S", "I'm", "he'd", "O'Reilly", "'tis", "y'all'd've",
                "rock'n'roll", "it\u2019s", "'\u017f", "x'\u017fy", "'S", "'Re", "'lL", "can't've", "''s", "'s's", "a's1", "1's", "'sa", " 's",
                "'ve'", "ma'am", "'dare", "'Toil", "'vest", "'render", "'llama"]
SPECIALS = ["<|im_start|>", "<|im_end|>", "<s>", "</s>", "<unk>", "<think>", "</think>", "<tool_call>", "</tool_call>", "[INST]",
            "[/INST]", "<tool_response>", "[TOOL_CALLS]", "<SPECIAL_18>", "<SPECIAL_31>"]
LOOKALIKES = ["<|im_start|", "|im_start|>", "<| im_end |>", "<|IM_END|>", "<|im_end|>>", "<<|im_end|>", "< s>", "<s", "</s", "<think", "<thinks>",
              "<SPECIAL_32>", "<SPECIAL_018>", "[INST", "[ INST ]", "<|im_start|><|im_start", "\u200b<s>", "<s\u0301>", "<|im_\u200dend|>", "＜s＞"]
CODE = ["def {a}({b}, *, {c}=None):\n    return {b} if {c} is None else {a}({c})  # {n}\n", "for (int {a} = 0; {a} < {n}; ++{a}) {{\n\t{b}[{a}] += {c};\r\n}}",
        "{{\"{a}\": [{n}, -{n}.5e-{n}, null], \"{b}\": {{\"{c}\": \"\\u00e9\\n\"}}}}", "<div class=\"{a}-{b}\" id='{c}'>{n}&nbsp;</div>", "SELECT {a}.{b} FROM {c} WHERE {a}.id >= {n};--",
        "$ {a} --{b}={n} ~/{c}/*.txt | grep -E '^[{a}]+$' >> /dev/null 2>&1\n", "template <typename {a}> auto& operator<<({a}&& {b}, const {c}<{n}>&);",
        "https://{a}.example/{b}/{c}?q={n}&r=%20#{a}", "/{a}/{b}//{c}/\n\n/", "\\begin{{{a}}} ${b}_{{{n}}}^{{{c}}}$ \\\\\n", "{a}::{b}->{c}[{n}]!=~{n}", "#!/bin/{a}\r\n\r\n{b}///\n", "@{a}.{b}({c}={n}) /* {n} */"]
WORDS = "value lanternLight XMLHttpRequest snake_case SCREAMING_CASE kebab-case iPhone eBay McDonald getURLFor2Nd ABCdef abcDEF x1y2Z3 ǅungla ʰaʷb Straße İstanbul ǈubljana naïveté façade ŒUVRE ßẞ Σίσυφος ЖЁЛТЫЙ".split()


def allowed(code):
    return unicodedata.category(chr(code)) not in ("Cn", "Cs")


def points(rng, ranges, count):
    low, high = rng.choice(ranges)
    out = []
    while len(out) < count:
        code = rng.randrange(low, high)
        if allowed(code):
            out.append(chr(code))
    return "".join(out)


def script_text(rng):
    low_high = [rng.choice(SCRIPTS)]
    return rng.choice(("", " ", ", ", "。")).join(points(rng, low_high, rng.randint(1, 9)) + rng.choice(("", " ")) for _ in range(rng.randint(1, 6)))


def spaces(rng):
    return "".join(rng.choice(SPACES) * rng.choice((1, 1, 1, 2, 3, 7)) + rng.choice(("", "", "a", ".", "9", "é", "-")) for _ in range(rng.randint(1, 8)))


def numbers(rng):
    return "".join("".join(rng.choice(rng.choice(DIGITS[:1] * 4 + DIGITS)) for _ in range(rng.randint(1, 7)))
                   + rng.choice(("", ".", ",", " ", "e", "x", "\n", "-")) for _ in range(rng.randint(1, 5)))


def combining(rng):
    return "".join(points(rng, SCRIPTS[:8], 1) + "".join(rng.choice(MARKS) for _ in range(rng.choice((0, 1, 1, 2, 5))))
                   + rng.choice(("", "", " ")) for _ in range(rng.randint(1, 10)))


def code(rng):
    text = rng.choice(CODE).format(a=rng.choice(WORDS), b=rng.choice(WORDS), c=rng.choice(WORDS), n=rng.randrange(10 ** rng.randint(1, 9)))
    return " " * rng.choice((0, 0, 1, 3, 4, 8)) + text


def glue(rng, pool, low, high):
    return "".join(rng.choice(pool) + rng.choice(("", "", " ", "\n", "a", "1")) for _ in range(rng.randint(low, high)))


def anything(rng):
    makers = (script_text, spaces, numbers, combining, lambda r: rng.choice(ODD), lambda r: points(r, SYMBOLS, r.randint(1, 4)),
              lambda r: r.choice(EMOJI), lambda r: r.choice(WORDS), lambda r: r.choice(CONTRACTIONS), lambda r: r.choice(SPECIALS + LOOKALIKES))
    return "".join(rng.choice(makers)(rng) for _ in range(rng.randint(2, 6)))


def ascii_soup(rng):
    return "".join(chr(rng.randint(32, 126)) if rng.random() < 0.9 else rng.choice("\n\r\t  ") for _ in range(rng.randint(1, 60)))


def runs():
    out = [""]
    for piece, counts in (("a", (100, 3000)), (" ", (2, 3, 16, 1000)), ("\n", (2, 400)), ("\r\n", (2, 200)), ("\t", (9, 200)), ("é", (700,)),
                          ("字", (500,)), ("😀", (300,)), ("0", (4, 999, 1000)), ("ab", (900,)), ("!", (3, 800)), ("/", (2, 300)), ("\0", (40,)),
                          ("\u0301", (300,)), ("the ", (300,)), ("<s>", (60,)), ("<|im_end|>\n", (30,)), ("'s", (50,)), ("aA", (200,)), ("\ufeff", (25,)),
                          (" \n", (150,)), ("\u3000", (90,)), ("-", (1, 500)), ("A", (600,)), ("𝟗", (120,)), ("‍", (60,))):
        for count in counts:
            out += [piece * count, "x" + piece * count + "y", piece * count + " end", "end " + piece * count]
    return out


def strings(seed=7):
    """About 6,700 strings, without repetition."""
    rng = random.Random(seed)
    out = runs() + SPACES + ODD + MARKS + EMOJI + CONTRACTIONS + SPECIALS + LOOKALIKES + WORDS
    out += [f"{a}{b}" for a in ("a", "A", "1", " ", "\n", ".", "é", "字", "/") for b in SPACES[:8] + SPECIALS[:4] + ["'s", "'S", "/", "//\n", ".\n"]]
    for maker, count in ((script_text, 1000), (spaces, 500), (numbers, 500), (combining, 500), (code, 400), (anything, 1400), (ascii_soup, 700),
                         (lambda r: glue(r, EMOJI, 1, 6), 150), (lambda r: glue(r, CONTRACTIONS, 1, 5), 250),
                         (lambda r: glue(r, SPECIALS + LOOKALIKES, 1, 6), 300), (lambda r: glue(r, WORDS, 1, 6), 300),
                         (lambda r: glue(r, ODD, 1, 6), 200), (lambda r: points(r, SYMBOLS, r.randint(1, 12)), 150)):
        out += [maker(rng) for _ in range(count)]
    chapters, _, entries, _ = corpus.split()
    out += [rng.choice(rng.choice(chapters).verses) for _ in range(200)] + [rng.choice(entries).answer for _ in range(200)]
    return list(dict.fromkeys(out))
