/* published_configs.c - config.json as the families publish it (texts) */
/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/published_configs.h"

#define V2_LITE_FIELDS                                                         \
	"\"architectures\": [\"DeepseekV2ForCausalLM\"],\n"                    \
	"\"attention_bias\": false,\n"                                         \
	"\"attention_dropout\": 0.0,\n"                                        \
	"\"auto_map\": {\"AutoConfig\": "                                      \
	"\"configuration_deepseek.DeepseekV2Config\"},\n"                      \
	"\"aux_loss_alpha\": 0.001,\n"                                         \
	"\"bos_token_id\": 100000,\n"                                          \
	"\"eos_token_id\": 100001,\n"                                          \
	"\"first_k_dense_replace\": 1,\n"                                      \
	"\"hidden_act\": \"silu\",\n"                                          \
	"\"hidden_size\": 2048,\n"                                             \
	"\"initializer_range\": 0.02,\n"                                       \
	"\"intermediate_size\": 10944,\n"                                      \
	"\"kv_lora_rank\": 512,\n"                                             \
	"\"model_type\": \"deepseek_v2\",\n"                                   \
	"\"moe_intermediate_size\": 1408,\n"                                   \
	"\"moe_layer_freq\": 1,\n"                                             \
	"\"n_group\": 1,\n"                                                    \
	"\"n_routed_experts\": 64,\n"                                          \
	"\"n_shared_experts\": 2,\n"                                           \
	"\"norm_topk_prob\": false,\n"                                         \
	"\"num_attention_heads\": 16,\n"                                       \
	"\"num_experts_per_tok\": 6,\n"                                        \
	"\"num_hidden_layers\": 27,\n"                                         \
	"\"num_key_value_heads\": 16,\n"                                       \
	"\"pretraining_tp\": 1,\n"                                             \
	"\"q_lora_rank\": null,\n"                                             \
	"\"qk_nope_head_dim\": 128,\n"                                         \
	"\"qk_rope_head_dim\": 64,\n"                                          \
	"\"rms_norm_eps\": 1e-06,\n"                                           \
	"\"rope_theta\": 10000,\n"                                             \
	"\"routed_scaling_factor\": 1.0,\n"                                    \
	"\"scoring_func\": \"softmax\",\n"                                     \
	"\"seq_aux\": true,\n"                                                 \
	"\"tie_word_embeddings\": false,\n"                                    \
	"\"topk_group\": 1,\n"                                                 \
	"\"topk_method\": \"greedy\",\n"                                       \
	"\"torch_dtype\": \"bfloat16\",\n"                                     \
	"\"transformers_version\": \"4.33.1\",\n"                              \
	"\"use_cache\": true,\n"                                               \
	"\"v_head_dim\": 128,\n"                                               \
	"\"vocab_size\": 102400,\n"

const char published_v2_lite[] =
	"{\n" V2_LITE_FIELDS "\"max_position_embeddings\": 163840,\n"
	"\"rope_scaling\": {\n"
	"  \"beta_fast\": 32, \"beta_slow\": 1, \"factor\": 40,\n"
	"  \"mscale\": 0.707, \"mscale_all_dim\": 0.707,\n"
	"  \"original_max_position_embeddings\": 4096,\n"
	"  \"type\": \"yarn\"\n"
	"}\n}\n";

const char published_esft[] =
	"{\n" V2_LITE_FIELDS "\"max_position_embeddings\": 4096,\n"
	"\"rope_scaling\": null\n}\n";

const char published_v2[] =
	"{\n"
	"\"architectures\": [\"DeepseekV2ForCausalLM\"],\n"
	"\"attention_bias\": false, \"attention_dropout\": 0.0,\n"
	"\"aux_loss_alpha\": 0.001,\n"
	"\"bos_token_id\": 100000, \"eos_token_id\": 100001,\n"
	"\"ep_size\": 1, \"first_k_dense_replace\": 1,\n"
	"\"hidden_act\": \"silu\", \"hidden_size\": 5120,\n"
	"\"intermediate_size\": 12288, \"kv_lora_rank\": 512,\n"
	"\"max_position_embeddings\": 163840,\n"
	"\"model_type\": \"deepseek_v2\",\n"
	"\"moe_intermediate_size\": 1536, \"moe_layer_freq\": 1,\n"
	"\"n_group\": 8, \"n_routed_experts\": 160,\n"
	"\"n_shared_experts\": 2, \"norm_topk_prob\": false,\n"
	"\"num_attention_heads\": 128, \"num_experts_per_tok\": 6,\n"
	"\"num_hidden_layers\": 60, \"num_key_value_heads\": 128,\n"
	"\"pretraining_tp\": 1, \"q_lora_rank\": 1536,\n"
	"\"qk_nope_head_dim\": 128, \"qk_rope_head_dim\": 64,\n"
	"\"rms_norm_eps\": 1e-06,\n"
	"\"rope_scaling\": {\"beta_fast\": 32, \"beta_slow\": 1,\n"
	"  \"factor\": 40, \"mscale\": 0.707, \"mscale_all_dim\": 0.707,\n"
	"  \"original_max_position_embeddings\": 4096,\n"
	"  \"type\": \"yarn\"},\n"
	"\"rope_theta\": 10000, \"routed_scaling_factor\": 16.0,\n"
	"\"scoring_func\": \"softmax\", \"seq_aux\": true,\n"
	"\"tie_word_embeddings\": false, \"topk_group\": 3,\n"
	"\"topk_method\": \"group_limited_greedy\",\n"
	"\"torch_dtype\": \"bfloat16\", \"use_cache\": true,\n"
	"\"v_head_dim\": 128, \"vocab_size\": 102400\n}\n";

#define V3_FIELDS                                                              \
	"\"attention_bias\": false, \"attention_dropout\": 0.0,\n"             \
	"\"bos_token_id\": 0, \"eos_token_id\": 1,\n"                          \
	"\"first_k_dense_replace\": 3, \"hidden_act\": \"silu\",\n"            \
	"\"hidden_size\": 7168, \"initializer_range\": 0.02,\n"                \
	"\"intermediate_size\": 18432, \"kv_lora_rank\": 512,\n"               \
	"\"max_position_embeddings\": 163840,\n"                               \
	"\"model_type\": \"deepseek_v3\",\n"                                   \
	"\"moe_intermediate_size\": 2048,\n"                                   \
	"\"n_group\": 8, \"n_routed_experts\": 256,\n"                         \
	"\"n_shared_experts\": 1, \"norm_topk_prob\": true,\n"                 \
	"\"num_attention_heads\": 128, \"num_experts_per_tok\": 8,\n"          \
	"\"num_hidden_layers\": 61, \"num_key_value_heads\": 128,\n"           \
	"\"num_nextn_predict_layers\": 1, \"q_lora_rank\": 1536,\n"            \
	"\"qk_nope_head_dim\": 128, \"qk_rope_head_dim\": 64,\n"               \
	"\"rms_norm_eps\": 1e-06, \"routed_scaling_factor\": 2.5,\n"           \
	"\"tie_word_embeddings\": false, \"topk_group\": 4,\n"                 \
	"\"use_cache\": true, \"v_head_dim\": 128,\n"                          \
	"\"vocab_size\": 129280,\n"

const char published_v3[] =
	"{\n" V3_FIELDS "\"architectures\": [\"DeepseekV3ForCausalLM\"],\n"
	"\"ep_size\": 1, \"moe_layer_freq\": 1,\n"
	"\"quantization_config\": {\n"
	"  \"activation_scheme\": \"dynamic\", \"fmt\": \"e4m3\",\n"
	"  \"quant_method\": \"fp8\", \"weight_block_size\": [128, 128]},\n"
	"\"rope_scaling\": {\"beta_fast\": 32, \"beta_slow\": 1,\n"
	"  \"factor\": 40, \"mscale\": 1.0, \"mscale_all_dim\": 1.0,\n"
	"  \"original_max_position_embeddings\": 4096,\n"
	"  \"type\": \"yarn\"},\n"
	"\"rope_theta\": 10000, \"scoring_func\": \"sigmoid\",\n"
	"\"topk_method\": \"noaux_tc\", \"torch_dtype\": \"bfloat16\",\n"
	"\"transformers_version\": \"4.33.1\"\n}\n";

const char written5_v3[] =
	"{\n" V3_FIELDS
	"\"dtype\": \"bfloat16\", \"head_dim\": 64, \"qk_head_dim\": 192,\n"
	"\"output_router_logits\": false, \"pad_token_id\": null,\n"
	"\"rope_interleave\": true,\n"
	"\"rope_parameters\": {\"beta_fast\": 32, \"beta_slow\": 1,\n"
	"  \"factor\": 40, \"mscale\": 1.0, \"mscale_all_dim\": 1.0,\n"
	"  \"original_max_position_embeddings\": 4096,\n"
	"  \"rope_theta\": 10000, \"rope_type\": \"yarn\",\n"
	"  \"type\": \"yarn\"},\n"
	"\"transformers_version\": \"5.23.0\"\n}\n";

#define QWEN2_FIELDS                                                           \
	"\"architectures\": [\"Qwen2MoeForCausalLM\"],\n"                      \
	"\"attention_dropout\": 0.0, \"decoder_sparse_step\": 1,\n"            \
	"\"hidden_act\": \"silu\", \"hidden_size\": 2048,\n"                   \
	"\"initializer_range\": 0.02, \"intermediate_size\": 5632,\n"          \
	"\"max_position_embeddings\": 8192, \"max_window_layers\": 21,\n"      \
	"\"model_type\": \"qwen2_moe\", \"moe_intermediate_size\": 1408,\n"    \
	"\"norm_topk_prob\": false, \"num_attention_heads\": 16,\n"            \
	"\"num_experts\": 60, \"num_experts_per_tok\": 4,\n"                   \
	"\"num_hidden_layers\": 24, \"num_key_value_heads\": 16,\n"            \
	"\"output_router_logits\": false, \"rms_norm_eps\": 1e-06,\n"          \
	"\"router_aux_loss_coef\": 0.001,\n"                                   \
	"\"shared_expert_intermediate_size\": 5632,\n"                         \
	"\"tie_word_embeddings\": false, \"use_cache\": true,\n"               \
	"\"vocab_size\": 151936,\n"

const char published_qwen2[] =
	"{\n" QWEN2_FIELDS
	"\"bos_token_id\": 151643, \"eos_token_id\": 151643,\n"
	"\"rope_theta\": 1000000.0, \"sliding_window\": 32768,\n"
	"\"torch_dtype\": \"bfloat16\",\n"
	"\"transformers_version\": \"4.39.0.dev0\",\n"
	"\"use_sliding_window\": false\n}\n";

/* With windows, which transformers 5 spells out layer by layer. */
#define SLIDE_FULL "\"sliding_attention\", \"full_attention\""
#define SLIDE_FULL_4 SLIDE_FULL ", " SLIDE_FULL ", " SLIDE_FULL ", " SLIDE_FULL

const char written5_qwen2[] =
	"{\n" QWEN2_FIELDS "\"bos_token_id\": null, \"dtype\": \"bfloat16\",\n"
	"\"eos_token_id\": 151643, \"pad_token_id\": null,\n"
	"\"layer_types\": [" SLIDE_FULL_4 ", " SLIDE_FULL_4 ", " SLIDE_FULL_4
	"],\n"
	"\"mlp_only_layers\": [], \"qkv_bias\": true,\n"
	"\"rope_parameters\": {\"rope_theta\": 1000000.0,\n"
	"  \"rope_type\": \"default\"},\n"
	"\"sliding_window\": 4096, \"use_sliding_window\": true,\n"
	"\"transformers_version\": \"5.23.0\"\n}\n";

#define QWEN3_FIELDS                                                           \
	"\"architectures\": [\"Qwen3MoeForCausalLM\"],\n"                      \
	"\"attention_bias\": false, \"attention_dropout\": 0.0,\n"             \
	"\"decoder_sparse_step\": 1, \"head_dim\": 128,\n"                     \
	"\"hidden_act\": \"silu\", \"hidden_size\": 2048,\n"                   \
	"\"initializer_range\": 0.02, \"intermediate_size\": 6144,\n"          \
	"\"max_position_embeddings\": 40960, \"mlp_only_layers\": [],\n"       \
	"\"model_type\": \"qwen3_moe\", \"moe_intermediate_size\": 768,\n"     \
	"\"norm_topk_prob\": true, \"num_attention_heads\": 32,\n"             \
	"\"num_experts_per_tok\": 8, \"num_hidden_layers\": 48,\n"             \
	"\"num_key_value_heads\": 4, \"output_router_logits\": false,\n"       \
	"\"rms_norm_eps\": 1e-06, \"router_aux_loss_coef\": 0.001,\n"          \
	"\"sliding_window\": null, \"tie_word_embeddings\": false,\n"          \
	"\"use_cache\": true, \"use_sliding_window\": false,\n"                \
	"\"vocab_size\": 151936,\n"

const char published_qwen3[] =
	"{\n" QWEN3_FIELDS
	"\"bos_token_id\": 151643, \"eos_token_id\": 151645,\n"
	"\"max_window_layers\": 48, \"num_experts\": 128,\n"
	"\"rope_scaling\": null, \"rope_theta\": 1000000.0,\n"
	"\"torch_dtype\": \"bfloat16\",\n"
	"\"transformers_version\": \"4.51.0\"\n}\n";

const char written5_qwen3[] =
	"{\n" QWEN3_FIELDS "\"bos_token_id\": null, \"dtype\": \"bfloat16\",\n"
	"\"eos_token_id\": null, \"num_local_experts\": 128,\n"
	"\"pad_token_id\": null,\n"
	"\"rope_parameters\": {\"rope_theta\": 1000000.0,\n"
	"  \"rope_type\": \"default\"},\n"
	"\"transformers_version\": \"5.23.0\"\n}\n";

const char published_mixtral[] =
	"{\n"
	"\"architectures\": [\"MixtralForCausalLM\"],\n"
	"\"attention_dropout\": 0.0, \"bos_token_id\": 1,\n"
	"\"eos_token_id\": 2, \"hidden_act\": \"silu\",\n"
	"\"hidden_size\": 4096, \"initializer_range\": 0.02,\n"
	"\"intermediate_size\": 14336,\n"
	"\"max_position_embeddings\": 32768,\n"
	"\"model_type\": \"mixtral\", \"num_attention_heads\": 32,\n"
	"\"num_experts_per_tok\": 2, \"num_hidden_layers\": 32,\n"
	"\"num_key_value_heads\": 8, \"num_local_experts\": 8,\n"
	"\"output_router_logits\": false, \"rms_norm_eps\": 1e-05,\n"
	"\"rope_theta\": 1000000.0, \"router_aux_loss_coef\": 0.02,\n"
	"\"sliding_window\": null, \"tie_word_embeddings\": false,\n"
	"\"torch_dtype\": \"bfloat16\",\n"
	"\"transformers_version\": \"4.36.0.dev0\",\n"
	"\"use_cache\": true, \"vocab_size\": 32000\n}\n";

const char published_olmoe[] =
	"{\n"
	"\"architectures\": [\"OlmoeForCausalLM\"],\n"
	"\"attention_bias\": false, \"attention_dropout\": 0.0,\n"
	"\"clip_qkv\": null, \"eos_token_id\": 50279,\n"
	"\"hidden_act\": \"silu\", \"hidden_size\": 2048,\n"
	"\"initializer_range\": 0.02, \"intermediate_size\": 1024,\n"
	"\"max_position_embeddings\": 4096, \"model_type\": \"olmoe\",\n"
	"\"norm_topk_prob\": false, \"num_attention_heads\": 16,\n"
	"\"num_experts\": 64, \"num_experts_per_tok\": 8,\n"
	"\"num_hidden_layers\": 16, \"num_key_value_heads\": 16,\n"
	"\"output_router_logits\": false, \"pad_token_id\": 1,\n"
	"\"rope_scaling\": null, \"rope_theta\": 10000.0,\n"
	"\"router_aux_loss_coef\": 0.01, \"tie_word_embeddings\": false,\n"
	"\"torch_dtype\": \"bfloat16\",\n"
	"\"transformers_version\": \"4.43.0.dev0\",\n"
	"\"use_cache\": true, \"vocab_size\": 50304\n}\n";

const char published_granite[] =
	"{\n"
	"\"architectures\": [\"GraniteMoeForCausalLM\"],\n"
	"\"attention_bias\": false, \"attention_dropout\": 0.1,\n"
	"\"attention_multiplier\": 0.015625, \"bos_token_id\": 0,\n"
	"\"embedding_multiplier\": 12.0, \"eos_token_id\": 0,\n"
	"\"hidden_act\": \"silu\", \"hidden_size\": 1536,\n"
	"\"initializer_range\": 0.02, \"intermediate_size\": 512,\n"
	"\"logits_scaling\": 6.0, \"max_position_embeddings\": 131072,\n"
	"\"model_type\": \"granitemoe\", \"num_attention_heads\": 24,\n"
	"\"num_experts_per_tok\": 8, \"num_hidden_layers\": 32,\n"
	"\"num_key_value_heads\": 8, \"num_local_experts\": 40,\n"
	"\"output_router_logits\": false, \"pad_token_id\": 0,\n"
	"\"residual_multiplier\": 0.22, \"rms_norm_eps\": 1e-06,\n"
	"\"rope_scaling\": null, \"rope_theta\": 5000000.0,\n"
	"\"router_aux_loss_coef\": 0.001, \"tie_word_embeddings\": true,\n"
	"\"torch_dtype\": \"bfloat16\",\n"
	"\"transformers_version\": \"4.46.0.dev0\",\n"
	"\"use_cache\": true, \"vocab_size\": 49155\n}\n";
