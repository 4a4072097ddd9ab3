"""Muon for the matrices, Adam for everything else."""

import torch


def orthogonal(update, steps=5):
    """The nearest half-orthogonal matrix to each [rows, columns] of `update`, by Newton-Schulz."""
    x = update
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.transpose(-1, -2)
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.transpose(-1, -2)
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.transpose(-1, -2) if tall else x


class Muon(torch.optim.Optimizer):
    def __init__(self, params, lr, momentum=0.95, decay=0.0):
        super().__init__(params, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
                buffer.lerp_(p.grad, 1 - group["momentum"])
                update = orthogonal(p.grad.lerp(buffer, group["momentum"]))
                p.mul_(1 - group["lr"] * group["decay"])
                p.add_(update, alpha=-group["lr"] * max(1.0, p.shape[-2] / p.shape[-1]) ** 0.5)


def optimisers(model, muon_lr, adam_lr, decay):
    """[Muon, AdamW]; each group's "base" is its peak learning rate."""
    matrices, tables, routers, rest = [], [], [], []
    for name, p in model.named_parameters():
        if "embeddings" in name or "lm_head" in name:
            tables.append(p)
        elif "gate.weight" in name:
            routers.append(p)
        elif p.ndim >= 2 and "conv1d" not in name:
            matrices.append(p)
        else:
            rest.append(p)
    out = [Muon(matrices, muon_lr, decay=decay),
           torch.optim.AdamW([{"params": tables, "lr": adam_lr, "weight_decay": decay},
                              {"params": routers, "lr": adam_lr * 0.2, "weight_decay": 0.0},
                              {"params": rest, "lr": adam_lr, "weight_decay": 0.0}], betas=(0.9, 0.95), eps=1e-10)]
    for optimiser in out:
        for group in optimiser.param_groups:
            group["base"] = group["lr"]
    return out
