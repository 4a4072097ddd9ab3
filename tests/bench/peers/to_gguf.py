"""Converts a checkpoint for llama.cpp: to_gguf.py CHECKPOINT OUT.gguf CONVERTER [q8_0|q4_0]

CONVERTER is the folder of llama.cpp's own convert_hf_to_gguf.py, as it lies in llama-cpp-python's source distribution below
vendor/llama.cpp. The benchmark feeds token ids, so the file gets no vocabulary. With a format, the BF16 file that is made
first is quantized by llama.cpp and removed."""

import ctypes
import runpy
import sys
from pathlib import Path


def convert(checkpoint, out, converter):
    sys.path[:0] = [converter, f"{converter}/gguf-py"]
    from conversion.nemotron import NemotronHModel

    NemotronHModel.set_vocab = lambda self: self._set_vocab_none()
    sys.argv = ["convert_hf_to_gguf.py", checkpoint, "--outfile", out, "--outtype", "bf16"]
    runpy.run_path(f"{converter}/convert_hf_to_gguf.py", run_name="__main__")


def quantize(source, out, kind):
    import llama_cpp

    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = {"q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0, "q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0}[kind]
    params.pure = True  # no matrix in a larger format than the name says, ...
    params.output_tensor_type = params.token_embedding_type = llama_cpp.GGML_TYPE_BF16  # ... but as in the releases
    params.nthread = 2
    if llama_cpp.llama_model_quantize(source.encode(), out.encode(), ctypes.byref(params)) != 0:
        sys.exit(f"llama.cpp could not quantize {source}")


def main():
    checkpoint, out, converter, *kind = sys.argv[1:]
    if not kind:
        convert(checkpoint, out, converter)
        return
    bf16 = out + ".bf16"
    convert(checkpoint, bf16, converter)
    quantize(bf16, out, kind[0])
    Path(bf16).unlink()


main()
