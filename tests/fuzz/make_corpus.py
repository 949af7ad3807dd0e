#!/usr/bin/env python3
# make_corpus.py - the seed inputs of the fuzz targets (nothing -> files)
# SPDX-License-Identifier: Apache-2.0
"""Writes corpus/{safetensors,config,index,adapter_config}/: small inputs, right
and wrong.
The output is the same every time and is kept in the tree.
"""

import json
import pathlib
import shutil
import struct

ROOT = pathlib.Path(__file__).parent / "corpus"


def dump(value):
    return json.dumps(value, separators=(",", ":"))


# ---- safetensors ------------------------------------------------------------

SIZE = {"F32": 4, "BF16": 2, "F16": 2, "F8_E4M3": 1, "I64": 8, "BOOL": 1}


def layout(*tensors):
    """(name, dtype, shape)... -> header fields, bytes of data."""
    fields, end = {}, 0
    for name, dtype, shape in tensors:
        size = SIZE[dtype]
        for dim in shape:
            size *= dim
        fields[name] = {"dtype": dtype, "shape": shape,
                        "data_offsets": [end, end + size]}
        end += size
    return fields, end


def weights(header, data, length=None):
    text = header if isinstance(header, bytes) else (
        header if isinstance(header, str) else dump(header)).encode()
    if length is None:
        length = len(text)
    return struct.pack("<Q", length) + text + bytes(data)


def changed(fields, name, **values):
    return {**fields, name: {**fields[name], **values}}


def safetensors():
    two, size = layout(("a", "BF16", [3, 5]), ("b.weight", "F32", [7]))
    many, many_size = layout(
        ("s", "F32", []), ("z0", "F32", [0]), ("e", "F8_E4M3", [2, 2]),
        ("z1", "I64", [3, 0]), ("r", "BOOL", [1, 1, 1, 1, 1, 1, 1, 2]))
    meta = {"__metadata__": {"format": "pt", "x": "{[,:\\\""}, **two}
    yield "two", weights(two, size)
    yield "many", weights(many, many_size)
    yield "metadata", weights(meta, size)
    yield "padding", weights(dump(two) + "   ", size)
    yield "nothing", weights({}, 0)
    yield "empty_file", b""
    yield "seven_bytes", b"\2\0\0\0\0\0\0"
    yield "length_zero", weights("", 0)
    yield "length_max", weights(two, size, 2 ** 64 - 1)
    yield "length_100mb", weights(two, size, 100_000_000)
    yield "short", weights(two, size - 1)
    yield "long", weights(two, size + 1)
    yield "junk", weights(dump(two) + "x", size)
    yield "leading_space", weights(" " + dump(two), size)
    yield "not_utf8", weights(dump(two).encode().replace(b"a", b"\xff"), size)
    yield "nul", weights(dump(two).replace('"a"', '"a\\u0000"'), size)
    yield "control", weights(dump(two).replace('"a"', '"a\\u001b"'), size)
    yield "twice", weights(dump(two).replace('"b.weight"', '"a"'), size)
    yield "reversed", weights(changed(two, "a", data_offsets=[30, 0]), size)
    yield "overlap", weights(
        changed(two, "b.weight", data_offsets=[29, 57]), size)
    yield "gap", weights(
        changed(two, "b.weight", data_offsets=[31, 59]), size + 1)
    yield "float", weights(
        changed(two, "a", data_offsets=[0.0, 30]), size)
    yield "negative", weights(changed(two, "a", shape=[-3, -5]), size)
    yield "too_big", weights(changed(two, "a", shape=[2 ** 63]), size)
    yield "overflow", weights(
        changed(two, "a", shape=[2 ** 32, 2 ** 32]), size)
    yield "rank", weights(changed(two, "a", shape=[1] * 9), size)
    yield "dtype", weights(changed(two, "a", dtype="F31"), size)
    yield "bits", weights(changed(two, "a", dtype="F4"), size)
    yield "extra", weights(changed(two, "a", extra=1), size)
    yield "bad_metadata", weights({"__metadata__": {"a": 1}, **two}, size)
    yield "deep", weights("{" + '"a":[' * 40 + "]" * 40 + "}", 0)
    yield "commas", weights("{" + "," * 3000, 0)
    yield "long_name", weights(layout(("n" * 600, "F32", []))[0], 4)


# ---- config -----------------------------------------------------------------

YARN = {"type": "yarn", "factor": 40, "mscale": 0.707,
        "mscale_all_dim": 0.707, "beta_fast": 32, "beta_slow": 1,
        "original_max_position_embeddings": 4096}

COMMON = {"vocab_size": 1000, "hidden_size": 64, "num_hidden_layers": 4,
          "num_attention_heads": 4, "num_key_value_heads": 4,
          "max_position_embeddings": 4096, "rms_norm_eps": 1e-6,
          "hidden_act": "silu", "rope_theta": 10000, "bos_token_id": 1,
          "eos_token_id": [2, 3], "num_experts_per_tok": 2,
          "intermediate_size": 96, "tie_word_embeddings": False}

DEEPSEEK = {**COMMON, "moe_intermediate_size": 32, "n_routed_experts": 8,
            "n_shared_experts": 2, "first_k_dense_replace": 1,
            "moe_layer_freq": 1, "kv_lora_rank": 16, "q_lora_rank": None,
            "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16,
            "n_group": 4, "topk_group": 2, "norm_topk_prob": False,
            "routed_scaling_factor": 2.5, "rope_scaling": YARN}

QWEN = {**COMMON, "num_experts": 8, "moe_intermediate_size": 32,
        "decoder_sparse_step": 1, "mlp_only_layers": [1],
        "use_sliding_window": False, "sliding_window": None,
        "max_window_layers": 4, "norm_topk_prob": True}

FP8 = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
       "weight_block_size": [128, 128]}

CONFIGS = {
    "v2": {"model_type": "deepseek_v2", **DEEPSEEK,
           "topk_method": "group_limited_greedy"},
    "v3": {"model_type": "deepseek_v3", **DEEPSEEK, "q_lora_rank": 24,
           "topk_method": "noaux_tc", "scoring_func": "sigmoid",
           "num_nextn_predict_layers": 1, "quantization_config": FP8},
    "qwen2": {"model_type": "qwen2_moe", **QWEN, "sliding_window": 64,
              "use_sliding_window": True, "max_window_layers": 2,
              "shared_expert_intermediate_size": 48, "qkv_bias": True},
    "qwen2_types": {"model_type": "qwen2_moe", **QWEN, "sliding_window": 64,
                    "use_sliding_window": True,
                    "shared_expert_intermediate_size": 48,
                    "layer_types": ["sliding_attention",
                                    "full_attention"] * 2},
    "qwen3": {"model_type": "qwen3_moe", **QWEN, "head_dim": 32,
              "rope_scaling": {"rope_type": "yarn", "factor": 4.0,
                               "truncate": False, "attention_factor": 1.2,
                               "original_max_position_embeddings": 1024}},
    "mixtral": {"model_type": "mixtral", **COMMON, "num_local_experts": 8,
                "sliding_window": 32},
    "olmoe": {"model_type": "olmoe", **COMMON, "num_experts": 8,
              "clip_qkv": 8.0},
    "granite": {"model_type": "granitemoe", **COMMON, "num_local_experts": 8,
                "embedding_multiplier": 12.0, "residual_multiplier": 0.22,
                "logits_scaling": 6.0, "attention_multiplier": 0.015625,
                "tie_word_embeddings": True},
    "sampling": {"do_sample": True, "temperature": 0.6, "top_p": 0.95,
                 "top_k": 20, "repetition_penalty": 1.05,
                 "eos_token_id": [1, 7], "bos_token_id": 0},
}


def config():
    for name, value in CONFIGS.items():
        yield name, json.dumps(value, indent=1).encode()
    v5 = dict(CONFIGS["qwen3"])
    del v5["rope_theta"]
    v5["num_local_experts"] = v5.pop("num_experts")
    v5["rope_parameters"] = {**v5.pop("rope_scaling"), "rope_theta": 1e6}
    yield "v5", dump(v5).encode()
    mixtral = dump(CONFIGS["mixtral"])
    yield "float_for_int", mixtral.replace("64", "64.0").encode()
    yield "huge_int", mixtral.replace("64", "9" * 30).encode()
    yield "huge_real", mixtral.replace("1e-06", "1e999").encode()
    yield "negative", mixtral.replace("64", "-64").encode()
    yield "duplicate", ("{\"a\":1," + mixtral[1:-1] + ",\"a\":1}").encode()
    yield "cut", mixtral[:-20].encode()
    yield "not_utf8", mixtral.encode().replace(b"silu", b"s\xff")
    yield "nul", mixtral.replace("silu", "si\\u0000lu").encode()
    yield "foreign", dump({**CONFIGS["mixtral"],
                           "clip_qkv": 1}).encode()
    yield "nested", dump({**CONFIGS["mixtral"], "rope_scaling": {
        "full_attention": {"rope_theta": 1}}}).encode()
    yield "array", b"[]"
    yield "empty", b""
    yield "brackets", b'{"a":' + b"[" * 5000


# ---- index ------------------------------------------------------------------

def mixtral_tensors():
    """The tensors of the tiny Mixtral of tests/st_model.c, in its order."""
    yield "model.embed_tokens.weight", [40, 24]
    for layer in range(2):
        pre = f"model.layers.{layer}."
        yield pre + "input_layernorm.weight", [24]
        yield pre + "self_attn.q_proj.weight", [24, 24]
        yield pre + "self_attn.k_proj.weight", [12, 24]
        yield pre + "self_attn.v_proj.weight", [12, 24]
        yield pre + "self_attn.o_proj.weight", [24, 24]
        yield pre + "post_attention_layernorm.weight", [24]
        pre += "block_sparse_moe."
        yield pre + "gate.weight", [4, 24]
        for expert in range(4):
            yield f"{pre}experts.{expert}.w1.weight", [6, 24]
            yield f"{pre}experts.{expert}.w3.weight", [6, 24]
            yield f"{pre}experts.{expert}.w2.weight", [24, 6]
    yield "model.norm.weight", [24]
    yield "lm_head.weight", [40, 24]


def index():
    files = [f"model-{i}-of-00002.safetensors" for i in ("00001", "00002")]
    tensors = list(mixtral_tensors())
    where = {name: files[i % 2] for i, (name, _) in enumerate(tensors)}
    header = dump(layout(*((name, "BF16", shape)
                           for name, shape in tensors[::2]))[0])

    def text(mapping):
        return dump({"metadata": {"total_size": 1},
                     "weight_map": mapping}).encode()

    good = text(where)
    last = tensors[-1][0]
    yield "good", good
    yield "good_with_header", good + b"\0" + header.encode()
    yield "missing", text({k: v for k, v in where.items() if k != last})
    yield "surplus", text({**where, "x": files[0]})
    yield "moved", text({**where, last: files[last == files[0]]})
    yield "no_file", text({**where, last: "model.safetensors"})
    yield "parent", text({**where, last: "../" + files[0]})
    yield "number", text({**where, last: 1})
    yield "no_map", b"{}"
    yield "array", b"[]"
    yield "empty", b""
    yield "cut", good[:-10]
    yield "duplicate", good.replace(b'"lm_head.weight"',
                                    b'"model.norm.weight"')
    for name, old, new in (
            ("surplus", "lm_head", "lm_tail"),
            ("expert", "experts.0.w1", "experts.4.w1"),
            ("number", "experts.0.w1", "experts.00.w1"),
            ("layer", "layers.1.self", "layers.2.self"),
            ("fused", "model.layers.0.block_sparse_moe.experts.0.w1.weight",
             "model.layers.0.mlp.experts.gate_up_proj"),
            ("scale", "q_proj.weight", "q_proj.weight_scale_inv"),
            ("skipped", "model.norm.weight", "model.rotary_emb.inv_freq"),
            ("shape", "[40,24]", "[24,40]"),
            ("dtype", "BF16", "F16"),
            ("fp8", "BF16", "F8_E4M3")):
        both = good.decode() + "\0" + header.replace(old, new, 1)
        yield "header_" + name, both.replace(old, new, 1).encode()


# ---- expert_cfg.json ---------------------------------------------------------

def adapter_config():
    """For the tiny DeepSeek-V2 of tests/st_model.c: layers 1, 2, 4 experts."""
    flags = {"shared_experts": False, "non_expert_modules": False}

    def text(experts, **more):
        return dump({"experts": experts, **flags, **more}).encode()

    good = text({"1": [3, 0, 2], "2": [1]})
    yield "good", good
    yield "no_flags", dump({"experts": {"2": [0, 1, 2, 3]}}).encode()
    yield "one_empty", text({"1": [], "2": [1]})
    yield "shared", text({"1": [0]}, shared_experts=True)
    yield "non_expert", text({"1": [0]}, non_expert_modules=True)
    yield "flag_number", text({"1": [0]}, shared_experts=0)
    yield "unknown", text({"1": [0]}, lora=1)
    yield "nothing", text({})
    yield "all_empty", text({"1": [], "2": []})
    yield "dense_layer", text({"0": [0]})
    yield "far_layer", text({"4294967297": [0]})
    yield "padded_layer", text({"01": [0]})
    yield "far_expert", text({"1": [4]})
    yield "negative", text({"1": [-1]})
    yield "real", text({"1": [1.0]})
    yield "string", text({"1": ["1"]})
    yield "huge", text({"1": [9]}).replace(b"9", b"9" * 30)
    yield "twice", text({"1": [2, 1, 2]})
    yield "layer_twice", good.replace(b'"2"', b'"1"')
    yield "no_list", text({"1": {"0": 1}})
    yield "no_object", dump({"experts": [1]}).encode()
    yield "array", b"[]"
    yield "empty", b""
    yield "cut", good[:-5]
    yield "nul", good.replace(b"experts", b"exp\\u0000erts", 1)
    yield "not_utf8", good.replace(b"non", b"n\xffn")
    yield "brackets", b'{"experts":' + b"[" * 5000
    yield "commas", b'{"experts":{"1":[' + b"1," * 3000


def main():
    for target in (safetensors, config, index, adapter_config):
        folder = ROOT / target.__name__
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name, data in target():
            (folder / name).write_bytes(data)


if __name__ == "__main__":
    main()
