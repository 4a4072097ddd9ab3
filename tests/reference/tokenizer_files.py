"""Trains the checkpoint's tokenizer and writes tokenizer.json, tokenizer_config.json, generation_config.json."""

import json
import random
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from tokenizers.processors import ByteLevel as ByteLevelProcessor

import corpus

HERE = Path(__file__).parent
VOCABULARY = 3072

NAMED = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]",
         "[/TOOL_RESULTS]", "[TOOL_CALLS]", "<|im_start|>", "<|im_end|>", "<think>", "</think>", "<tool_call>",
         "</tool_call>", "<tool_response>", "</tool_response>"]
SPECIAL = NAMED + [f"<SPECIAL_{i}>" for i in range(len(NAMED), 32)]

# Section 7.1 of the model notes: (a) is the pattern used in training, (b) the one some exports carry.
PATTERN_A = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
             r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
             r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
PATTERN_B = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
             r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def byte_level_bpe(pattern, texts, vocabulary, ignore_merges=False, specials=SPECIAL):
    """A byte-level BPE without BOS; `specials` take the first ids."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = ByteLevelProcessor(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[AddedToken(s, special=True, normalized=False) for s in specials])
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def training_texts():
    chapters, _, entries, _ = corpus.split()
    for chapter in chapters:
        yield chapter.text
    for entry in entries:
        yield f"{entry.question}\n{entry.reasoning}\n{entry.answer}\n"


def write(folder):
    """The three tokenizer files of the checkpoint."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = byte_level_bpe(PATTERN_A, training_texts(), VOCABULARY)
    assert tokenizer.get_vocab_size() == VOCABULARY and tokenizer.token_to_id("<|im_end|>") == 11
    tokenizer.save(str(folder / "tokenizer.json"), pretty=True)
    config = {
        "added_tokens_decoder": {
            str(i): {"content": s, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False,
                     "special": True} for i, s in enumerate(SPECIAL)},
        "add_bos_token": False, "add_eos_token": False,
        "bos_token": "<s>", "eos_token": "<|im_end|>", "unk_token": "<unk>", "pad_token": "<unk>",
        "chat_template": (HERE / "chat_template.jinja").read_text(encoding="utf-8").rstrip("\n"),
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": 2048,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    generation = {"_from_model_config": True, "bos_token_id": 1, "do_sample": True, "eos_token_id": [2, 11],
                  "pad_token_id": 0, "temperature": 1.0, "top_p": 0.95, "transformers_version": "5.23.0"}
    for name, value in (("tokenizer_config.json", config), ("generation_config.json", generation)):
        (folder / name).write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def encode_all(folder, seed):
    """(id lists of the training chapters, of the training chats, in fixed order)"""
    from transformers import AutoTokenizer
    chat = AutoTokenizer.from_pretrained(folder)
    fast = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
    chapters, _, entries, _ = corpus.split()
    rng = random.Random(seed)
    texts = [c.text for c in chapters]
    chats = [chat.apply_chat_template(corpus.messages_of(e, rng), tokenize=False) for e in entries]
    verses = [[1] + e.ids + [2] for e in fast.encode_batch(texts)]
    return verses, [[1] + e.ids + [2] for e in fast.encode_batch(chats)]


if __name__ == "__main__":
    import sys
    write(sys.argv[1])
