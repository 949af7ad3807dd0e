# mutations.py - deliberate mistakes that the goldens must catch
# SPDX-License-Identifier: Apache-2.0
"""Each mutation is a plausible bug of an implementation. The generator runs
the reference with it and demands that the log-probabilities move: a golden
that a wrong forward pass satisfies would prove nothing.
"""

import copy

import torch

import reference


def _set(field, value):
    def change(cfg, tensors):
        cfg[field] = value
    return change


def _toggle(field):
    def change(cfg, tensors):
        cfg[field] = not cfg.get(field, False)
    return change


def _times(field, factor):
    def change(cfg, tensors):
        cfg[field] *= factor
    return change


def _yarn(**fields):
    def change(cfg, tensors):
        cfg["rope_scaling"] = {**cfg["rope_scaling"], **fields}
    return change


def _fill(part, value):
    def change(cfg, tensors):
        hit = [name for name in tensors if part in name]
        assert hit, part
        for name in hit:
            tensors[name] = torch.full_like(tensors[name], value)
    return change


def _theta(cfg, tensors):
    if cfg.get("rope_parameters"):
        cfg["rope_parameters"]["rope_theta"] = 10000.0
    else:
        cfg["rope_theta"] = 10000.0 if cfg["rope_theta"] > 1e5 else 1e6


def _window(cfg, tensors):
    cfg["use_sliding_window"] = True
    cfg["sliding_window"] = cfg.get("sliding_window") or 8


def _swap_gate_up(cfg, tensors):
    for name, t in tensors.items():
        if "gate_up_proj" in name:
            tensors[name] = torch.cat(t.chunk(2, 1)[::-1], 1)


def _equal_mscale(cfg, tensors):
    both = cfg["rope_scaling"]["mscale_all_dim"]
    cfg["rope_scaling"] = {**cfg["rope_scaling"], "mscale": both}


def _no_inner_norm(cfg, tensors):
    for name in tensors:
        if "_a_layernorm" in name:
            tensors[name] = torch.ones_like(tensors[name])


CONFIG = {
    "renormalise": _toggle("norm_topk_prob"),
    "scale": _times("routed_scaling_factor", 0.5),
    "rope_theta": _theta,
    "no_yarn": _set("rope_scaling", None),
    "no_mscale": _yarn(mscale_all_dim=0, mscale=0),
    "equal_mscale": _equal_mscale,
    "betas": _yarn(beta_fast=32),
    # As if the end of the ramp were clamped to the number of pairs.
    "short_ramp": _yarn(beta_slow=1.7),
    "greedy": _set("topk_method", "greedy"),
    "one_group": _set("topk_group", 1),
    "no_shared": _set("n_shared_experts", 0),
    "inner_norm": _no_inner_norm,
    "no_score_bias": _fill("e_score_correction_bias", 0.0),
    "no_qkv_bias": _fill("_proj.bias", 0.0),
    "no_shared_gate": _fill("shared_expert_gate", 0.0),
    "no_qk_norm": _fill("_norm.weight", 1.0),
    "windowed": _window,
    "no_window": _set("sliding_window", None),
    "longer_window": _set("sliding_window", 13),
    "no_clip": _set("clip_qkv", None),
    "swap_gate_up": _swap_gate_up,
    "attention_multiplier": _set("attention_multiplier", 10 ** -0.5),
    "embedding_multiplier": _set("embedding_multiplier", 1.0),
    "residual_multiplier": _set("residual_multiplier", 1.0),
    "logits_scaling": _set("logits_scaling", 1.0),
}


def _raw_mixtral(cfg, logits, k):
    p = logits.softmax(-1)
    w, idx = p.topk(k, -1)
    return w, idx, reference.gap(p, k)


def _scale_after_norm(cfg, logits, k):
    w, idx, margin = reference.route_softmax(cfg, logits, k)
    return w * cfg["routed_scaling_factor"], idx, margin


right_expand = reference.expand_blocks


def _first_block(scale, shape):
    return scale[:1, :1].expand(shape)


def _transposed_blocks(scale, shape):
    if scale.shape[0] != scale.shape[1]:
        return right_expand(scale, shape)
    return right_expand(scale.T, shape)


CODE = {
    "first_block": ("expand_blocks", _first_block),
    "transposed_blocks": ("expand_blocks", _transposed_blocks),
    "rope_as_halves": ("rope_pairs", reference.rope_halves),
    "rope_as_pairs": ("rope_halves", reference.rope_pairs),
    "mask_zero": ("MASKED_SCORE", 0.0),
    "raw_mixtral": ("route_softmax", _raw_mixtral),
    "softmax_all": ("route_granite", _raw_mixtral),
    "scale_after_norm": ("route_v2", _scale_after_norm),
}


def run(name, ref, ids):
    """Logits of the reference with one mistake made; ref is not changed."""
    if name in CODE:
        attr, wrong = CODE[name]
        right = getattr(reference, attr)
        setattr(reference, attr, wrong)
        try:
            # Loaded again: the mistake may be in how files are read.
            return reference.Reference(ref.folder).forward(ids)[0]
        finally:
            setattr(reference, attr, right)
    cfg, tensors = copy.deepcopy(ref.cfg), dict(ref.t)
    CONFIG[name](cfg, tensors)
    return reference.Reference(ref.folder, cfg, tensors).forward(ids)[0]
