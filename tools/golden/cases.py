# cases.py - the tiny checkpoints: shapes, prompts and what each one is for
# SPDX-License-Identifier: Apache-2.0
"""Each case is a config.json as its family publishes it, plus how to fill it.

Fields of a case: seed; config; generation (generation_config.json); store
(dtype on disk); lengths of the prompts; router (std of the router's logits);
shards; fused (transformers-5 names on disk); fp8; mtp (layers after the last
one that the model does not use); embed (std of the embeddings);
mutations (see mutations.py: every one must move the log-probabilities).
"""

YARN_V2 = {"type": "yarn", "factor": 40, "mscale": 0.707,
           "mscale_all_dim": 0.707, "beta_fast": 32, "beta_slow": 1,
           "original_max_position_embeddings": 32}
# mscale ratio other than 1; with theta 5 the ramp ends beyond the last pair.
YARN_RATIO = {"type": "yarn", "factor": 40, "mscale": 1.0,
              "mscale_all_dim": 0.5, "beta_fast": 32, "beta_slow": 1,
              "original_max_position_embeddings": 32}
# Betas and theta that put both ends of the ramp inside the eight pairs.
YARN_V3 = {"type": "yarn", "factor": 12, "mscale": 1.0,
           "mscale_all_dim": 1.0, "beta_fast": 4, "beta_slow": 1,
           "original_max_position_embeddings": 48}


def base(arch, model_type, **fields):
    cfg = {"architectures": [arch], "model_type": model_type,
           "hidden_act": "silu", "attention_dropout": 0.0,
           "initializer_range": 0.02, "torch_dtype": "bfloat16",
           "transformers_version": "4.46.0", "use_cache": True,
           "bos_token_id": 0, "eos_token_id": 1, "rms_norm_eps": 1e-6,
           "rope_theta": 10000.0, "tie_word_embeddings": False}
    cfg.update(fields)
    return cfg


def deepseek_v2(**fields):
    return base("DeepseekV2ForCausalLM", "deepseek_v2",
                attention_bias=False, aux_loss_alpha=0.001,
                scoring_func="softmax", seq_aux=True, pretraining_tp=1,
                moe_layer_freq=1, ep_size=1, max_position_embeddings=1280,
                **fields)


def deepseek_v3(**fields):
    return base("DeepseekV3ForCausalLM", "deepseek_v3",
                attention_bias=False, scoring_func="sigmoid",
                topk_method="noaux_tc", norm_topk_prob=True,
                routed_scaling_factor=2.5, moe_layer_freq=1, ep_size=1,
                pretraining_tp=1, max_position_embeddings=576, **fields)


CASES = {
    "deepseek_v2_lite": dict(
        seed=101, lengths=(1, 17, 40, 70), router=1.1,
        config=deepseek_v2(
            vocab_size=131, hidden_size=66, intermediate_size=90,
            moe_intermediate_size=14, num_hidden_layers=3,
            num_attention_heads=6, num_key_value_heads=6,
            q_lora_rank=None, kv_lora_rank=20, qk_nope_head_dim=12,
            qk_rope_head_dim=8, v_head_dim=10, n_routed_experts=13,
            n_shared_experts=2, num_experts_per_tok=6, n_group=1,
            topk_group=1, topk_method="greedy", norm_topk_prob=False,
            routed_scaling_factor=1.0, first_k_dense_replace=1,
            rope_scaling=None),
        mutations=("renormalise", "scale", "rope_theta", "no_shared",
                   "inner_norm", "rope_as_halves")),
    "deepseek_v2_full": dict(
        seed=102, lengths=(2, 19, 40, 75), router=1.1,
        config=deepseek_v2(
            vocab_size=151, hidden_size=80, intermediate_size=70,
            moe_intermediate_size=10, num_hidden_layers=3,
            num_attention_heads=5, num_key_value_heads=5, q_lora_rank=28,
            kv_lora_rank=24, qk_nope_head_dim=10, qk_rope_head_dim=12,
            v_head_dim=14, n_routed_experts=15, n_shared_experts=2,
            num_experts_per_tok=5, n_group=3, topk_group=2,
            topk_method="group_limited_greedy", norm_topk_prob=False,
            routed_scaling_factor=2.5, first_k_dense_replace=1,
            rope_scaling=YARN_V2),
        mutations=("renormalise", "scale", "no_yarn", "no_mscale",
                   "greedy", "one_group", "inner_norm")),
    "deepseek_v2_norm": dict(
        seed=103, lengths=(1, 23, 40, 81), router=1.1,
        config=deepseek_v2(
            vocab_size=137, hidden_size=70, intermediate_size=94,
            moe_intermediate_size=18, num_hidden_layers=3,
            num_attention_heads=5, num_key_value_heads=5,
            q_lora_rank=None, kv_lora_rank=18, qk_nope_head_dim=10,
            qk_rope_head_dim=10, v_head_dim=12, n_routed_experts=11,
            n_shared_experts=1, num_experts_per_tok=7, n_group=1,
            topk_group=1, topk_method="greedy", norm_topk_prob=True,
            routed_scaling_factor=1.7, first_k_dense_replace=1,
            rope_theta=5.0, rope_scaling=YARN_RATIO),
        mutations=("renormalise", "scale_after_norm", "no_yarn",
                   "no_mscale", "equal_mscale", "short_ramp")),
    "deepseek_v3": dict(
        seed=104, lengths=(3, 33, 70, 300), router=1.6, mtp=1,
        config=deepseek_v3(
            vocab_size=149, hidden_size=60, intermediate_size=70,
            moe_intermediate_size=8, num_hidden_layers=3,
            num_attention_heads=5, num_key_value_heads=5, q_lora_rank=22,
            kv_lora_rank=18, qk_nope_head_dim=10, qk_rope_head_dim=16,
            v_head_dim=12, n_routed_experts=20, n_shared_experts=1,
            num_experts_per_tok=8, n_group=4, topk_group=2,
            first_k_dense_replace=1, rope_theta=50.0,
            num_nextn_predict_layers=1, rope_scaling=YARN_V3),
        mutations=("renormalise", "scale", "no_yarn", "no_mscale",
                   "mask_zero", "no_score_bias", "one_group", "betas",
                   "rope_as_halves")),
    "deepseek_v3_fp8": dict(
        seed=105, lengths=(2, 17, 40, 70), router=1.6, fp8=True,
        config=deepseek_v3(
            vocab_size=139, hidden_size=136, intermediate_size=130,
            moe_intermediate_size=10, num_hidden_layers=3,
            num_attention_heads=6, num_key_value_heads=6, q_lora_rank=20,
            kv_lora_rank=22, qk_nope_head_dim=16, qk_rope_head_dim=8,
            v_head_dim=10, n_routed_experts=9, n_shared_experts=1,
            num_experts_per_tok=4, n_group=3, topk_group=2,
            first_k_dense_replace=1, num_nextn_predict_layers=0,
            rope_scaling=None,
            quantization_config={
                "activation_scheme": "dynamic", "fmt": "e4m3",
                "quant_method": "fp8", "weight_block_size": [128, 128]}),
        mutations=("renormalise", "no_score_bias", "first_block",
                   "transposed_blocks")),
    "qwen2_moe": dict(
        seed=106, lengths=(2, 17, 40, 70), router=1.1,
        config=base(
            "Qwen2MoeForCausalLM", "qwen2_moe", vocab_size=173,
            hidden_size=78, intermediate_size=56, num_hidden_layers=4,
            num_attention_heads=3, num_key_value_heads=1,
            moe_intermediate_size=8, shared_expert_intermediate_size=22,
            num_experts=15, num_experts_per_tok=4, norm_topk_prob=False,
            decoder_sparse_step=1, mlp_only_layers=[1], rope_theta=1e6,
            max_position_embeddings=512, use_sliding_window=False,
            sliding_window=8, max_window_layers=4,
            output_router_logits=False, router_aux_loss_coef=0.001),
        mutations=("renormalise", "no_qkv_bias", "no_shared_gate",
                   "windowed")),
    "qwen3_moe": dict(
        seed=107, lengths=(1, 17, 40, 70), router=1.1, shards=3,
        embed=0.25,
        generation={"do_sample": True, "temperature": 0.6, "top_k": 20,
                    "top_p": 0.95, "eos_token_id": [1, 7],
                    "pad_token_id": 7},
        config=base(
            "Qwen3MoeForCausalLM", "qwen3_moe", vocab_size=211,
            hidden_size=70, intermediate_size=50, num_hidden_layers=4,
            num_attention_heads=6, num_key_value_heads=2, head_dim=14,
            moe_intermediate_size=12, num_experts=11,
            num_experts_per_tok=3, norm_topk_prob=True,
            decoder_sparse_step=1, mlp_only_layers=[], rope_theta=1e6,
            rope_scaling=None, attention_bias=False,
            max_position_embeddings=512, use_sliding_window=False,
            sliding_window=8, max_window_layers=4,
            tie_word_embeddings=True, output_router_logits=False,
            router_aux_loss_coef=0.001),
        mutations=("renormalise", "no_qk_norm", "windowed",
                   "rope_theta", "rope_as_pairs")),
    "qwen3_moe_v5": dict(
        # As transformers 5 writes it: note num_local_experts, dtype and
        # rope_parameters.
        seed=108, lengths=(2, 17, 40, 70), router=1.1, store="float16",
        fused=True,
        config=base(
            "Qwen3MoeForCausalLM", "qwen3_moe", vocab_size=157,
            hidden_size=68, intermediate_size=54, num_hidden_layers=4,
            num_attention_heads=4, num_key_value_heads=2, head_dim=18,
            moe_intermediate_size=14, num_local_experts=7,
            num_experts_per_tok=2, norm_topk_prob=False,
            decoder_sparse_step=2, mlp_only_layers=[],
            rope_theta=None, torch_dtype=None, dtype="float16",
            pad_token_id=None,
            transformers_version="5.23.0", attention_bias=False,
            rope_parameters={"rope_theta": 300000.0,
                             "rope_type": "default"},
            max_position_embeddings=512, use_sliding_window=False,
            sliding_window=None, output_router_logits=False,
            router_aux_loss_coef=0.001),
        mutations=("renormalise", "no_qk_norm", "rope_theta",
                   "swap_gate_up")),
    "mixtral": dict(
        seed=109, lengths=(2, 31, 70, 300), router=1.1,
        config=base(
            "MixtralForCausalLM", "mixtral", vocab_size=139,
            hidden_size=72, intermediate_size=26, num_hidden_layers=3,
            num_attention_heads=6, num_key_value_heads=3,
            num_local_experts=5, num_experts_per_tok=2,
            rms_norm_eps=1e-5, rope_theta=1e6, sliding_window=None,
            max_position_embeddings=512, output_router_logits=False,
            router_aux_loss_coef=0.02),
        mutations=("windowed", "rope_theta", "raw_mixtral", "rope_as_pairs")),
    "mixtral_top1": dict(
        seed=110, lengths=(1, 17, 40, 90), router=1.1, store="float32",
        config=base(
            "MixtralForCausalLM", "mixtral", vocab_size=133,
            hidden_size=50, intermediate_size=15, num_hidden_layers=3,
            num_attention_heads=4, num_key_value_heads=2, head_dim=10,
            num_local_experts=3, num_experts_per_tok=1,
            rms_norm_eps=1e-5, rope_theta=1e4, sliding_window=12,
            max_position_embeddings=512, torch_dtype="float32",
            output_router_logits=False, router_aux_loss_coef=0.02),
        mutations=("no_window", "longer_window", "raw_mixtral")),
    "olmoe": dict(
        seed=111, lengths=(2, 17, 40, 70), router=1.1,
        config=base(
            "OlmoeForCausalLM", "olmoe", vocab_size=191, hidden_size=60,
            intermediate_size=14, num_hidden_layers=4,
            num_attention_heads=5, num_key_value_heads=5,
            num_experts=9, num_experts_per_tok=8, norm_topk_prob=False,
            clip_qkv=1.1, rms_norm_eps=1e-5, rope_scaling=None,
            attention_bias=False, max_position_embeddings=512,
            pad_token_id=1, output_router_logits=False,
            router_aux_loss_coef=0.01),
        mutations=("renormalise", "no_clip", "no_qk_norm")),
    "granitemoe": dict(
        seed=112, lengths=(2, 17, 40, 70), router=1.1, embed=0.5,
        config=base(
            "GraniteMoeForCausalLM", "granitemoe", vocab_size=163,
            hidden_size=80, intermediate_size=12, num_hidden_layers=4,
            num_attention_heads=8, num_key_value_heads=4,
            num_local_experts=10, num_experts_per_tok=5,
            attention_multiplier=0.21, embedding_multiplier=3.0,
            residual_multiplier=0.6, logits_scaling=1.7,
            rope_scaling=None, attention_bias=False,
            max_position_embeddings=512, tie_word_embeddings=True,
            output_router_logits=False, router_aux_loss_coef=0.0),
        mutations=("attention_multiplier", "embedding_multiplier",
                   "residual_multiplier", "logits_scaling",
                   "softmax_all")),
}
