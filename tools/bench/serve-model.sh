#!/bin/bash
# serve-model.sh - a random model with a tokenizer, to be served (-> folder)
# SPDX-License-Identifier: Apache-2.0
# usage: serve-model.sh MODEL FOLDER
# The files of MODEL, linked, and a tokenizer.json in which every id of its
# vocabulary has a text: the bytes, then made-up words.
set -euo pipefail
model=$1 folder=$2
mkdir -p "$folder"
ln -f "$model"/*.safetensors "$folder/"
cp -p "$model/config.json" "$folder/"
python3 -B - "$folder" <<'END'
import json, sys
folder = sys.argv[1]
with open(f"{folder}/config.json", encoding="utf-8") as file:
    size = json.load(file)["vocab_size"]
# The letters that stand for bytes (GPT-2's).
letters = [b for b in range(256) if 33 <= b < 127 or 161 <= b < 173 or b > 173]
letters = list(map(chr, letters)) + [chr(256 + i) for i in range(256 - len(letters))]
words = (f"\u0120w{i:x}" for i in range(size))
vocab = dict(zip(letters + [next(words) for _ in range(max(0, size - 256))], range(size)))
level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False,
         "use_regex": True}
tokenizer = {
    "version": "1.0", "truncation": None, "padding": None, "added_tokens": [],
    "normalizer": None, "pre_tokenizer": level, "post_processor": None,
    "decoder": level,
    "model": {"type": "BPE", "dropout": None, "unk_token": None,
              "continuing_subword_prefix": None, "end_of_word_suffix": None,
              "fuse_unk": False, "byte_fallback": False,
              "ignore_merges": True, "vocab": vocab, "merges": []}}
with open(f"{folder}/tokenizer.json", "w", encoding="utf-8") as file:
    json.dump(tokenizer, file)
END
