"""The exact strings that transformers' apply_chat_template gives for chat_cases.py."""

import datetime
import json
from pathlib import Path

import jinja2
from transformers import AutoTokenizer
from transformers.utils import chat_template_utils

import chat_cases

NOW = datetime.datetime(2026, 3, 5, 16, 7, 8)


class FixedClock:
    @staticmethod
    def now():
        return NOW


def make(out, checkpoint):
    folder = Path(out) / "chat"
    folder.mkdir(parents=True, exist_ok=True)
    chat_template_utils.datetime = FixedClock
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    rows = [(name, "checkpoint", messages, dict(more)) for name, messages, more in chat_cases.CHECKPOINT]
    rows += [(f"{template} {i}", template, messages, {}) for i, (template, messages) in enumerate(chat_cases.FEATURE_CASES)]
    cases = []
    for name, template, messages, arguments in rows:
        case = {"name": name, "template": template, "messages": messages, "tools": arguments.pop("tools", None),
                "add_generation_prompt": arguments.pop("add_generation_prompt", False), "kwargs": arguments}
        try:
            case["expected"] = tokenizer.apply_chat_template(
                messages, tools=case["tools"], add_generation_prompt=case["add_generation_prompt"], tokenize=False,
                chat_template=chat_cases.FEATURES.get(template), **arguments)
        except jinja2.exceptions.TemplateError as error:
            case["error"] = str(error)
        cases.append(case)
    (folder / "cases.json").write_text(json.dumps({
        "now": NOW.isoformat(), "bos_token": tokenizer.bos_token, "eos_token": tokenizer.eos_token,
        "templates": chat_cases.FEATURES, "cases": cases}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"chat: {len(cases)} cases, {sum('error' in c for c in cases)} of them errors")
