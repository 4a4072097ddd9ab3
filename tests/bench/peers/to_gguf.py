"""Converts a checkpoint for llama.cpp, in BF16: to_gguf.py CHECKPOINT OUT.gguf CONVERTER

CONVERTER is the folder of llama.cpp's own convert_hf_to_gguf.py, as it lies in llama-cpp-python's source distribution below
vendor/llama.cpp. The benchmark feeds token ids, so the file gets no vocabulary."""

import runpy
import sys

checkpoint, out, converter = sys.argv[1:]
sys.path[:0] = [converter, f"{converter}/gguf-py"]
from conversion.nemotron import NemotronHModel  # noqa: E402

NemotronHModel.set_vocab = lambda self: self._set_vocab_none()
sys.argv = ["convert_hf_to_gguf.py", checkpoint, "--outfile", out, "--outtype", "bf16"]
runpy.run_path(f"{converter}/convert_hf_to_gguf.py", run_name="__main__")
