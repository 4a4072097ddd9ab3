"""Runs a checkpoint folder through transformers, made to follow the model notes.

What is changed in transformers 5.23:
  dt              its Mamba mixer clamps dt to at least time_step_min; here the limit is (0, inf) unless asked for
  shared experts  it ignores n_shared_experts; here the shared width is n_shared_experts times the configured one
  attention_bias  it builds attention without biases whatever the config says; here they are added
  puzzle          it has no nemotron_h_puzzle; here each MoE layer is built from the same classes with its own sizes
"""

import copy
import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import NemotronHConfig, NemotronHForCausalLM
from transformers.models.nemotron_h.modeling_nemotron_h import NemotronHAttention, NemotronHMamba2Mixer, NemotronHMoE

LETTER = {"mamba": "linear_attention", "attention": "full_attention", "moe": "moe", "mlp": "mlp"}


def read_tensors(folder):
    """All tensors of a folder under their own names, sharded or not."""
    folder = Path(folder)
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return load_file(folder / "model.safetensors")
    names = json.loads(index.read_text())["weight_map"]
    out = {}
    for file in sorted(set(names.values())):
        out |= load_file(folder / file)
    assert set(out) == set(names)
    return out


def native_names(tensors):
    """Published names to those of transformers: prefix `model.`, experts stacked."""
    out, stacks = {}, {}
    for name, tensor in tensors.items():
        name = name.replace("backbone.", "model.", 1)
        if ".mixer.experts." in name and name.endswith(".weight"):
            head, tail = name.split(".mixer.experts.")
            number, which, _ = tail.split(".")
            stacks.setdefault(f"{head}.mixer.experts.{which}", {})[int(number)] = tensor
        else:
            out[name] = tensor
    for name, parts in stacks.items():
        out[name] = torch.stack([parts[i] for i in range(len(parts))])
    return out


def block_overrides(config, i):
    """Layer i's own values in a puzzle configuration."""
    keys = ("moe_intermediate_size", "num_experts_per_tok", "n_routed_experts", "moe_latent_size",
            "moe_shared_expert_intermediate_size")
    return {k: config["block_configs"][i][k] for k in keys if config["block_configs"][i].get(k) is not None}


def hf_config(config):
    """The NemotronHConfig of a raw config.json."""
    values = {k: v for k, v in config.items() if k not in ("architectures", "auto_map", "block_configs", "model_type")}
    if config["model_type"] == "nemotron_h_puzzle":
        values["layers_block_type"] = [LETTER[b["block_type"]] for b in config["block_configs"]]
        values.pop("num_hidden_layers", None)
    values["moe_shared_expert_intermediate_size"] = (
        config.get("moe_shared_expert_intermediate_size", 0) * config.get("n_shared_experts", 1))
    out = NemotronHConfig(**values)
    out._attn_implementation = "eager"
    out._experts_implementation = "eager"
    return out


def build(folder, dtype=torch.float32, clamp=False):
    """The model of `folder` in `dtype`; e_score_correction_bias stays float32. `clamp` keeps transformers' own dt."""
    raw = json.loads((Path(folder) / "config.json").read_text())
    config = hf_config(raw)
    model = NemotronHForCausalLM(config)
    for i, layer in enumerate(model.model.layers):
        if raw["model_type"] == "nemotron_h_puzzle" and isinstance(layer.mixer, NemotronHMoE):
            own = copy.deepcopy(config)
            for key, value in block_overrides(raw, i).items():
                setattr(own, key, value)
            layer.mixer = NemotronHMoE(own, layer_idx=i)
        if raw.get("attention_bias") and isinstance(layer.mixer, NemotronHAttention):
            for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
                old = getattr(layer.mixer, name)
                setattr(layer.mixer, name, nn.Linear(old.in_features, old.out_features))
        if isinstance(layer.mixer, NemotronHMamba2Mixer) and not clamp:
            layer.mixer.time_step_limit = (0.0, float("inf"))
    tensors = native_names(read_tensors(folder))
    model.to(torch.float32).load_state_dict({k: v.float() for k, v in tensors.items()}, strict=True)
    biases = [(m, m.e_score_correction_bias.clone()) for m in model.modules() if hasattr(m, "e_score_correction_bias")]
    model.to(dtype)
    for module, bias in biases:
        module.e_score_correction_bias = bias
    return model.eval()


@torch.no_grad()
def logits(model, ids):
    """[positions, vocabulary] in float32, by one forward of the whole sequence."""
    return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float()


@torch.no_grad()
def residuals(model, ids):
    """[layers + 1, positions, hidden]: the embedding, then the residual stream after each layer."""
    out = [model.model.embeddings(torch.tensor([ids]))[0]]
    hooks = [layer.register_forward_hook(lambda _, __, y: out.append(y[0])) for layer in model.model.layers]
    model(input_ids=torch.tensor([ids]), use_cache=False)
    for hook in hooks:
        hook.remove()
    return torch.stack(out).float()


def greedy(model, ids, count):
    """`count` tokens, each from a forward of the whole sequence; with the smallest lead of a winner."""
    ids, lead = list(ids), float("inf")
    start = len(ids)
    for _ in range(count):
        best = logits(model, ids)[-1].topk(2)
        lead = min(lead, (best.values[0] - best.values[1]).item())
        ids.append(best.indices[0].item())
    return ids[start:], lead
