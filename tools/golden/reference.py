# reference.py - every family's forward pass in float64 (checkpoint -> logits)
# SPDX-License-Identifier: Apache-2.0
"""A second, independent implementation used as the specification oracle.

It reads config.json and the safetensors files as they lie on disk and uses no
model code of any library. Written for reading: no cache, no batching, one
function per rule. Shapes: n tokens, H hidden, E experts, k chosen, V vocab.

Margins: for each position the smallest distance, over the MoE layers, by
which the choice of experts was decided, in the scale in which the family
chooses (probabilities; biased sigmoid scores for DeepSeek-V3; logits for
Granite). Group-limited choices count the distance between groups too.
"""

import json
import math
import pathlib

import torch
from safetensors import safe_open

DTYPE = torch.float64
FP8_BLOCK = 128
# DeepSeek's own code masks the groups that lost with -inf.
MASKED_SCORE = float("-inf")
# MLA's two inner norms do not follow rms_norm_eps in DeepSeek's own code.
MLA_NORM_EPS = 1e-6


def load_tensors(folder):
    """Every tensor of every *.safetensors, widened; fp8 blocks expanded."""
    raw = {}
    for file in sorted(pathlib.Path(folder).glob("*.safetensors")):
        with safe_open(file, "pt") as f:
            raw.update({name: f.get_tensor(name) for name in f.keys()})
    out = {}
    for name, t in raw.items():
        if name.endswith("_scale_inv"):
            continue
        out[name] = t.to(DTYPE)
        scale = raw.get(name + "_scale_inv")
        if scale is not None:
            out[name] *= expand_blocks(scale, t.shape).to(DTYPE)
    return out


def expand_blocks(scale, shape):
    """One scale per 128x128 block; the last row and column may be short."""
    s = scale.repeat_interleave(FP8_BLOCK, 0).repeat_interleave(FP8_BLOCK, 1)
    return s[: shape[0], : shape[1]]


# ---- configuration: one place for the fields that vary by family ----------

def rope_theta(cfg):
    return cfg.get("rope_theta") or cfg["rope_parameters"]["rope_theta"]


def yarn(cfg):
    """The YaRN parameters, or None. Old files say type, new ones rope_type."""
    s = cfg.get("rope_scaling") or cfg.get("rope_parameters") or {}
    kind = s.get("rope_type") or s.get("type") or "default"
    if kind == "default":
        return None
    if kind != "yarn":
        raise ValueError("rope scaling " + kind)
    return s


def is_moe_layer(cfg, l):
    if cfg["model_type"].startswith("deepseek"):
        first = cfg["first_k_dense_replace"]
        return l >= first and l % cfg.get("moe_layer_freq", 1) == 0
    if cfg["model_type"].startswith("qwen"):
        return (l not in cfg.get("mlp_only_layers", [])
                and (l + 1) % cfg.get("decoder_sparse_step", 1) == 0)
    return True


def window(cfg):
    """Tokens a query may see, itself included; None is all before it."""
    if "use_sliding_window" in cfg and not cfg["use_sliding_window"]:
        return None
    return cfg.get("sliding_window")


def granite(cfg, field):
    return cfg[field] if cfg["model_type"] == "granitemoe" else 1.0


# ---- small pieces ---------------------------------------------------------

def rms_norm(x, w, eps):
    return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + eps) * w


def swiglu(x, gate, up, down):
    g = x @ gate.T
    return (g * torch.sigmoid(g) * (x @ up.T)) @ down.T


def yarn_gain(factor, m):
    return 0.1 * m * math.log(factor) + 1.0 if factor > 1 else 1.0


def yarn_pair(rot, dim, theta, orig):
    """The (real-valued) pair that turns rot times within orig positions."""
    return dim * math.log(orig / (rot * 2 * math.pi)) / (2 * math.log(theta))


def rope_tables(cfg, dim, n):
    """cos and sin, each [n, dim/2]."""
    theta, s = rope_theta(cfg), yarn(cfg)
    pair = torch.arange(dim // 2, dtype=DTYPE)
    freq = theta ** (-2 * pair / dim)
    gain = 1.0
    if s:
        orig, factor = s["original_max_position_embeddings"], s["factor"]
        low = yarn_pair(s.get("beta_fast", 32), dim, theta, orig)
        high = yarn_pair(s.get("beta_slow", 1), dim, theta, orig)
        low, high = max(math.floor(low), 0), min(math.ceil(high), dim - 1)
        span = max(high - low, 0.001)
        ramp = ((pair - low) / span).clamp(0, 1)
        freq = freq / factor * ramp + freq * (1 - ramp)
        gain = (yarn_gain(factor, s.get("mscale", 1))
                / yarn_gain(factor, s.get("mscale_all_dim", 0)))
    angle = torch.arange(n, dtype=DTYPE)[:, None] * freq
    return angle.cos() * gain, angle.sin() * gain


def rope_halves(x, cos, sin):
    """x [n, heads, dim]; pair i is (i, i + dim/2)."""
    a, b = x.chunk(2, -1)
    cos, sin = cos[:, None], sin[:, None]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def rope_pairs(x, cos, sin):
    """x [n, heads, dim]; pair i is (2i, 2i + 1)."""
    a, b = x[..., 0::2], x[..., 1::2]
    cos, sin = cos[:, None], sin[:, None]
    return torch.stack([a * cos - b * sin, b * cos + a * sin], -1).flatten(-2)


def attend(q, k, v, scale, seen):
    """q [n, heads, d], k and v [n, kv_heads, .] -> [n, heads * dv]."""
    n, group = q.shape[0], q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    score = torch.einsum("qhd,khd->hqk", q, k) * scale
    back = torch.arange(n)[:, None] - torch.arange(n)[None, :]
    hidden = (back < 0) | (back >= (seen or n))
    p = score.masked_fill(hidden, float("-inf")).softmax(-1)
    return torch.einsum("hqk,khd->qhd", p, v).reshape(n, -1)


# ---- choosing experts -----------------------------------------------------

def gap(scores, k):
    """Distance between the k-th and the next score; inf when all are taken."""
    if k >= scores.shape[-1]:
        return torch.full(scores.shape[:-1], math.inf, dtype=DTYPE)
    s = scores.sort(-1, descending=True).values
    return s[..., k - 1] - s[..., k]


def keep_groups(scores, group_scores, keep, masked):
    """scores [n, E] with the experts of losing groups masked; group gap."""
    best = group_scores.topk(keep, -1).indices
    lost = torch.ones_like(group_scores).scatter(1, best, 0).bool()
    per_group = scores.shape[1] // group_scores.shape[1]
    lost = lost.repeat_interleave(per_group, 1)
    return scores.masked_fill(lost, masked), gap(group_scores, keep)


def route_softmax(cfg, logits, k):
    """Softmax over all, top-k, optional renormalisation."""
    p = logits.softmax(-1)
    w, idx = p.topk(k, -1)
    if cfg["model_type"] == "mixtral" or cfg.get("norm_topk_prob", False):
        w = w / w.sum(-1, keepdim=True)
    return w, idx, gap(p, k)


def route_granite(cfg, logits, k):
    top, idx = logits.topk(k, -1)
    return top.softmax(-1), idx, gap(logits, k)


def route_v2(cfg, logits, k):
    p = choice = logits.softmax(-1)
    margin = torch.full(p.shape[:1], math.inf, dtype=DTYPE)
    if cfg["topk_method"] == "group_limited_greedy":
        best = p.unflatten(1, (cfg["n_group"], -1)).amax(-1)
        choice, margin = keep_groups(p, best, cfg["topk_group"], 0.0)
    w, idx = choice.topk(k, -1)
    if k > 1 and cfg["norm_topk_prob"]:
        # The scaling factor is skipped, not applied after it.
        w = w / (w.sum(-1, keepdim=True) + 1e-20)
    else:
        w = w * cfg["routed_scaling_factor"]
    return w, idx, torch.minimum(margin, gap(choice, k))


def route_v3(cfg, logits, k, bias):
    """Biased scores choose, unbiased ones weigh."""
    s = logits.sigmoid()
    choice = s + bias
    grouped = choice.unflatten(1, (cfg["n_group"], -1))
    best = grouped.topk(2, -1).values.sum(-1)
    keep = cfg["topk_group"]
    choice, margin = keep_groups(choice, best, keep, MASKED_SCORE)
    idx = choice.topk(k, -1).indices
    w = s.gather(1, idx)
    if cfg["norm_topk_prob"]:
        w = w / (w.sum(-1, keepdim=True) + 1e-20)
    w = w * cfg["routed_scaling_factor"]
    return w, idx, torch.minimum(margin, gap(choice, k))


# ---- the model ------------------------------------------------------------

class Reference:
    def __init__(self, folder, cfg=None, tensors=None):
        self.folder = pathlib.Path(folder)
        config = self.folder / "config.json"
        self.cfg = cfg or json.loads(config.read_text())
        self.t = load_tensors(folder) if tensors is None else tensors

    def mla(self, pre, x):
        c, t, n = self.cfg, self.t, x.shape[0]
        nope, rot, vd = (c["qk_nope_head_dim"], c["qk_rope_head_dim"],
                         c["v_head_dim"])
        heads, rank = c["num_attention_heads"], c["kv_lora_rank"]
        if c["q_lora_rank"] is None:
            q = x @ t[pre + "q_proj.weight"].T
        else:
            q = rms_norm(x @ t[pre + "q_a_proj.weight"].T,
                         t[pre + "q_a_layernorm.weight"], MLA_NORM_EPS)
            q = q @ t[pre + "q_b_proj.weight"].T
        q = q.view(n, heads, nope + rot)
        a = x @ t[pre + "kv_a_proj_with_mqa.weight"].T
        kv = rms_norm(a[:, :rank], t[pre + "kv_a_layernorm.weight"],
                      MLA_NORM_EPS)
        kv = (kv @ t[pre + "kv_b_proj.weight"].T).view(n, heads, nope + vd)
        cos, sin = rope_tables(c, rot, n)
        q_rot = rope_pairs(q[..., nope:], cos, sin)
        k_rot = rope_pairs(a[:, None, rank:], cos, sin)
        q = torch.cat([q[..., :nope], q_rot], -1)
        k = torch.cat([kv[..., :nope], k_rot.expand(-1, heads, -1)], -1)
        scale = (nope + rot) ** -0.5
        if yarn(c):
            m = yarn(c).get("mscale_all_dim", 0)
            scale *= yarn_gain(yarn(c)["factor"], m) ** 2
        out = attend(q, k, kv[..., nope:], scale, None)
        return out @ t[pre + "o_proj.weight"].T

    def gqa(self, pre, x):
        c, t, n = self.cfg, self.t, x.shape[0]
        heads, kv_heads = c["num_attention_heads"], c["num_key_value_heads"]
        dim = c.get("head_dim") or c["hidden_size"] // heads
        eps = c["rms_norm_eps"]
        q, k, v = (x @ t[pre + p + "_proj.weight"].T
                   + t.get(pre + p + "_proj.bias", 0.0) for p in "qkv")
        if c["model_type"] == "olmoe":
            q = rms_norm(q, t[pre + "q_norm.weight"], eps)
            k = rms_norm(k, t[pre + "k_norm.weight"], eps)
            lim = c["clip_qkv"] or math.inf
            q, k, v = (z.clamp(-lim, lim) for z in (q, k, v))
        q = q.view(n, heads, dim)
        k, v = (z.view(n, kv_heads, dim) for z in (k, v))
        if c["model_type"] == "qwen3_moe":
            q = rms_norm(q, t[pre + "q_norm.weight"], eps)
            k = rms_norm(k, t[pre + "k_norm.weight"], eps)
        cos, sin = rope_tables(c, dim, n)
        scale = c.get("attention_multiplier", dim ** -0.5)
        out = attend(rope_halves(q, cos, sin), rope_halves(k, cos, sin), v,
                     scale, window(c))
        return out @ t[pre + "o_proj.weight"].T

    def expert(self, pre, e):
        """gate, up, down of expert e, whichever way the file names them."""
        t = self.t
        for fused, down in (("experts.gate_up_proj", "experts.down_proj"),
                            ("input_linear.weight", "output_linear.weight")):
            if pre + fused in t:
                gate, up = t[pre + fused][e].chunk(2, 0)
                return gate, up, t[pre + down][e]
        one = f"{pre}experts.{e}."
        names = ("gate_proj", "up_proj", "down_proj")
        if one + "w1.weight" in t:
            names = ("w1", "w3", "w2")
        return tuple(t[one + name + ".weight"] for name in names)

    def dense(self, pre, x):
        return swiglu(x, *(self.t[f"{pre}{p}_proj.weight"]
                           for p in ("gate", "up", "down")))

    def route(self, pre, x):
        c, t = self.cfg, self.t
        k, family = c["num_experts_per_tok"], c["model_type"]
        if family == "granitemoe":
            return route_granite(c, x @ t[pre + "router.layer.weight"].T, k)
        logits = x @ t[pre + "gate.weight"].T
        if family == "deepseek_v2":
            return route_v2(c, logits, k)
        if family == "deepseek_v3":
            bias = t[pre + "gate.e_score_correction_bias"]
            return route_v3(c, logits, k, bias)
        return route_softmax(c, logits, k)

    def moe(self, pre, x):
        c, t = self.cfg, self.t
        w, idx, margin = self.route(pre, x)
        y = torch.zeros_like(x)
        for e in idx.unique().tolist():
            row, slot = torch.where(idx == e)
            one = swiglu(x[row], *self.expert(pre, e))
            y[row] += w[row, slot, None] * one
        if c.get("n_shared_experts"):
            y += self.dense(pre + "shared_experts.", x)
        if pre + "shared_expert_gate.weight" in t:
            gate = torch.sigmoid(x @ t[pre + "shared_expert_gate.weight"].T)
            y += gate * self.dense(pre + "shared_expert.", x)
        return y, margin

    def forward(self, ids):
        """ids: list of n -> logits [n, V], margin [n], both float64."""
        c, t = self.cfg, self.t
        eps, mla = c["rms_norm_eps"], "kv_lora_rank" in c
        sparse = c["model_type"] in ("mixtral", "granitemoe")
        block = "block_sparse_moe." if sparse else "mlp."
        add = granite(c, "residual_multiplier")
        h = t["model.embed_tokens.weight"][ids]
        h = h * granite(c, "embedding_multiplier")
        margin = torch.full((len(ids),), math.inf, dtype=DTYPE)
        for l in range(c["num_hidden_layers"]):
            pre = f"model.layers.{l}."
            x = rms_norm(h, t[pre + "input_layernorm.weight"], eps)
            mix = self.mla if mla else self.gqa
            h = h + add * mix(pre + "self_attn.", x)
            x = rms_norm(h, t[pre + "post_attention_layernorm.weight"], eps)
            if is_moe_layer(c, l):
                y, m = self.moe(pre + block, x)
                margin = torch.minimum(margin, m)
            else:
                y = self.dense(pre + "mlp.", x)
            h = h + add * y
        h = rms_norm(h, t["model.norm.weight"], eps)
        head = "model.embed_tokens" if c["tie_word_embeddings"] else "lm_head"
        return h @ t[head + ".weight"].T / granite(c, "logits_scaling"), margin
