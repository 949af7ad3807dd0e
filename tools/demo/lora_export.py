# lora_export.py - a trained LoRA into the peft package's own files
# SPDX-License-Identifier: Apache-2.0
"""peft wraps the published model, takes the trained values, and saves.

transformers 5 holds routed experts as fused parameters, so peft targets them
by target_parameters: lora_A [experts * r, in] with the expert as the slow
index, lora_B [out, r * experts] with the expert as the fast one.
"""

from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM

from lora import ALPHA, ATTENTION, EXPERTS, RANK
from model import Model


def fused(pair: torch.nn.Module) -> tuple[Tensor, Tensor]:
    """[E, r, in], [E, out, r] -> what peft stores."""
    a, b = pair.lora_A.detach(), pair.lora_B.detach()
    return a.reshape(-1, a.shape[-1]), b.permute(1, 2, 0).reshape(
        b.shape[1], -1)


def wanted(model: Model) -> dict[str, tuple[Tensor, Tensor]]:
    """Module path in the wrapped model -> its pair."""
    pairs = {}
    for index, layer in enumerate(model.layers):
        stem = f"base_model.model.model.layers.{index}."
        for name in ATTENTION:
            pair = layer.self_attn.lora[name]
            pairs[f"{stem}self_attn.{name}"] = (pair.lora_A.detach(),
                                                pair.lora_B.detach())
    for index, experts in model.moe_layers().items():
        stem = f"base_model.model.model.layers.{index}.mlp.experts"
        pairs[f"{stem}.base_layer"] = fused(experts.lora["gate_up_proj"])
        pairs[stem] = fused(experts.lora["down_proj"])
    return pairs


def write(model: Model, base: Path, folder: Path) -> None:
    """adapter_config.json, adapter_model.safetensors (bf16)."""
    library = AutoModelForCausalLM.from_pretrained(base,
                                                   dtype=torch.bfloat16)
    config = LoraConfig(
        r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, bias="none",
        task_type="CAUSAL_LM", target_modules=list(ATTENTION),
        target_parameters=[f"mlp.experts.{n}" for n in EXPERTS])
    wrapped = get_peft_model(library, config)
    values = wanted(model)
    for path, (a, b) in values.items():
        module = wrapped.get_submodule(path)
        for holder, value in ((module.lora_A, a), (module.lora_B, b)):
            weight = holder["default"].weight
            assert weight.shape == value.shape, (path, weight.shape)
            weight.data = value.cpu().to(torch.bfloat16)
    held = sum(".lora_" in n for n, _ in wrapped.named_parameters())
    assert held == 2 * len(values), "peft made pairs that were not trained"
    wrapped.peft_config["default"].base_model_name_or_path = "../../model"
    wrapped.save_pretrained(folder)
    (folder / "adapter_model.safetensors").chmod(0o644)
    (folder / "README.md").unlink(missing_ok=True)
