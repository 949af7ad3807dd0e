#!/usr/bin/env python3
# to_gguf.py - a Qwen3-MoE directory as one GGUF file (safetensors -> bf16 GGUF)
# SPDX-License-Identifier: Apache-2.0
"""usage: to_gguf.py MODEL_DIR OUT.gguf

For the benchmark's peer: the same bf16 bits under llama.cpp's names. Norms and
the router are widened to f32, which is exact, as llama.cpp's own converter
does. There is no tokenizer: prompts are token ids.
"""
import json
import os
import struct
import sys

import gguf
import numpy as np

ATTENTION = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate": "ffn_gate_inp",
}
EXPERTS = {
    "gate_proj": "ffn_gate_exps",
    "up_proj": "ffn_up_exps",
    "down_proj": "ffn_down_exps",
}
TOP = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}


def open_tensors(path):
    """Name -> uint16 array [shape], mapped from the file."""
    with open(path, "rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        header = json.loads(file.read(length))
    data = np.memmap(path, dtype=np.uint8, mode="r", offset=8 + length)
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if entry["dtype"] != "BF16":
            sys.exit(f"{name}: {entry['dtype']}, expected BF16")
        begin, end = entry["data_offsets"]
        tensors[name] = data[begin:end].view(np.uint16).reshape(entry["shape"])
    return tensors


def add_keys(writer, config):
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_expert_count(config["num_experts"])
    writer.add_expert_used_count(config["num_experts_per_tok"])
    writer.add_expert_feed_forward_length(config["moe_intermediate_size"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    writer.add_tokenizer_model("none")


def widen(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


class Converter:
    """Announces every tensor first, then writes them in the same order."""

    def __init__(self, writer, tensors, config):
        self.writer = writer
        self.tensors = tensors
        self.config = config
        self.order = []  # functions that give the data

    def add(self, name, parts, wide):
        shape = self.tensors[parts[0]].shape
        if len(parts) > 1:
            shape = (len(parts), *shape)
        count = int(np.prod(shape))
        kind = np.dtype(np.float32 if wide else np.uint16)
        self.writer.add_tensor_info(
            name,
            shape,
            kind,
            count * kind.itemsize,
            raw_dtype=None if wide else gguf.GGMLQuantizationType.BF16,
        )
        self.order.append((parts, wide))

    def data(self, parts, wide):
        taken = [self.tensors.pop(part) for part in parts]
        array = taken[0] if len(taken) == 1 else np.stack(taken)
        return widen(np.asarray(array)) if wide else np.ascontiguousarray(array)

    def announce(self):
        for ours, theirs in TOP.items():
            self.add(theirs, [ours], "norm" in ours)
        for layer in range(self.config["num_hidden_layers"]):
            self.announce_layer(f"model.layers.{layer}.", f"blk.{layer}.")

    def announce_layer(self, prefix, block):
        for ours, theirs in ATTENTION.items():
            wide = "norm" in ours or ours == "mlp.gate"
            self.add(f"{block}{theirs}.weight", [f"{prefix}{ours}.weight"], wide)
        for ours, theirs in EXPERTS.items():
            parts = [
                f"{prefix}mlp.experts.{expert}.{ours}.weight"
                for expert in range(self.config["num_experts"])
            ]
            self.add(f"{block}{theirs}.weight", parts, False)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    directory, out = sys.argv[1:]
    with open(f"{directory}/config.json", encoding="utf-8") as file:
        config = json.load(file)
    if config["model_type"] != "qwen3_moe":
        sys.exit(f"{config['model_type']}: only qwen3_moe is converted")
    tensors = open_tensors(f"{directory}/model.safetensors")
    writer = gguf.GGUFWriter(out + ".part", "qwen3moe")
    add_keys(writer, config)
    converter = Converter(writer, tensors, config)
    converter.announce()
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for parts, wide in converter.order:
        writer.write_tensor_data(converter.data(parts, wide))
    writer.close()
    if tensors:
        sys.exit(f"not converted: {sorted(tensors)[:5]}")
    os.replace(out + ".part", out)


if __name__ == "__main__":
    main()
