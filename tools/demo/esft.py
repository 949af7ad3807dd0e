# esft.py - which experts a domain needs, and those alone in training
# SPDX-License-Identifier: Apache-2.0
"""Expert-specialised fine-tuning (arXiv 2407.01906): an expert's score in a
layer is the share of the domain's token choices that it gets (ESFT-Token);
experts are taken by falling score until their scores sum to p.
"""

import torch
from torch import Tensor, nn

from model import Model
from text_data import Sampler

SCORED_WINDOWS = 64


def scores(model: Model, sampler: Sampler) -> dict[int, Tensor]:
    """Layer -> share of the choices per expert; they sum to 1."""
    layers = model.moe_layers()
    counts = {i: torch.zeros(model.shape.n_routed_experts) for i in layers}
    for index, experts in layers.items():
        def watch(_scores: Tensor, chosen: Tensor, index: int = index):
            counts[index] += torch.bincount(
                chosen.flatten().cpu(),
                minlength=model.shape.n_routed_experts)
        experts.watch = watch
    device = model.embed_tokens.device
    with torch.no_grad():
        for _ in range(SCORED_WINDOWS // 8):
            ids = torch.from_numpy(sampler.batch(8)).to(device)
            model.hidden(ids[:, :-1])
    for experts in layers.values():
        experts.watch = None
    return {i: c / c.sum() for i, c in counts.items()}


def select(scored: dict[int, Tensor], p: float) -> dict[int, list[int]]:
    """Per layer the fewest best experts whose scores sum to at least p."""
    chosen = {}
    for index, layer in scored.items():
        order = layer.argsort(descending=True)
        sums = layer[order].cumsum(0)
        count = int((sums < p).sum()) + 1
        chosen[index] = order[:count].tolist()
    return chosen


def largest_selection(scored: dict[int, Tensor], most: int
                      ) -> tuple[float, dict[int, list[int]]]:
    """The highest p, in hundredths, that takes at most so many experts."""
    for hundredth in range(99, 0, -1):
        chosen = select(scored, hundredth / 100)
        if sum(map(len, chosen.values())) <= most:
            return hundredth / 100, chosen
    raise ValueError("no p is small enough")


def attach(model: Model, chosen: dict[int, list[int]]) -> None:
    """Freezes the base; copies of the chosen experts are trained."""
    model.requires_grad_(False)
    for index, experts in model.moe_layers().items():
        tuned = nn.ParameterDict()
        for e in chosen[index]:
            tuned[f"{e}_gate_up"] = experts.gate_up_proj[e].clone()
            tuned[f"{e}_down"] = experts.down_proj[e].clone()
        experts.tuned = tuned
