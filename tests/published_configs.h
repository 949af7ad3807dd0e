/* published_configs.h - config.json as the families publish it (texts) */
/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEDDLE_TESTS_PUBLISHED_CONFIGS_H
#define HEDDLE_TESTS_PUBLISHED_CONFIGS_H

extern const char published_v2_lite[]; /* DeepSeek-V2-Lite */
extern const char published_esft[]; /* ESFT-vanilla-lite: no YaRN */
extern const char published_v2[]; /* DeepSeek-V2-Chat */
extern const char published_v3[]; /* DeepSeek-V3 */
extern const char published_qwen2[]; /* Qwen1.5-MoE-A2.7B */
extern const char published_qwen3[]; /* Qwen3-30B-A3B */
extern const char published_mixtral[]; /* Mixtral-8x7B-v0.1 */
extern const char published_olmoe[]; /* OLMoE-1B-7B-0924 */
extern const char published_granite[]; /* granite-3.1-3b-a800m-base */

/* As transformers 5 writes them. */
extern const char written5_qwen2[];
extern const char written5_qwen3[];
extern const char written5_v3[];

#endif
