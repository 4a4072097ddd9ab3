"""Compares results.h5 with results.jsonl in a folder, reading as a user would: read_results.py FOLDER"""

import json
import sys

import h5py
import numpy as np


def texts(group):
    data, offsets = group["data"][:].tobytes(), group["offsets"][:]
    return [data[a:b].decode("utf-8") for a, b in zip(offsets[:-1], offsets[1:])]


folder = sys.argv[1]
with open(folder + "/results.jsonl", encoding="utf-8") as lines, h5py.File(folder + "/results.h5", "r") as h5:
    assert h5.attrs["schema_version"] == 1
    assert h5.attrs["task"].decode() == "generate"
    assert h5.attrs["fingerprint:model"].decode() == "aa"
    reasons = [name.decode() for name in h5["index/finish_reason"].attrs["values"]]
    assert h5["tokens/data"].dtype == np.int32 and h5["tokens/offsets"].dtype == np.int64
    assert h5["topk/ids"].shape == (h5["tokens/data"].shape[0], 3)
    text, ids, code = texts(h5["text"]), texts(h5["index/id"]), texts(h5["index/error_code"])
    offsets, tokens, top_ids = h5["tokens/offsets"][:], h5["tokens/data"][:], h5["topk/ids"][:]
    names = ("request", "sample", "num_prompt_tokens", "finish_reason")
    index = {name: h5["index"][name][:] for name in names}
    row = 0
    for line in map(json.loads, lines):
        for sample, output in enumerate(line["outputs"] or [None]):
            assert index["request"][row] == line["index"] and index["sample"][row] == sample
            assert ids[row] == line["id"]
            assert index["num_prompt_tokens"][row] == line["num_prompt_tokens"]
            reason = reasons[index["finish_reason"][row]]
            if output is None:
                assert reason == "error" and code[row] == line["error"]["code"]
            else:
                begin, end = offsets[row], offsets[row + 1]
                assert reason == output["finish_reason"] and text[row] == output["text"]
                assert tokens[begin:end].tolist() == output["token_ids"]
                logprobs = np.array(output["logprobs"], np.float32)
                assert np.array_equal(h5["logprobs/data"][begin:end], logprobs)
                top = [[entry["token_id"] for entry in token] for token in output["top_logprobs"]]
                assert top_ids[begin:end].tolist() == top
            row += 1
    assert row == len(index["request"])
