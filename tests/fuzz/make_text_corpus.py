#!/usr/bin/env python3
# make_text_corpus.py - seed inputs of fuzz_tokenizer_json and fuzz_encode (nothing -> files)
# SPDX-License-Identifier: Apache-2.0
"""Writes corpus/{tokenizer_json,encode}/; the same files every time."""
import json
import pathlib

ROOT = pathlib.Path(__file__).parent / "corpus"
BLOCK = "\u2581"


def split(pattern, behavior="Isolated", kind="Regex", invert=False):
    return {
        "type": "Split",
        "pattern": {kind: pattern},
        "behavior": behavior,
        "invert": invert,
    }


def sequence(key, *parts):
    return {"type": "Sequence", key: list(parts)}


def replace(old, new):
    return {"type": "Replace", "pattern": {"String": old}, "content": new}


BYTES = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
PIECES = sequence(
    "decoders",
    replace(BLOCK, " "),
    {"type": "ByteFallback"},
    {"type": "Fuse"},
    {"type": "Strip", "content": " ", "start": 1, "stop": 0},
)


def bos(token, token_id):
    return {
        "type": "TemplateProcessing",
        "single": [
            {"SpecialToken": {"id": token, "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
        ],
        "pair": [],
        "special_tokens": {token: {"id": token, "ids": [token_id]}},
    }


def whole(vocab, merges, model=None, added=(), **steps):
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": list(added),
        "normalizer": steps.get("normalizer"),
        "pre_tokenizer": steps.get("pre_tokenizer"),
        "post_processor": steps.get("post_processor"),
        "decoder": steps.get("decoder", BYTES),
        "model": {"type": "BPE", "vocab": vocab, "merges": merges}
        | (model or {}),
    }


def token(token_id, content, **more):
    return {"id": token_id, "content": content, "special": True} | more


def vocabulary(*tokens):
    return {t: i for i, t in enumerate(tokens)}


ASCII = vocabulary(*"abcdefghijklmnopqrstuvwxyz\u0120\u010a0123.", "aa", "aaaa")
MERGES = ["a a", "aa aa"]
SP = vocabulary(
    "<unk>", "<s>", "</s>", "<0x0A>", "<0xC3>", "<0xA9>", BLOCK,
    "a", "h", "e", "t", "he", "the", BLOCK + "the", BLOCK * 2,
)
SP_MERGES = [["h", "e"], ["t", "he"], [BLOCK, "the"], [BLOCK, BLOCK]]
FILES = {
    "bytes": whole(ASCII, MERGES, pre_tokenizer=BYTES | {"use_regex": True}),
    "prefix": whole(ASCII, MERGES, pre_tokenizer={"type": "ByteLevel"}),
    "splits": whole(
        ASCII,
        MERGES,
        {"ignore_merges": True, "unk_token": "a"},
        [token(len(ASCII), "<s>"), token(len(ASCII) + 1, "</s>", lstrip=True)],
        normalizer=sequence("normalizers", {"type": "NFC"}),
        pre_tokenizer=sequence(
            "pretokenizers",
            split(r"\p{N}{1,3}"),
            split(r"\s+$", "Removed"),
            split("[.\u4e00-\u9fa5]+", "MergedWithNext"),
            split("(?i:'s|'ll)| ?[^\\s\\p{L}]+|\\s+(?!\\S)|\\s+"),
            split("x", "Contiguous", "String", True),
            {"type": "Digits", "individual_digits": True},
            BYTES,
        ),
        post_processor=sequence(
            "processors", BYTES, bos("<s>", len(ASCII))
        ),
    ),
    "pieces": whole(
        SP,
        SP_MERGES,
        {"unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True},
        [token(i, t) for i, t in enumerate(["<unk>", "<s>", "</s>"])],
        normalizer=sequence(
            "normalizers",
            {"type": "Prepend", "prepend": BLOCK},
            replace(" ", BLOCK),
        ),
        post_processor=bos("<s>", 1),
        decoder=PIECES,
    ),
    "metaspace": whole(
        SP,
        SP_MERGES,
        {"unk_token": "<unk>"},
        normalizer={"type": "NFKD"},
        pre_tokenizer={
            "type": "Metaspace",
            "replacement": BLOCK,
            "prepend_scheme": "first",
            "split": True,
        },
        decoder={
            "type": "Metaspace",
            "replacement": BLOCK,
            "prepend_scheme": "always",
        },
    ),
    "words": whole(
        ASCII,
        MERGES,
        added=[
            token(len(ASCII), "[a]", normalized=True, rstrip=True),
            token(len(ASCII) + 1, "word", special=False, single_word=True),
            token(len(ASCII) + 2, "  ", special=False),
        ],
        normalizer={"type": "NFKC"},
        pre_tokenizer=BYTES,
    ),
}
WRONG = {
    "model": b'{"model":{"type":"Unigram"}}',
    "merge": b'{"decoder":{"type":"Fuse"},"model":{"type":"BPE","vocab":'
    b'{"a":0},"merges":["a b"]}}',
    "regex": b'{"pre_tokenizer":{"type":"Split","pattern":{"Regex":"(?<x>"}'
    b',"behavior":"Isolated"}}',
    "cut": b'{"model":{"type":"BPE","vocab":{"a":0',
    "empty": b"",
    "first_token_empty": b'{"pre_tokenizer":{"type":"ByteLevel"},"decoder":'
    b'{"type":"ByteLevel"},"model":{"type":"BPE","vocab":{"":0,"a":1},'
    b'"merges":["a b"]}}',
}
TEXTS = [
    b"", b"hello world", b"  The caf\xc3\xa9's 12345\n\n  x", b"a" * 90,
    b"<|im_start|>user<|im_end|>", b"<s>[INST] hi </s>", b"\xff\xfe\xe2\x82",
    "\u4e2d\u6587\uff0c\u3053\u3093 e\u0301\u0323\U0001f468\u200d\U0001f469".encode(),
    b"<\xef\xbd\x9cUser\xef\xbd\x9c><think>", b"word swordfish <l> <r>  <w>",
    b" \t\r\n\xe2\x80\x83\xe1\xa0\x8e\x85", b"=-=-==---" * 9,
    b"\xff" * 100, b" " * 130, b"=-" * 64, "\u00e9".encode() * 77, b"<" * 101,
]


def main():
    for name in ("tokenizer_json", "encode"):
        (ROOT / name).mkdir(parents=True, exist_ok=True)
    for name, value in FILES.items():
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
        (ROOT / "tokenizer_json" / name).write_bytes(text.encode())
    for name, data in WRONG.items():
        (ROOT / "tokenizer_json" / f"wrong_{name}").write_bytes(data)
    for i, text in enumerate(TEXTS):
        head = bytes([i % 8, (0, 255, 128)[i % 3]])
        (ROOT / "encode" / f"text_{i:02}").write_bytes(head + text)


if __name__ == "__main__":
    main()
