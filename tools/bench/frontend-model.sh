#!/bin/sh
# frontend-model.sh - a model directory for the null device (goldens -> folder)
# SPDX-License-Identifier: Apache-2.0
# usage: tools/bench/frontend-model.sh FOLDER [POSITIONS]
# The shape of a golden model with a tokenizer of 904 tokens; no weights, for
# the null device computes nothing. A long context, so that prompts of 1 MB fit.
set -eu
folder=$1
positions=${2:-1048576}
golden=tests/golden/deepseek_v2_lite/config.json
mkdir -p "$folder"
cp tests/golden-text/qwen/tokenizer.json "$folder/"
sed -E -e 's/"vocab_size": *[0-9]+/"vocab_size": 1024/' \
	-e "s/\"max_position_embeddings\": *[0-9]+/\"max_position_embeddings\": $positions/" \
	"$golden" >"$folder/config.json"
grep -q '"vocab_size": 1024' "$folder/config.json"
cat >"$folder/chat_template.jinja" <<'TEMPLATE'
{%- for message in messages %}{{ '<|im_start|>' + message['role'] + '
' + message['content'] + '<|im_end|>
' }}{%- endfor %}{%- if add_generation_prompt %}{{ '<|im_start|>assistant
' }}{%- endif %}
TEMPLATE
