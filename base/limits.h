/* limits.h - every bound of the appliance, in one place */
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why:     a bound that is written down can be tested and defended; one that
 *          is spread over the code cannot. Sizes that follow from the model
 *          or the configuration are computed at start and sealed; these are
 *          the ceilings that they are checked against.
 * Rule:    whoever parses compares with these before it allocates or uses.
 */
#ifndef HEDDLE_BASE_LIMITS_H
#define HEDDLE_BASE_LIMITS_H

/* Cache line that fields of different writers keep apart. */
#define CACHE_LINE_BYTES 64

/* Node: ranks (engine processes) and what they may hold. */
#define RANK_COUNT_MAX 16
#define FRONT_COUNT_MAX 8 /* loops of the dataplane, each with its own rings */
#define INSTANCE_COUNT_MAX 256 /* adapter instances per rank, row 0 = base */

/* Model shapes: refused above these, long before arithmetic could wrap. */
#define MODEL_LAYER_COUNT_MAX 256
#define MODEL_HIDDEN_MAX 65536
#define MODEL_VOCAB_MAX (1u << 22)
#define MODEL_HEAD_COUNT_MAX 1024
#define MODEL_HEAD_DIM_MAX 1024
#define MODEL_EXPERT_COUNT_MAX 1024
#define MODEL_TOPK_MAX 32
#define MODEL_GROUP_COUNT_MAX 64
#define MODEL_INTERMEDIATE_MAX (1u << 20)
#define MODEL_POSITION_COUNT_MAX (1u << 24)

/* Expert slots of one layer: a slot id is 16 bits, 65535 means "none". */
#define EXPERT_SLOT_COUNT_MAX 65535u

/* Model files. The safetensors header cap is the format's own (100 MB). */
#define SAFETENSORS_HEADER_BYTES_MAX (100u * 1000 * 1000)
#define SAFETENSORS_TENSOR_COUNT_MAX (1u << 18)
#define SAFETENSORS_NAME_BYTES_MAX 512
#define SAFETENSORS_RANK_MAX 8
#define MODEL_FILE_COUNT_MAX 1024
#define MODEL_JSON_BYTES_MAX (64u * 1024 * 1024) /* config, index */

/* One step. */
#define STEP_ROW_COUNT_MAX 8192
#define STEP_SEQUENCE_COUNT_MAX 4096
#define ATTENTION_CHUNK_TOKENS 256 /* partials at absolute multiples */

/* Sampling. */
#define LOGPROB_TOP_MAX 20
#define LOGIT_BIAS_COUNT_MAX 300

/* Requests. */
#define REQUEST_SLOT_COUNT_MAX 65536
#define PAYLOAD_PAGE_BYTES 4096
#define PAYLOAD_PAGE_COUNT_MAX (1u << 22) /* 16 GiB */
#define REQUEST_CHOICE_COUNT_MAX 128
#define SEGMENT_RING_COUNT_MAX (1u << 20) /* messages of one ring */

/* KV: smallest span of tokens that a block may hold. */
#define KV_BLOCK_TOKENS_MIN 16
#define KV_BLOCK_TOKENS_MAX 256
#define KV_PAGES_PER_BLOCK_MAX 32

/* Pages: the host back end accepts no smaller ones. */
#define PAGE_SIZE_BYTES_MIN 65536u
#define PAGE_COUNT_MAX (1u << 26)

#endif
