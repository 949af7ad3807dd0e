# export.py - checkpoints as the files that others read
# SPDX-License-Identifier: Apache-2.0
"""Base: a Hugging Face folder. ESFT adapter: expert_cfg.json and the tuned
experts under DeepSeek's names. LoRA: written by the peft package itself.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from model import Model, config_json
from text_data import BOS, EOS, write_tokenizer_files


def published(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """One parameter of model.py under the names of the published models."""
    name = f"model.{name}".removesuffix(".weight")
    if name.endswith("gate_up_proj"):
        gate, up = tensor.chunk(2, -2)
        stem = name.removesuffix("gate_up_proj")
        return published_stack(stem, "gate_proj", gate) | \
            published_stack(stem, "up_proj", up)
    if name.endswith("down_proj"):
        return published_stack(name.removesuffix("down_proj"), "down_proj",
                               tensor)
    return {f"{name}.weight": tensor}


def published_stack(stem: str, name: str, tensor: Tensor
                    ) -> dict[str, Tensor]:
    """[experts, rows, columns], or one matrix."""
    if tensor.ndim == 2:
        return {f"{stem}{name}.weight": tensor}
    return {f"{stem}experts.{e}.{name}.weight": matrix
            for e, matrix in enumerate(tensor)}


def write_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """bf16, each tensor on its own storage; readable by everyone."""
    save_file({n: t.detach().cpu().to(torch.bfloat16).contiguous()
               for n, t in sorted(tensors.items())}, path, {"format": "pt"})
    path.chmod(0o644)


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")


def write_model(model: Model, tokenizer: Path, folder: Path) -> None:
    """The base model's folder, but for its README."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        tensors |= published(name, parameter)
    write_tensors(tensors, folder / "model.safetensors")
    write_json(folder / "config.json", config_json(model.shape))
    write_json(folder / "generation_config.json", {
        "_from_model_config": False, "bos_token_id": BOS,
        "eos_token_id": EOS, "do_sample": True, "temperature": 0.8,
        "top_p": 0.95})
    write_tokenizer_files(tokenizer, folder)


def load_rounded(model: Model, work: Path) -> Model:
    """The trained base with the weights that were published: adapters are
    trained on what they will be used with."""
    saved = torch.load(work / "base.pt", map_location="cpu")["model"]
    model.load_state_dict({n: p.to(torch.bfloat16).float()
                           for n, p in saved.items()})
    return model


def write_esft(model: Model, base_config: dict, folder: Path) -> None:
    """Experts in the order of their scores, layers as absolute indices."""
    folder.mkdir(parents=True, exist_ok=True)
    experts, tensors = {}, {}
    for index, layer in model.moe_layers().items():
        chosen = [int(k.split("_")[0]) for k in layer.tuned
                  if k.endswith("_gate_up")]
        experts[str(index)] = chosen
        for e in chosen:
            stem = f"model.layers.{index}.mlp.experts.{e}."
            gate, up = layer.tuned[f"{e}_gate_up"].chunk(2, 0)
            tensors |= {f"{stem}gate_proj.weight": gate,
                        f"{stem}up_proj.weight": up,
                        f"{stem}down_proj.weight": layer.tuned[f"{e}_down"]}
    name = "model-00001-of-000001.safetensors"
    write_tensors(tensors, folder / name)
    write_json(folder / "expert_cfg.json", {
        "experts": experts, "shared_experts": False,
        "non_expert_modules": False})
    write_json(folder / "model.safetensors.index.json", {
        "metadata": {"total_size": sum(2 * t.numel()
                                       for t in tensors.values())},
        "weight_map": {n: name for n in sorted(tensors)}})
    write_json(folder / "config.json", base_config)
