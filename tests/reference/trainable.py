"""A compact Nemotron-H in PyTorch, quick to train on a CPU.

It computes what section 2 of the model notes says, with dt = softplus only, and its parameters carry the names of
a published checkpoint except that routed experts are stacked. export.py checks it against transformers.
Shapes: T tokens (batch x sequence), H hidden, E experts, k chosen, X latent, I expert width.
"""

import torch
import torch.nn.functional as F
from torch import nn


def rms(x, weight, eps):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


class Norm(nn.Module):
    def __init__(self, size, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(size)), eps

    def forward(self, x):
        return rms(x, self.weight, self.eps)


def linear(rows, columns, gain=1.0):
    layer = nn.Linear(columns, rows, bias=False)
    nn.init.normal_(layer.weight, std=gain * columns ** -0.5)
    return layer


class Mamba(nn.Module):
    CHUNK = 32          # tokens scanned as one matrix product; any value gives the same result

    def __init__(self, c, gain):
        super().__init__()
        self.heads, self.width, self.groups, self.state = c.mamba_num_heads, c.mamba_head_dim, c.n_groups, c.ssm_state_size
        self.inner = self.heads * self.width
        self.conv_dim = self.inner + 2 * self.groups * self.state
        self.in_proj = linear(self.inner + self.conv_dim + self.heads, c.hidden_size)
        self.conv1d = nn.Conv1d(self.conv_dim, self.conv_dim, c.conv_kernel, groups=self.conv_dim)
        self.A_log = nn.Parameter(torch.linspace(1, 16, self.heads).log())
        self.D = nn.Parameter(torch.ones(self.heads))
        dt = torch.exp(torch.linspace(-6.9, -2.3, self.heads))[torch.randperm(self.heads)]
        self.dt_bias = nn.Parameter(dt + torch.log(-torch.expm1(-dt)))
        self.norm = Norm(self.inner, c.layer_norm_epsilon)
        self.out_proj = linear(c.hidden_size, self.inner, gain)

    def forward(self, x):
        batch, length, _ = x.shape
        z, u, dt = self.in_proj(x).split([self.inner, self.conv_dim, self.heads], -1)
        taps = self.conv1d.weight[:, 0]                                        # [conv_dim, K]
        padded = F.pad(u, (0, 0, taps.shape[1] - 1, 0))
        v = sum(padded[:, j:j + length] * taps[:, j] for j in range(taps.shape[1])) + self.conv1d.bias
        value, key, query = F.silu(v).split([self.inner, self.groups * self.state, self.groups * self.state], -1)
        y = self.scan(value.view(batch, length, self.heads, self.width), key.view(batch, length, self.groups, self.state),
                      query.view(batch, length, self.groups, self.state), F.softplus(dt + self.dt_bias))
        y = (y.reshape(batch, length, self.inner) * F.silu(z)).view(batch, length, self.groups, -1)
        y = rms(y, self.norm.weight.view(self.groups, -1), self.norm.eps)
        return self.out_proj(y.reshape(batch, length, self.inner))

    def scan(self, x, key, query, dt):
        """x [b,t,h,p], key (B) and query (C) [b,t,g,n], dt [b,t,h] -> [b,t,h,p]"""
        b, t, h, p = x.shape
        g, n, m, size = self.groups, self.state, h // self.groups, self.CHUNK
        pad = -t % size
        if pad:
            x, key, query = (F.pad(a, (0, 0, 0, 0, 0, pad)) for a in (x, key, query))
            dt = F.pad(dt, (0, 0, 0, pad))
        c = (t + pad) // size
        skip = x * self.D[:, None]
        a = (dt * -self.A_log.exp()).view(b, c, size, h).permute(0, 1, 3, 2)                 # [b,c,h,s]
        xs = (x * dt[..., None]).view(b, c, size, h, p).permute(0, 1, 3, 2, 4)               # [b,c,h,s,p]
        key = key.view(b, c, size, g, n).permute(0, 1, 3, 2, 4)                              # [b,c,g,s,n]
        query = query.view(b, c, size, g, n).permute(0, 1, 3, 2, 4)
        total = a.cumsum(-1)
        mask = torch.ones(size, size, dtype=torch.bool).tril()
        decay = (total[..., :, None] - total[..., None, :]).masked_fill(~mask, -1e30).exp()  # [b,c,h,l,s]
        scores = (query @ key.transpose(-1, -2))[:, :, :, None]                              # [b,c,g,1,l,s]
        inside = (scores * decay.view(b, c, g, m, size, size)).view(b, c, h, size, size) @ xs
        rest = xs * (total[..., -1:] - total).exp()[..., None]
        added = rest.reshape(b, c, g, m, size, p).transpose(-1, -2) @ key[:, :, :, None]     # [b,c,g,m,p,n]
        last = total[..., -1].exp().view(b, c, g, m, 1, 1)
        state, before = torch.zeros_like(added[:, 0]), []
        for i in range(c):
            before.append(state)
            state = state * last[:, i] + added[:, i]
        outside = query[:, :, :, None] @ torch.stack(before, 1).transpose(-1, -2)            # [b,c,g,m,s,p]
        y = inside + outside.view(b, c, h, size, p) * total.exp()[..., None]
        return (y.permute(0, 1, 3, 2, 4).reshape(b, t + pad, h, p) + skip)[:, :t]


class Attention(nn.Module):
    def __init__(self, c, gain):
        super().__init__()
        self.heads, self.kv, self.width = c.num_attention_heads, c.num_key_value_heads, c.head_dim
        self.q_proj = linear(self.heads * self.width, c.hidden_size)
        self.k_proj = linear(self.kv * self.width, c.hidden_size)
        self.v_proj = linear(self.kv * self.width, c.hidden_size)
        self.o_proj = linear(c.hidden_size, self.heads * self.width, gain)

    def forward(self, x):
        b, t, _ = x.shape
        q, k, v = (f(x).view(b, t, -1, self.width).transpose(1, 2) for f in (self.q_proj, self.k_proj, self.v_proj))
        k, v = (a.repeat_interleave(self.heads // self.kv, 1) for a in (k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(y.transpose(1, 2).reshape(b, t, -1))


class MLP(nn.Module):
    def __init__(self, hidden, width, gain):
        super().__init__()
        self.up_proj, self.down_proj = linear(width, hidden), linear(hidden, width, gain)

    def forward(self, x):
        return self.down_proj(F.relu(self.up_proj(x)).square())


class Router(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(c.n_routed_experts, c.hidden_size) * c.hidden_size ** -0.5)
        self.register_buffer("e_score_correction_bias", torch.zeros(c.n_routed_experts))


class Experts(nn.Module):
    def __init__(self, c, gain):
        super().__init__()
        e, i, x = c.n_routed_experts, c.moe_intermediate_size, c.moe_latent_size
        self.up_proj = nn.Parameter(torch.randn(e, i, x) * x ** -0.5)
        self.down_proj = nn.Parameter(torch.randn(e, x, i) * gain * i ** -0.5)


class MoE(nn.Module):
    def __init__(self, c, gain):
        super().__init__()
        self.k, self.scale = c.num_experts_per_tok, c.routed_scaling_factor
        self.gate = Router(c)
        self.experts = Experts(c, 1.0)
        self.shared_experts = MLP(c.hidden_size, c.moe_shared_expert_intermediate_size, gain)
        self.fc1_latent_proj = linear(c.moe_latent_size, c.hidden_size)
        self.fc2_latent_proj = linear(c.hidden_size, c.moe_latent_size, gain)
        self.load = None        # tokens per expert in the last forward

    def forward(self, x):
        shape = x.shape
        x = x.reshape(-1, shape[-1])
        score = (x @ self.gate.weight.T).sigmoid()
        chosen = (score + self.gate.e_score_correction_bias).topk(self.k, -1).indices            # [T,k]
        weight = score.gather(1, chosen)
        weight = weight / (weight.sum(-1, keepdim=True) + 1e-20) * self.scale
        flat = chosen.flatten()
        experts = score.shape[1]
        self.load = torch.bincount(flat, minlength=experts)
        order = flat.argsort(stable=True)
        room = int(self.load.max())
        first = self.load.cumsum(0) - self.load
        slot = flat[order] * room + torch.arange(flat.numel()) - first[flat[order]]              # row of each copy
        latent = self.fc1_latent_proj(x)
        rows = latent.new_zeros(experts * room, latent.shape[1]).index_copy(0, slot, latent[order // self.k])
        hidden = F.relu(rows.view(experts, room, -1) @ self.experts.up_proj.transpose(1, 2)).square()
        out = (hidden @ self.experts.down_proj.transpose(1, 2)).flatten(0, 1)
        place = torch.empty_like(slot).index_copy_(0, order, slot)
        mixed = (out[place].view(-1, self.k, latent.shape[1]) * weight[..., None]).sum(1)
        return (self.fc2_latent_proj(mixed) + self.shared_experts(x)).view(shape)


class Block(nn.Module):
    def __init__(self, c, letter, gain):
        super().__init__()
        self.norm = Norm(c.hidden_size, c.layer_norm_epsilon)
        self.mixer = {"M": Mamba, "*": Attention, "E": MoE}[letter](c, gain)

    def forward(self, h):
        return h + self.mixer(self.norm(h))


class Nemotron(nn.Module):
    def __init__(self, c):
        super().__init__()
        gain = len(c.hybrid_override_pattern) ** -0.5
        self.backbone = nn.ModuleDict({
            "embeddings": nn.Embedding(c.vocab_size, c.hidden_size),
            "layers": nn.ModuleList(Block(c, letter, gain) for letter in c.hybrid_override_pattern),
            "norm_f": Norm(c.hidden_size, c.layer_norm_epsilon)})
        self.lm_head = linear(c.vocab_size, c.hidden_size)
        nn.init.normal_(self.backbone["embeddings"].weight, std=0.5)

    def moe_layers(self):
        return [b.mixer for b in self.backbone["layers"] if isinstance(b.mixer, MoE)]

    def hidden(self, ids):
        h = self.backbone["embeddings"](ids)
        for block in self.backbone["layers"]:
            h = block(h)
        return self.backbone["norm_f"](h)

    def forward(self, ids):
        return self.lm_head(self.hidden(ids))
