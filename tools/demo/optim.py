# optim.py - Muon for matrices, Adam for the rest, one schedule
# SPDX-License-Identifier: Apache-2.0
"""Muon (Jordan et al. 2024): momentum, then the nearest orthogonal matrix by
five Newton-Schulz steps. At this size it needs about half of Adam's tokens.
"""

import torch
from torch import Tensor, nn

MUON_RATE = 0.02
MUON_MOMENTUM = 0.95
ADAM_RATE = 0.004
ADAM_BETAS = (0.9, 0.98)


def orthogonal(g: Tensor) -> Tensor:
    """[..., rows, columns]: singular values moved to about 1."""
    a, b, c = 3.4445, -4.7750, 2.0315
    turned = g.shape[-2] > g.shape[-1]
    x = g.mT if turned else g
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.mT if turned else x


class Optimizer:
    """Both, over the parameters that want gradients; without a rate for
    Muon Adam moves all of them."""

    def __init__(self, named: list[tuple[str, nn.Parameter]],
                 muon_rate: float | None = MUON_RATE,
                 adam_rate: float = ADAM_RATE) -> None:
        def is_matrix(name: str, p: nn.Parameter) -> bool:
            return muon_rate is not None and p.ndim >= 2 and \
                not name.endswith(("embed_tokens", "gate"))

        self.matrices = [p for n, p in named if is_matrix(n, p)]
        self.momenta = [torch.zeros_like(p) for p in self.matrices]
        others = [p for n, p in named if not is_matrix(n, p)]
        self.adam = torch.optim.Adam(others, adam_rate, ADAM_BETAS, 1e-10) \
            if others else None
        self.muon_rate, self.adam_rate = muon_rate, adam_rate

    def step(self, factor: float, each=map) -> None:
        """One update at `factor` of the full rates; clears the gradients.

        each(work, list, list): how the matrices are shared out.
        """
        @torch.no_grad()
        def update(p: nn.Parameter, momentum: Tensor) -> None:
            if p.grad is None:
                return
            momentum.lerp_(p.grad, 1 - MUON_MOMENTUM)
            turned = orthogonal(p.grad.lerp(momentum, MUON_MOMENTUM))
            scale = max(1.0, p.shape[-2] / p.shape[-1]) ** 0.5
            p.sub_(turned, alpha=self.muon_rate * factor * scale)
            p.grad = None

        list(each(update, self.matrices, self.momenta))
        if self.adam is not None:
            self.adam.param_groups[0]["lr"] = self.adam_rate * factor
            self.adam.step()
            self.adam.zero_grad()

    def state(self) -> dict:
        return {"momenta": self.momenta,
                "adam": self.adam.state_dict() if self.adam else None}

    def restore(self, state: dict) -> None:
        for mine, saved in zip(self.momenta, state["momenta"]):
            mine.copy_(saved)
        if self.adam is not None:
            self.adam.load_state_dict(state["adam"])


def rate_factor(step: int, steps: int, warmup: int, decay: float) -> float:
    """Up over `warmup` steps, level, down to 0 over the last share `decay`."""
    up = min(1.0, (step + 1) / warmup)
    down = min(1.0, (steps - step) / max(1.0, steps * decay))
    return up * down
