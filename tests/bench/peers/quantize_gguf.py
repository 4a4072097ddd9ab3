"""Lets llama.cpp quantize a file: quantize_gguf.py BF16.gguf OUT.gguf q8_0|q4_0"""

import ctypes
import sys

import llama_cpp

GGML_TYPE_BF16 = 30  # ggml.h; the Python package does not name it

source, out, kind = sys.argv[1:]
params = llama_cpp.llama_model_quantize_default_params()
params.ftype = {"q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0, "q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0}[kind]
params.nthread = 2
params.pure = True  # no matrix in a larger format than the name says, ...
params.output_tensor_type = params.token_embedding_type = GGML_TYPE_BF16  # ... but these, as in NVIDIA's releases
if llama_cpp.llama_model_quantize(source.encode(), out.encode(), ctypes.byref(params)) != 0:
    sys.exit(f"llama.cpp could not quantize {source}")
