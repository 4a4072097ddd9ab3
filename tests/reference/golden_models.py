"""Small random models of every variant (tests/golden/models) and what transformers computes with them.

A model's weights come from its seed alone; they are spread so that dt, A, the routers and the biases all matter:
logits of order 1, dt from far below time_step_min up to a few, norm weights 1 +- 0.2.
"""

import json
import math
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file

import reference
from oracle import Oracle

BASE = {
    "architectures": ["NemotronHForCausalLM"], "model_type": "nemotron_h", "dtype": "bfloat16",
    "vocab_size": 96, "hidden_size": 48, "tie_word_embeddings": False, "layer_norm_epsilon": 1e-05, "norm_eps": 1e-05,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "attention_bias": False, "attention_dropout": 0.0,
    "mamba_num_heads": 4, "mamba_head_dim": 16, "n_groups": 2, "ssm_state_size": 16, "conv_kernel": 4, "expand": 2,
    "chunk_size": 32, "use_conv_bias": True, "use_bias": False, "mamba_proj_bias": False, "mamba_hidden_act": "silu",
    "mamba_ssm_cache_dtype": "float32", "time_step_floor": 0.0001, "time_step_limit": [0.0, math.inf],
    "time_step_max": 0.1, "time_step_min": 0.001, "intermediate_size": 96, "mlp_bias": False, "mlp_hidden_act": "relu2",
    "max_position_embeddings": 1024, "initializer_range": 0.02, "rescale_prenorm_residual": True,
    "residual_in_fp32": False, "sliding_window": None, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}
MOE = {"n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "n_shared_experts": 1,
       "moe_shared_expert_intermediate_size": 48, "norm_topk_prob": True, "routed_scaling_factor": 2.5, "n_group": 1,
       "topk_group": 1, "moe_latent_size": None}

PUZZLE_BLOCKS = [
    {"block_type": "mamba"},
    {"block_type": "moe", "moe_intermediate_size": 32, "num_experts_per_tok": 3},
    {"block_type": "attention"},
    {"block_type": "moe", "moe_intermediate_size": 48, "num_experts_per_tok": 1, "n_routed_experts": 8},
    {"block_type": "mamba"},
    {"block_type": "moe"},
]

# name -> (config changes, type on disk, options)
MODELS = {
    "dense": ({"hybrid_override_pattern": "M-*-M-", "hidden_size": 32, "head_dim": 32, "intermediate_size": 64,
               "dtype": "float32"}, "F32", {}),
    "moe": ({**MOE, "hybrid_override_pattern": "ME*EME"}, "BF16", {"shards": 3}),
    "latent": ({**MOE, "hybrid_override_pattern": "MEM*E", "hidden_size": 64, "moe_latent_size": 32, "n_routed_experts": 16,
                "num_experts_per_tok": 4, "routed_scaling_factor": 5.0, "mamba_num_heads": 8,
                "chunk_size": 128}, "BF16", {"gate_f32": True}),
    "grouped": ({**MOE, "hybrid_override_pattern": "ME*E", "n_routed_experts": 16, "num_experts_per_tok": 3,
                 "n_group": 4, "topk_group": 2, "moe_intermediate_size": 32}, "BF16", {}),
    "no_norm": ({**MOE, "hybrid_override_pattern": "EM*E", "norm_topk_prob": False, "n_shared_experts": 2,
                 "moe_shared_expert_intermediate_size": 24, "hidden_size": 40, "routed_scaling_factor": 1.0,
                 "dtype": "float32"}, "F32", {"full_precision": True}),
    "puzzle": ({**{k: v for k, v in MOE.items() if k not in ("n_group", "topk_group")},
                "architectures": ["NemotronHPuzzleForCausalLM"], "model_type": "nemotron_h_puzzle",
                "block_configs": PUZZLE_BLOCKS, "moe_intermediate_size": 40, "num_experts_per_tok": 2,
                "moe_latent_size": 32, "num_hidden_layers": len(PUZZLE_BLOCKS)}, "BF16", {"gate_f32": True}),
    "all_kinds": ({**MOE, "hybrid_override_pattern": "M-*EM*-E", "attention_bias": True, "mlp_bias": True, "use_bias": True,
                   "mamba_proj_bias": True, "n_groups": 1}, "BF16", {"native": True}),
}

GENERATED = 64
CLAMPED = "dense"


def draw(name, shape, g, config):
    """One tensor's values."""
    normal = torch.randn(*shape, generator=g)
    uniform = torch.rand(*shape, generator=g)
    last = name.rsplit(".", 2)[-2:]
    if name.endswith("dt_bias"):
        return uniform * 10 - 9.5                               # softplus: 7e-5 .. 0.97
    if name.endswith("A_log"):
        return uniform * 4 - 1                                  # A: -0.37 .. -20
    if name.endswith(".D"):
        return normal
    if name.endswith("e_score_correction_bias"):
        return normal * 0.1
    if name.endswith("norm.weight") or name.endswith("norm_f.weight"):
        return 1 + 0.2 * (2 * uniform - 1)
    if name.endswith("bias"):
        return normal * 0.2
    if name.endswith("conv1d.weight"):
        return normal * 0.5
    if last[0] == "embeddings":
        return normal
    gain = {"down_proj": 0.5, "out_proj": 1.0, "o_proj": 1.5, "lm_head": 1.3, "gate": 2.0, "q_proj": 1.5, "k_proj": 1.5}
    factor = next((v for k, v in gain.items() if k in name), 1.0)
    return normal * factor * shape[-1] ** -0.5


def published_names(tensors):
    """transformers' names to published ones: prefix `backbone.`, one matrix an expert."""
    out = {}
    for name, tensor in tensors.items():
        name = name.replace("model.", "backbone.", 1)
        if name.endswith((".experts.up_proj", ".experts.down_proj")):
            head, which = name.rsplit(".", 1)
            out |= {f"{head}.{e}.{which}.weight": m.clone() for e, m in enumerate(tensor)}
        else:
            out[name] = tensor
    return out


def skeleton(config, folder):
    """Parameter shapes, from the classes themselves: writes nothing but config.json."""
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    wanted = {}

    def record(self, state, strict=True):
        wanted.update({k: tuple(v.shape) for k, v in self.state_dict().items()})

    read, load = reference.read_tensors, reference.NemotronHForCausalLM.load_state_dict
    reference.read_tensors, reference.NemotronHForCausalLM.load_state_dict = lambda _: {}, record
    try:
        reference.build(folder)
    finally:
        reference.read_tensors, reference.NemotronHForCausalLM.load_state_dict = read, load
    return wanted


def save(tensors, path):
    save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(0o644)


def write_model(name, folder):
    change, kind, options = MODELS[name]
    config = BASE | change
    if "hybrid_override_pattern" in config:
        config["num_hidden_layers"] = len(config["hybrid_override_pattern"])
    folder.mkdir(parents=True, exist_ok=True)
    g = torch.Generator().manual_seed(sum(name.encode()))
    tensors = {}
    for key, shape in sorted(skeleton(config, folder).items()):
        value = draw(key, shape, g, config)
        f32 = kind == "F32" or key.endswith("e_score_correction_bias") or (options.get("gate_f32") and ".gate." in key)
        if not options.get("full_precision") and not key.endswith("e_score_correction_bias"):
            value = value.bfloat16()
        tensors[key] = (value.float() if f32 else value.bfloat16()).contiguous()
    if not options.get("native"):
        tensors = published_names(tensors)
    shards = options.get("shards", 1)
    names = sorted(tensors)
    if shards == 1:
        save(tensors, folder / "model.safetensors")
        return
    where = {}
    for s in range(shards):
        file = f"model-{s + 1:05d}-of-{shards:05d}.safetensors"
        part = names[s * len(names) // shards:(s + 1) * len(names) // shards]
        save({n: tensors[n] for n in part}, folder / file)
        where |= {n: file for n in part}
    total = sum(t.numel() * t.element_size() for t in tensors.values())
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": total}, "weight_map": dict(sorted(where.items()))}, indent=1) + "\n")


def lines(value, depth=0):
    """JSON with one line for each entry of the outer two levels."""
    if not isinstance(value, dict) or depth == 2:
        return json.dumps(value)
    pad = " " * (depth + 1)
    return "{\n" + ",\n".join(f"{pad}{json.dumps(k)}: {lines(v, depth + 1)}" for k, v in value.items()) + "\n" + pad[1:] + "}"


class Arrays:
    """Float32 arrays in one little-endian file, found by name through a JSON index."""

    def __init__(self):
        self.index, self.data = {}, bytearray()

    def add(self, name, tensor, **more):
        self.index[name] = {"shape": list(tensor.shape), "offset": len(self.data), **more}
        self.data += tensor.float().numpy().astype("<f4").tobytes()


def positions_of(margins):
    """Chunk borders and ends, and the four positions whose choice of experts is the surest."""
    length = len(margins)
    surest = margins.topk(4).indices.tolist() if length > 4 and margins.isfinite().all() else []
    return sorted({0, length // 3, length // 2, 31, 32, 63, 64, 127, 128, length - 2, length - 1, *surest}
                  & set(range(length)))


def write_golden(name, folder):
    g = torch.Generator().manual_seed(1000 + sum(name.encode()))
    lengths = {"one": 1, "short": 17, "long": 150}
    prompts = {k: torch.randint(3, BASE["vocab_size"], (n,), generator=g).tolist() for k, n in lengths.items()}
    exact, arrays, worst, answers, leads = Oracle(folder), Arrays(), {}, {}, {}
    truth, margins = {}, {}
    for key, ids in prompts.items():
        truth[key] = exact.logits(ids)
        margins[key] = exact.margins
    for dtype in (torch.float32, torch.bfloat16):
        model = reference.build(folder, dtype)
        label = str(dtype).split(".")[1]
        for key, ids in prompts.items():
            at = positions_of(margins[key])
            full = reference.logits(model, ids)
            margin = {} if margins[key].isinf().any() else {
                "router_margins": [round(margins[key][p].item(), 5) for p in at]}
            arrays.add(f"{label}/{key}/logits", full[at], positions=at, **margin)
            difference = (full.double() - truth[key]).abs()
            worst[f"{label}/{key}"] = {
                "max": difference.max().item(), "rms": difference.square().mean().sqrt().item(),
                "max_where_margin_above_0.02": difference[margins[key] > 0.02].max().item(),
                "max_by_recorded_position": [float(f"{difference[p].max().item():.2e}") for p in at]}
        arrays.add(f"{label}/short/residuals", reference.residuals(model, prompts["short"]))
        if dtype == torch.float32:
            for key in ("one", "short"):
                answers[key], leads[key] = reference.greedy(model, prompts[key], GENERATED)
    if name == CLAMPED:
        at = positions_of(margins["long"])
        clamped = reference.logits(reference.build(folder, clamp=True), prompts["long"])
        arrays.add("float32_dt_clamped/long/logits", clamped[at], positions=at)
        worst["float32_dt_clamped/long"] = {"max": (clamped.double() - truth["long"]).abs().max().item()}
    golden = {
        "model": name, "data": "golden.bin", "transformers": transformers.__version__, "torch": torch.__version__,
        "prompts": prompts, "greedy": answers, "greedy_smallest_lead": leads,
        "difference_from_float64": worst, "logits_rms": truth["long"].square().mean().sqrt().item(),
        "arrays": arrays.index,
    }
    (folder / "golden.json").write_text(lines(golden) + "\n")
    (folder / "golden.bin").write_bytes(arrays.data)
    return golden


def make(out, _checkpoint):
    for name in MODELS:
        folder = Path(out) / "models" / name
        write_model(name, folder)
        golden = write_golden(name, folder)
        size = sum(f.stat().st_size for f in folder.iterdir())
        print(f"{name}: {size / 1024:.0f} KiB, rms {golden['logits_rms']:.2f}, lead {golden['greedy_smallest_lead']}")
        for key, value in golden["difference_from_float64"].items():
            print("   ", key, {k: f"{v:.2e}" for k, v in value.items() if not isinstance(v, list)})
