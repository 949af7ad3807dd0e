# lora.py - low-rank pairs for the training model
# SPDX-License-Identifier: Apache-2.0
"""y += scale * B(A x), for single matrices and for each routed expert."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model import Model

RANK = 16
ALPHA = 32
ATTENTION = ("q_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj")
EXPERTS = ("gate_up_proj", "down_proj")


class Pair(nn.Module):
    """lora_A [.., RANK, in] random, lora_B [.., out, RANK] zero; a leading
    dimension, where there is one, counts experts."""

    def __init__(self, target: Tensor) -> None:
        super().__init__()
        *stack, rows, columns = target.shape
        self.lora_A = nn.Parameter(
            torch.randn(*stack, RANK, columns) / columns ** 0.5)
        self.lora_B = nn.Parameter(torch.zeros(*stack, rows, RANK))

    def forward(self, x: Tensor, e: int | None = None) -> Tensor:
        a, b = (self.lora_A, self.lora_B) if e is None \
            else (self.lora_A[e], self.lora_B[e])
        return F.linear(F.linear(x, a), b) * (ALPHA / RANK)


def attach(model: Model) -> None:
    """Freezes the base; adds pairs to attention and routed experts."""
    model.requires_grad_(False)
    for layer in model.layers:
        layer.self_attn.lora = nn.ModuleDict({
            n: Pair(getattr(layer.self_attn, n)) for n in ATTENTION})
    for experts in model.moe_layers().values():
        experts.lora = nn.ModuleDict({
            n: Pair(getattr(experts, n)) for n in EXPERTS})
