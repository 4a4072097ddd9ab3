"""Section 2 of the model notes, written out token by token in float64, independent of transformers.

make_golden.py compares transformers with it: a formula that both share is very likely the right one.
"""

import json
from pathlib import Path

import torch
import torch.nn.functional as F

from reference import LETTER, block_overrides, native_names, read_tensors

WORDS = {"M": "linear_attention", "*": "full_attention", "E": "moe", "-": "mlp"}


def relu2(x):
    return F.relu(x).square()


class Oracle:
    def __init__(self, folder):
        self.c = json.loads((Path(folder) / "config.json").read_text())
        self.t = {k: v.double() for k, v in native_names(read_tensors(folder)).items()}
        if self.c.get("block_configs"):
            self.kinds = [LETTER[b["block_type"]] for b in self.c["block_configs"]]
        else:
            self.kinds = [WORDS[x] for x in self.c["hybrid_override_pattern"]]

    def linear(self, name, x):
        y = x @ self.t[name + ".weight"].T
        return y + self.t[name + ".bias"] if name + ".bias" in self.t else y

    def norm(self, name, x):
        return x * (x.square().mean(-1, keepdim=True) + self.c["layer_norm_epsilon"]).rsqrt() * self.t[name + ".weight"]

    def logits(self, ids):
        """[positions, vocabulary]; leaves in `margins` how near each position came to choosing other experts."""
        self.margins = torch.full((len(ids),), float("inf"))
        h = self.t["model.embeddings.weight"][torch.tensor(ids)]
        for i, kind in enumerate(self.kinds):
            name = f"model.layers.{i}"
            h = h + getattr(self, kind)(name + ".mixer", self.norm(name + ".norm", h), i)
        return self.norm("model.norm_f", h) @ self.t["lm_head.weight"].T

    def linear_attention(self, name, x, _):
        c, t = self.c, self.t
        heads, width, groups, n = c["mamba_num_heads"], c["mamba_head_dim"], c["n_groups"], c["ssm_state_size"]
        inner = heads * width
        z, u, dt = self.linear(name + ".in_proj", x).split([inner, inner + 2 * groups * n, heads], -1)
        taps = t[name + ".conv1d.weight"][:, 0]
        past = F.pad(u, (0, 0, taps.shape[1] - 1, 0))
        v = F.silu(torch.stack([(past[i:i + taps.shape[1]] * taps.T).sum(0) for i in range(len(x))])
                   + t[name + ".conv1d.bias"])
        dt = torch.log1p((dt + t[name + ".dt_bias"]).exp())
        a = -t[name + ".A_log"].exp()
        state, rows = torch.zeros(heads, width, n, dtype=torch.float64), []
        for step in range(len(x)):
            value = v[step, :inner].view(heads, width)
            key = v[step, inner:inner + groups * n].view(groups, n).repeat_interleave(heads // groups, 0)
            query = v[step, inner + groups * n:].view(groups, n).repeat_interleave(heads // groups, 0)
            state = (state * (dt[step] * a).exp()[:, None, None]
                     + (dt[step][:, None] * value)[..., None] * key[:, None, :])
            y = (state * query[:, None, :]).sum(-1) + t[name + ".D"][:, None] * value
            rows.append(y.flatten())
        y = (torch.stack(rows) * F.silu(z)).view(len(x), groups, -1)
        y = y * (y.square().mean(-1, keepdim=True) + c["layer_norm_epsilon"]).rsqrt()
        return self.linear(name + ".out_proj", y.flatten(1) * t[name + ".norm.weight"])

    def full_attention(self, name, x, _):
        heads, kv, width = self.c["num_attention_heads"], self.c["num_key_value_heads"], self.c["head_dim"]
        q, k, v = (self.linear(f"{name}.{p}_proj", x).view(len(x), -1, width) for p in "qkv")
        out = torch.zeros(len(x), heads, width, dtype=torch.float64)
        for head in range(heads):
            j = head // (heads // kv)
            for i in range(len(x)):
                weight = (k[:i + 1, j] @ q[i, head] * width ** -0.5).softmax(0)
                out[i, head] = weight @ v[:i + 1, j]
        return self.linear(name + ".o_proj", out.flatten(1))

    def mlp(self, name, x, _):
        return self.linear(name + ".down_proj", relu2(self.linear(name + ".up_proj", x)))

    def moe(self, name, x, i):
        c = self.c | (block_overrides(self.c, i) if self.c.get("block_configs") else {})
        t, k = self.t, c["num_experts_per_tok"]
        groups, kept = c.get("n_group") or 1, c.get("topk_group") or 1
        score = (x @ t[name + ".gate.weight"].T).sigmoid()
        choice = score + t[name + ".gate.e_score_correction_bias"]
        latent = self.linear(name + ".fc1_latent_proj", x) if name + ".fc1_latent_proj.weight" in t else x
        up, down = t[name + ".experts.up_proj"], t[name + ".experts.down_proj"]
        rows = []
        for token in range(len(x)):
            grouped = choice[token].view(groups, -1)
            best = grouped.topk(min(2, grouped.shape[1])).values.sum(-1).sort(descending=True)
            allowed = torch.full_like(grouped, float("-inf"))
            allowed[best.indices[:kept]] = grouped[best.indices[:kept]]
            order = allowed.flatten().sort(descending=True)
            chosen = order.indices[:k]
            self.margins[token] = min(self.margins[token], order.values[k - 1] - order.values[k],
                                      best.values[kept - 1] - best.values[kept] if kept < groups else float("inf"))
            weight = score[token, chosen]
            if c["norm_topk_prob"]:
                weight = weight / (weight.sum() + 1e-20)
            weight = weight * c["routed_scaling_factor"]
            rows.append(sum(w * (down[e] @ relu2(up[e] @ latent[token])) for w, e in zip(weight, chosen)))
        mixed = torch.stack(rows)
        if name + ".fc2_latent_proj.weight" in t:
            mixed = self.linear(name + ".fc2_latent_proj", mixed)
        return mixed + self.mlp(name + ".shared_experts", x, i)
