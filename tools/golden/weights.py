# weights.py - random checkpoints under the names that families publish
# SPDX-License-Identifier: Apache-2.0
"""Draws every tensor from (seed, its name), so order does not matter.

All values survive bf16: they are drawn in float64, rounded to bf16, and only
then stored as bf16, f16 or f32 (f16 values are rounded to both). fp8 weights
are quantised from the bf16 values, one scale per 128x128 block; the scales
have four significant bits, so that value * scale survives bf16 as well.
"""

import zlib

import numpy as np
import torch

from reference import FP8_BLOCK, expand_blocks, is_moe_layer

LINEAR_GAIN = 1.2
HEAD_GAIN = 2.2
FP8_MAX = 448.0


def attention_specs(cfg, pre):
    H, heads = cfg["hidden_size"], cfg["num_attention_heads"]
    pre += "self_attn."
    if "kv_lora_rank" in cfg:
        nope, rot = cfg["qk_nope_head_dim"], cfg["qk_rope_head_dim"]
        vd, rank = cfg["v_head_dim"], cfg["kv_lora_rank"]
        q, q_rank = heads * (nope + rot), cfg["q_lora_rank"]
        if q_rank is None:
            yield pre + "q_proj.weight", (q, H), "linear"
        else:
            yield pre + "q_a_proj.weight", (q_rank, H), "linear"
            yield pre + "q_a_layernorm.weight", (q_rank,), "norm"
            yield pre + "q_b_proj.weight", (q, q_rank), "linear"
        yield pre + "kv_a_proj_with_mqa.weight", (rank + rot, H), "linear"
        yield pre + "kv_a_layernorm.weight", (rank,), "norm"
        yield (pre + "kv_b_proj.weight", (heads * (nope + vd), rank),
               "linear")
        yield pre + "o_proj.weight", (H, heads * vd), "linear"
        return
    kv_heads = cfg["num_key_value_heads"]
    dim = cfg.get("head_dim") or H // heads
    width = {"q": heads * dim, "k": kv_heads * dim, "v": kv_heads * dim}
    for p, rows in width.items():
        yield f"{pre}{p}_proj.weight", (rows, H), "linear"
        if cfg["model_type"] == "qwen2_moe":
            yield f"{pre}{p}_proj.bias", (rows,), "bias"
    yield pre + "o_proj.weight", (H, width["q"]), "linear"
    if cfg["model_type"] in ("qwen3_moe", "olmoe"):
        full = cfg["model_type"] == "olmoe"
        yield pre + "q_norm.weight", (width["q"] if full else dim,), "norm"
        yield pre + "k_norm.weight", (width["k"] if full else dim,), "norm"


def mlp_specs(pre, H, inner):
    yield pre + "gate_proj.weight", (inner, H), "linear"
    yield pre + "up_proj.weight", (inner, H), "linear"
    yield pre + "down_proj.weight", (H, inner), "linear"


def moe_specs(cfg, pre, fused):
    H, family = cfg["hidden_size"], cfg["model_type"]
    E = (cfg.get("n_routed_experts") or cfg.get("num_experts")
         or cfg["num_local_experts"])
    inner = cfg.get("moe_intermediate_size") or cfg["intermediate_size"]
    if family == "granitemoe":
        pre += "block_sparse_moe."
        yield pre + "router.layer.weight", (E, H), "router"
        yield pre + "input_linear.weight", (E, 2 * inner, H), "linear"
        yield pre + "output_linear.weight", (E, H, inner), "linear"
        return
    pre += "block_sparse_moe." if family == "mixtral" else "mlp."
    yield pre + "gate.weight", (E, H), "router"
    if family == "deepseek_v3":
        yield pre + "gate.e_score_correction_bias", (E,), "score_bias"
    if fused:
        yield pre + "experts.gate_up_proj", (E, 2 * inner, H), "linear"
        yield pre + "experts.down_proj", (E, H, inner), "linear"
    for e in range(0 if fused else E):
        one = f"{pre}experts.{e}."
        if family == "mixtral":
            yield one + "w1.weight", (inner, H), "linear"
            yield one + "w2.weight", (H, inner), "linear"
            yield one + "w3.weight", (inner, H), "linear"
        else:
            yield from mlp_specs(one, H, inner)
    if cfg.get("n_shared_experts"):
        yield from mlp_specs(pre + "shared_experts.", H,
                             inner * cfg["n_shared_experts"])
    if family == "qwen2_moe":
        yield from mlp_specs(pre + "shared_expert.", H,
                             cfg["shared_expert_intermediate_size"])
        yield pre + "shared_expert_gate.weight", (1, H), "linear"


def layer_specs(cfg, l, fused):
    pre, H = f"model.layers.{l}.", cfg["hidden_size"]
    yield pre + "input_layernorm.weight", (H,), "norm"
    yield from attention_specs(cfg, pre)
    yield pre + "post_attention_layernorm.weight", (H,), "norm"
    if is_moe_layer(cfg, l):
        yield from moe_specs(cfg, pre, fused)
    else:
        yield from mlp_specs(pre + "mlp.", H, cfg["intermediate_size"])


def mtp_specs(cfg, l):
    """What DeepSeek-V3 stores as layer num_hidden_layers; unused here."""
    pre, H, V = f"model.layers.{l}.", cfg["hidden_size"], cfg["vocab_size"]
    yield pre + "embed_tokens.weight", (V, H), "embed"
    yield pre + "enorm.weight", (H,), "norm"
    yield pre + "hnorm.weight", (H,), "norm"
    yield pre + "eh_proj.weight", (H, 2 * H), "linear"
    yield pre + "shared_head.norm.weight", (H,), "norm"
    yield pre + "shared_head.head.weight", (V, H), "head"


def specs(case):
    cfg, fused = case["config"], case.get("fused", False)
    H, V, L = (cfg["hidden_size"], cfg["vocab_size"],
               cfg["num_hidden_layers"])
    yield "model.embed_tokens.weight", (V, H), "embed"
    for l in range(L + case.get("mtp", 0)):
        yield from layer_specs(cfg, l, fused)
        if l >= L:
            yield from mtp_specs(cfg, l)
    yield "model.norm.weight", (H,), "last_norm"
    if not cfg["tie_word_embeddings"]:
        yield "lm_head.weight", (V, H), "head"


def draw(case, name, shape, kind):
    """One tensor, float64, before rounding."""
    rng = np.random.default_rng([case["seed"], zlib.crc32(name.encode())])
    w = rng.standard_normal(shape)
    if kind == "linear":
        return w * LINEAR_GAIN / shape[-1] ** 0.5
    if kind == "router":
        return w * case["router"] / shape[-1] ** 0.5
    if kind == "embed":
        return w * case.get("embed", 1.0)
    if kind == "head":
        return w * HEAD_GAIN / shape[-1] ** 0.5
    if kind == "bias":
        return w * 0.5
    if kind == "score_bias":
        return w * 0.4 - 0.3
    w = 1 + 0.2 * w
    if kind == "last_norm" and case["config"]["tie_word_embeddings"]:
        # A tied head would mostly repeat its input; signs break that.
        w *= rng.choice([-1.0, 1.0], shape)
    return w


def four_bits_up(x):
    """The next number above x with four significant bits."""
    mantissa, exponent = np.frexp(x)
    return np.ldexp(np.ceil(mantissa * 16) / 16, exponent)


def quantise_fp8(w, seed):
    """w [rows, cols] -> e4m3 values and one float32 scale per block.

    Each block is first stretched by its own factor, so that a scale taken
    from the wrong block cannot pass unnoticed.
    """
    blocks = tuple(-(-s // FP8_BLOCK) for s in w.shape)
    rng = np.random.default_rng(seed)
    stretch = torch.tensor(rng.uniform(0.5, 1.8, blocks)).float()
    w = w.float() * expand_blocks(stretch, w.shape)
    scale = torch.empty(blocks)
    for r in range(blocks[0]):
        for c in range(blocks[1]):
            part = w[r * FP8_BLOCK:(r + 1) * FP8_BLOCK,
                     c * FP8_BLOCK:(c + 1) * FP8_BLOCK]
            scale[r, c] = four_bits_up(part.abs().max().item() / FP8_MAX)
    q = (w / expand_blocks(scale, w.shape)).clamp(-FP8_MAX, FP8_MAX)
    return q.to(torch.float8_e4m3fn), scale


def make(case):
    """name -> tensor, exactly as it goes to disk."""
    store = getattr(torch, case.get("store", "bfloat16"))
    out = {}
    for name, shape, kind in specs(case):
        w = torch.from_numpy(draw(case, name, shape, kind))
        if kind == "score_bias":
            out[name] = w.float()
            continue
        w = w.to(torch.bfloat16)
        if case.get("fp8") and kind == "linear":
            seed = [case["seed"], zlib.crc32(name.encode()), 8]
            q, scale = quantise_fp8(w, seed)
            wide = q.float() * expand_blocks(scale, q.shape)
            assert (wide.to(torch.bfloat16).float() == wide).all()
            out[name], out[name + "_scale_inv"] = q, scale
            continue
        out[name] = w.to(store)
        assert (out[name].to(torch.bfloat16).to(store) == out[name]).all()
    return out
