"""Writes a checkpoint again as NVIDIA's quantized releases are published, and its widened twin.

  quantize_checkpoint.py SOURCE OUT --recipe fp8|nvfp4|mixed [--exact] [--twin FOLDER]

Recipes:
  fp8    every linear layer but attention and lm_head FP8, with one scale
  nvfp4  the same NVFP4 (W4A4: with input scales, which are not read)
  mixed  per layer, as Super and Lightning: routed experts' up_proj NVFP4, their down_proj and Mamba FP8, shared
         experts W4A16 NVFP4, lm_head FP8
A linear layer whose columns are no multiple of 16 becomes FP8 instead of NVFP4. Rules of rounding are modelopt's:
weight_scale_2 = amax / (6 * 448), block scale = e4m3(block amax / (6 * weight_scale_2)), FP8 scale = amax / 448.

--exact makes the float scales powers of two: then every weight is a bfloat16 exactly, and the twin, the same numbers
as BF16, must give the same bits. Needs numpy, nothing else.
"""
import argparse
import json
import os
import re
import shutil
import struct

import numpy as np

E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], dtype=np.float64)


def e4m3_values():
    """Of codes 0 .. 126; 127 is NaN."""
    codes = np.arange(127)
    exponent, fraction = codes >> 3, codes & 7
    return np.where(exponent == 0, fraction * 2.0**-9, (1 + fraction / 8) * 2.0 ** (exponent - 7.0))


E4M3 = e4m3_values()


def nearest(table, x):
    """Codes of the nearest entries of a rising table, ties to the even code. x >= 0."""
    middles = (table[1:] + table[:-1]) / 2
    below = np.searchsorted(middles, x, side="left")  # a tie counts as below
    above = np.searchsorted(middles, x, side="right")
    return np.where(below % 2 == 0, below, above).astype(np.uint8)


def with_sign(codes, x, bit):
    return (codes | np.where(np.signbit(x), bit, 0)).astype(np.uint8)


def power_of_two(x):
    return 2.0 ** np.ceil(np.log2(x))


def quantize_fp8(w, exact):
    scale = np.float32(power_of_two(np.abs(w).max() / 448) if exact else np.abs(w).max() / 448)
    codes = with_sign(nearest(E4M3, np.abs(w) / scale), w, 0x80)
    values = E4M3[codes & 0x7F] * np.where(codes & 0x80, -1, 1) * float(scale)
    return {".weight": ("F8_E4M3", codes), ".weight_scale": ("F32", scale)}, values


def quantize_nvfp4(w, exact):
    rows, columns = w.shape
    amax = np.abs(w).max() / (6 * 448)
    scale2 = np.float32(power_of_two(amax) if exact else amax)
    blocks = w.reshape(rows, columns // 16, 16)
    wanted = np.clip(np.abs(blocks).max(axis=2) / (6 * float(scale2)), 2.0**-9, 448)
    scale_codes = nearest(E4M3, wanted)
    step = E4M3[scale_codes][:, :, None] * float(scale2)
    codes = with_sign(nearest(E2M1, np.abs(blocks) / step), blocks, 8)
    values = (E2M1[codes & 7] * np.where(codes & 8, -1, 1) * step).reshape(rows, columns)
    flat = codes.reshape(rows, columns)
    return {
        ".weight": ("U8", (flat[:, 0::2] | flat[:, 1::2] << 4).astype(np.uint8)),
        ".weight_scale": ("F8_E4M3", scale_codes),
        ".weight_scale_2": ("F32", scale2),
    }, values


def algorithm_of(recipe, name):
    """FP8, NVFP4, W4A16_NVFP4 or None, of a weight's name."""
    if not re.search(r"(in_proj|out_proj|up_proj|down_proj|latent_proj|lm_head)\.weight$", name):
        return None
    if recipe != "mixed":
        return None if name.startswith("lm_head") else recipe.upper()
    if name.startswith("lm_head") or ".in_proj" in name or ".out_proj" in name:
        return "FP8"
    if ".shared_experts." in name:
        return "W4A16_NVFP4"
    if ".experts." in name:
        return "NVFP4" if "up_proj" in name else "FP8"
    return None


def bf16_bits(w):
    bits = np.asarray(w, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def read_safetensors(path):
    """name -> (dtype, shape, bytes)"""
    with open(path, "rb") as file:
        data = file.read()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    body = memoryview(data)[8 + length :]
    return {
        name: (entry["dtype"], entry["shape"], bytes(body[slice(*entry["data_offsets"])]))
        for name, entry in header.items()
        if name != "__metadata__"
    }


def write_safetensors(path, tensors):
    header, offset = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, _, data in tensors.values():
            file.write(data)


def widened(dtype, shape, data):
    if dtype == "F32":
        return np.frombuffer(data, np.float32).reshape(shape)
    assert dtype == "BF16", dtype
    return (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32).reshape(shape)


def quantize(recipe, name, w, exact):
    """Tensors by ending, the numbers they stand for and the algorithm; or None."""
    algorithm = algorithm_of(recipe, name)
    if algorithm is None or w.ndim != 2:
        return None
    if algorithm != "FP8" and w.shape[1] % 16 != 0:
        algorithm = "FP8"
    make = quantize_fp8 if algorithm == "FP8" else quantize_nvfp4
    tensors, values = make(w.astype(np.float64), exact)
    if algorithm != "W4A16_NVFP4":
        tensors[".input_scale"] = ("F32", np.float32(0.01))
    return tensors, values, algorithm


def unstack(tensors):
    """Stacked experts [E, rows, columns] become one tensor each, as quantized releases have them."""
    result = {}
    for name, (dtype, shape, data) in tensors.items():
        match = re.match(r"(.*\.experts)\.(up_proj|down_proj)(\.weight)?$", name)
        if not match or len(shape) != 3:
            result[name] = (dtype, shape, data)
            continue
        size = len(data) // shape[0]
        for expert in range(shape[0]):
            one = f"{match[1]}.{expert}.{match[2]}.weight"
            result[one] = (dtype, shape[1:], data[expert * size : (expert + 1) * size])
    return result


def convert(source, recipe, exact):
    """Quantized tensors, the twin's tensors, and the algorithm of each quantized module."""
    out, twin, algorithms = {}, {}, {}
    for name, (dtype, shape, data) in unstack(read_safetensors(os.path.join(source, "model.safetensors"))).items():
        w = widened(dtype, shape, data)
        quantized = quantize(recipe, name, w, exact)
        if quantized is None:
            is_small = w.ndim != 2 or name.endswith("gate.weight")
            out[name] = twin[name] = (dtype, shape, data) if is_small else ("BF16", shape, bf16_bits(w).tobytes())
            continue
        tensors, values, algorithm = quantized
        module = name[: -len(".weight")]
        algorithms[module] = algorithm
        for ending, (kind, array) in tensors.items():
            array = np.asarray(array)
            out[module + ending] = (kind, array.shape, array.tobytes())
        twin[name] = ("BF16", shape, bf16_bits(values).tobytes())
        assert not exact or np.array_equal(widened(*twin[name]), values), name
    return out, twin, algorithms


def quantization(recipe, algorithms, names):
    exact_names = {n[: -len(".weight")] for n in names if n.endswith(".weight")} - set(algorithms)
    excluded = sorted(n for n in exact_names if re.search(r"(proj|lm_head|conv1d|gate|embeddings)$", n))
    section = {"kv_cache_quant_algo": "FP8", "exclude_modules": excluded + ["mtp*"]}
    if len(set(algorithms.values())) == 1:
        return {"quant_algo": recipe.upper(), **section} | ({"group_size": 16} if recipe == "nvfp4" else {})
    layers = {m: {"quant_algo": a} | ({} if a == "FP8" else {"group_size": 16}) for m, a in algorithms.items()}
    return {"quant_algo": "MIXED_PRECISION", **section, "quantized_layers": layers}


def copy_others(source, out):
    os.makedirs(out, exist_ok=True)
    for name in os.listdir(source):
        if name.endswith(".json") and not name.startswith(("golden", "hf_quant")):
            shutil.copyfile(os.path.join(source, name), os.path.join(out, name))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("source")
    parser.add_argument("out")
    parser.add_argument("--recipe", choices=["fp8", "nvfp4", "mixed"], required=True)
    parser.add_argument("--exact", action="store_true")
    parser.add_argument("--twin")
    options = parser.parse_args()
    out, twin, algorithms = convert(options.source, options.recipe, options.exact)
    copy_others(options.source, options.out)
    write_safetensors(os.path.join(options.out, "model.safetensors"), out)
    section = quantization(options.recipe, algorithms, out)
    with open(os.path.join(options.out, "hf_quant_config.json"), "w") as file:
        json.dump({"producer": {"name": "modelopt"}, "quantization": section}, file, indent=1)
        file.write("\n")
    if options.twin:
        copy_others(options.source, options.twin)
        write_safetensors(os.path.join(options.twin, "model.safetensors"), twin)


if __name__ == "__main__":
    main()
