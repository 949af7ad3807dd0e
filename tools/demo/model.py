# model.py - the demo model for training: DeepSeek-V2, grouped experts
# SPDX-License-Identifier: Apache-2.0
"""The same function as transformers' DeepseekV2ForCausalLM (evaluate.py
proves it), laid out for speed on a CPU: the tokens are sorted by expert, each
expert multiplies once, and the loss is taken in pieces that fit the cache.
"""

import math
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Shape:
    """Names as in config.json."""

    vocab_size: int = 4096
    hidden_size: int = 192
    intermediate_size: int = 512
    moe_intermediate_size: int = 128
    num_hidden_layers: int = 5
    num_attention_heads: int = 4
    kv_lora_rank: int = 64
    qk_nope_head_dim: int = 48
    qk_rope_head_dim: int = 16
    v_head_dim: int = 64
    n_routed_experts: int = 16
    n_shared_experts: int = 1
    num_experts_per_tok: int = 2
    first_k_dense_replace: int = 1
    routed_scaling_factor: float = 2.5
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0


def config_json(shape: Shape) -> dict:
    """config.json of the published kind."""
    return {
        "architectures": ["DeepseekV2ForCausalLM"],
        "model_type": "deepseek_v2", **asdict(shape),
        "num_key_value_heads": shape.num_attention_heads,
        "q_lora_rank": None, "n_group": 1, "topk_group": 1,
        "topk_method": "greedy", "norm_topk_prob": False,
        "scoring_func": "softmax", "moe_layer_freq": 1,
        "rope_scaling": None, "max_position_embeddings": 16384,
        "tie_word_embeddings": True, "attention_bias": False,
        "attention_dropout": 0.0, "hidden_act": "silu",
        "initializer_range": 0.02, "bos_token_id": 0, "eos_token_id": 1,
        "use_cache": True, "torch_dtype": "bfloat16",
    }


class Norm(nn.Module):
    """RMSNorm."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + self.epsilon)
        return x * scale * self.weight


def matrix(rows: int, columns: int, *stack: int) -> nn.Parameter:
    """Uniform with variance 1 / (3 columns): what Muon likes to start at."""
    bound = 1 / math.sqrt(columns)
    return nn.Parameter(torch.empty(*stack, rows, columns)
                        .uniform_(-bound, bound))


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Adjacent pairs turned; x [..., T, D], angles [T, D/2]."""
    even, odd = x[..., 0::2], x[..., 1::2]
    cos, sin = angles.cos(), angles.sin()
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos),
                       -1).flatten(-2)


class Attention(nn.Module):
    """Multi-head latent attention, expanded, no query compression."""

    def __init__(self, s: Shape) -> None:
        super().__init__()
        self.s = s
        heads = s.num_attention_heads
        self.q_proj = matrix(
            heads * (s.qk_nope_head_dim + s.qk_rope_head_dim), s.hidden_size)
        self.kv_a_proj_with_mqa = matrix(
            s.kv_lora_rank + s.qk_rope_head_dim, s.hidden_size)
        self.kv_a_layernorm = Norm(s.kv_lora_rank, s.rms_norm_eps)
        self.kv_b_proj = matrix(
            heads * (s.qk_nope_head_dim + s.v_head_dim), s.kv_lora_rank)
        self.o_proj = matrix(s.hidden_size, heads * s.v_head_dim)
        with torch.no_grad():
            self.o_proj.mul_(0.1)
        self.lora: nn.ModuleDict | None = None

    def project(self, name: str, x: Tensor) -> Tensor:
        y = F.linear(x, getattr(self, name))
        if self.lora is not None and name in self.lora:
            y = y + self.lora[name](x)
        return y

    def forward(self, x: Tensor, angles: Tensor) -> Tensor:
        s, (b, t, _) = self.s, x.shape
        heads, nope = s.num_attention_heads, s.qk_nope_head_dim
        q = self.project("q_proj", x).view(b, t, heads, -1).transpose(1, 2)
        latent = self.project("kv_a_proj_with_mqa", x)
        kv = self.project("kv_b_proj", self.kv_a_layernorm(
            latent[..., :s.kv_lora_rank]))
        kv = kv.view(b, t, heads, -1).transpose(1, 2)
        k_rope = rotate(latent[:, None, :, s.kv_lora_rank:], angles)
        q = torch.cat((q[..., :nope], rotate(q[..., nope:], angles)), -1)
        k = torch.cat((kv[..., :nope], k_rope.expand(-1, heads, -1, -1)), -1)
        y = F.scaled_dot_product_attention(q, k, kv[..., nope:],
                                           is_causal=True)
        return self.project("o_proj", y.transpose(1, 2).reshape(b, t, -1))


class Mlp(nn.Module):
    """SwiGLU; gate and up in one matrix, gate first."""

    def __init__(self, hidden: int, width: int) -> None:
        super().__init__()
        self.gate_up_proj = matrix(2 * width, hidden)
        self.down_proj = matrix(hidden, width)
        with torch.no_grad():
            self.down_proj.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = F.linear(x, self.gate_up_proj).chunk(2, -1)
        return F.linear(F.silu(gate) * up, self.down_proj)


class Experts(nn.Module):
    """Router, routed experts and the shared one."""

    def __init__(self, s: Shape) -> None:
        super().__init__()
        self.s = s
        count, width = s.n_routed_experts, s.moe_intermediate_size
        self.gate = nn.Parameter(torch.randn(count, s.hidden_size) * 0.02)
        self.gate_up_proj = matrix(2 * width, s.hidden_size, count)
        self.down_proj = matrix(s.hidden_size, width, count)
        with torch.no_grad():
            self.down_proj.mul_(0.1)
        self.shared_experts = Mlp(s.hidden_size,
                                  width * s.n_shared_experts)
        self.tuned: nn.ParameterDict | None = None  # "e" -> gate_up, down
        self.lora: nn.ModuleDict | None = None
        self.watch = None  # called with (scores, chosen) of each batch

    def expert(self, e: int, x: Tensor, gate_up: Tensor,
               down: Tensor) -> Tensor:
        both = F.linear(x, gate_up)
        if self.lora is not None:
            both = both + self.lora["gate_up_proj"](x, e)
        gate, up = both.chunk(2, -1)
        inner = F.silu(gate) * up
        y = F.linear(inner, down)
        if self.lora is not None:
            y = y + self.lora["down_proj"](inner, e)
        return y

    def weights(self, e: int, gate_ups, downs) -> tuple[Tensor, Tensor]:
        """Those of the adapter where it has trained the expert."""
        if self.tuned is not None and f"{e}_gate_up" in self.tuned:
            return self.tuned[f"{e}_gate_up"], self.tuned[f"{e}_down"]
        return gate_ups[e], downs[e]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The output, and how unevenly the experts were used (1: evenly)."""
        s, shape = self.s, x.shape
        x = x.reshape(-1, s.hidden_size)
        scores = F.linear(x, self.gate).softmax(-1)
        weight, chosen = scores.topk(s.num_experts_per_tok, -1)
        if self.watch is not None:
            self.watch(scores, chosen)
        flat = chosen.flatten()
        order = flat.argsort(stable=True)
        counts = torch.bincount(flat, minlength=s.n_routed_experts)
        balance = s.n_routed_experts * \
            (counts / len(order) * scores.mean(0)).sum()
        rows = x[order // s.num_experts_per_tok].split(counts.tolist())
        gate_ups, downs = self.gate_up_proj.unbind(0), self.down_proj.unbind(0)
        out = torch.cat([self.expert(e, r, *self.weights(e, gate_ups, downs))
                         for e, r in enumerate(rows)])
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order), device=x.device)
        out = out[place].view(*chosen.shape, -1)
        weight = (weight * s.routed_scaling_factor).unsqueeze(-2)
        out = (weight @ out).squeeze(-2) + self.shared_experts(x)
        return out.view(shape), balance


class Layer(nn.Module):
    """x += attention(norm x); x += mlp(norm x)."""

    def __init__(self, s: Shape, index: int) -> None:
        super().__init__()
        self.input_layernorm = Norm(s.hidden_size, s.rms_norm_eps)
        self.self_attn = Attention(s)
        self.post_attention_layernorm = Norm(s.hidden_size, s.rms_norm_eps)
        dense = index < s.first_k_dense_replace
        self.mlp = Mlp(s.hidden_size, s.intermediate_size) if dense \
            else Experts(s)

    def forward(self, x: Tensor, angles: Tensor
                ) -> tuple[Tensor, Tensor | None]:
        x = x + self.self_attn(self.input_layernorm(x), angles)
        y, balance = self.post_attention_layernorm(x), None
        if isinstance(self.mlp, Experts):
            y, balance = self.mlp(y)
        else:
            y = self.mlp(y)
        return x + y, balance


class Model(nn.Module):
    """Tied embeddings."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Parameter(
            torch.randn(shape.vocab_size, shape.hidden_size) * 0.02)
        self.layers = nn.ModuleList(
            Layer(shape, i) for i in range(shape.num_hidden_layers))
        self.norm = Norm(shape.hidden_size, shape.rms_norm_eps)

    def moe_layers(self) -> dict[int, Experts]:
        return {i: layer.mlp for i, layer in enumerate(self.layers)
                if isinstance(layer.mlp, Experts)}

    def hidden(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        dim = self.shape.qk_rope_head_dim
        inverse = self.shape.rope_theta ** (
            -torch.arange(0, dim, 2, device=ids.device) / dim)
        angles = torch.outer(torch.arange(ids.shape[1], device=ids.device),
                             inverse)
        x = F.embedding(ids, self.embed_tokens)
        balances = []
        for layer in self.layers:
            x, balance = layer(x, angles)
            if balance is not None:
                balances.append(balance)
        return self.norm(x), torch.stack(balances).mean()

    def losses(self, ids: Tensor, piece: int = 1024
               ) -> tuple[Tensor, Tensor]:
        """-log p of ids[:, 1:], flat, and the balance; ids [B, T + 1]."""
        x, balance = self.hidden(ids[:, :-1])
        targets = ids[:, 1:].flatten()
        return torch.cat([
            F.cross_entropy(F.linear(a, self.embed_tokens), b,
                            reduction="none")
            for a, b in zip(x.flatten(0, 1).split(piece),
                            targets.split(piece))]), balance
