# make_text_goldens.py - small tokenizers of every family, and their ids (-> tests/golden-text)
# SPDX-License-Identifier: Apache-2.0
"""usage: make_text_goldens.py FOLDER

Trains a small BPE for each family with the `tokenizers` library, puts the
family's own steps around it, and writes
  FOLDER/texts.txt           texts that all families encode, one a line, in hex
  FOLDER/NAME/tokenizer.json
  FOLDER/NAME/cases.txt      per case: flags, text, ids, decoded text
A case line is "FLAGS TEXT IDS DECODED" with tabs between. FLAGS: 1 add special
tokens, 2 trusted, 8 skip special tokens in decoding; untrusted cases are the
library's encode_special_tokens. TEXT: #N is line N of texts.txt, from 0, else
hex; - is the empty text. IDS: numbers, or where they are many ~COUNT:HASH.
DECODED: = is the text itself, else hex, or ~BYTES:HASH. HASH is the 64-bit
FNV-1a of the bytes, of ids as 32 bits little endian.
"""
import json
import pathlib
import random
import struct
import sys

from tokenizers import Tokenizer, models, normalizers
from tokenizers import pre_tokenizers, trainers
from tokenizers import Regex

import oracle_tokenizers as steps
import text_strings

VOCAB = 900
DEEPSEEK_V2_LETTERS = (
    "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf"
    "\u01c4-\u0293\u0295-\u02af\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f"
    "\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481"
    "\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u1e00-\u1f15"
    "\u2c00-\u2c7b\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f"
)
DEEPSEEK_V3 = [
    r"\p{N}{1,3}",
    "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|"
    "[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|"
    "\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
]
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SAMPLES = [
    "\u4e2d\u6587\u5206\u8bcd\u5668\u6d4b\u8bd5\uff0c\u6211\u4eec\u5728\u8fd9\u91cc\u3002",
    "\u043f\u0440\u0438\u0432\u0435\u0442 \u043c\u0438\u0440, \u044d\u0442\u043e \u0442\u0435\u0441\u0442",
    "caf\u00e9 na\u00efve \u00fcber stra\u00dfe \u3053\u3093\u306b\u3061\u306f \uc548\ub155",
]


def corpus():
    rng = random.Random(20)
    for i in range(1500):
        kind = rng.random()
        if kind < 0.75:
            yield text_strings.prose(rng)
        elif kind < 0.9:
            yield text_strings.code(rng)
        else:
            yield rng.choice(SAMPLES)


def trained(pre, alphabet, specials, size=VOCAB, normalizer=None, **model):
    """vocab and merges of a BPE trained behind the steps."""
    tok = Tokenizer(models.BPE(**model))
    if normalizer:
        tok.normalizer = normalizer
    if pre:
        tok.pre_tokenizer = pre
    tok.train_from_iterator(
        corpus(),
        trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=specials,
            initial_alphabet=alphabet,
            show_progress=False,
        ),
    )
    state = json.loads(tok.to_str())["model"]
    return state["vocab"], state["merges"]


def byte_trained(splits, specials=(), size=VOCAB):
    parts = [
        pre_tokenizers.Split(Regex(s), "isolated")
        if isinstance(s, str)
        else s
        for s in splits
    ]
    pre = pre_tokenizers.Sequence(
        parts + [pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return trained(pre, alphabet, list(specials), size)


def sequence(key, *parts, kind="Sequence"):
    return {"type": kind, key: list(parts)}


def splits_and_bytes(splits):
    return sequence(
        "pretokenizers",
        *[s if isinstance(s, dict) else steps.split(s) for s in splits],
        steps.byte_level(),
    )


def deepseek_v2():
    splits = [
        "[\r\n]",
        f"\\s?[{DEEPSEEK_V2_LETTERS}]+",
        "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+",
        "\\s+$",
        "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+",
    ]
    bos = "<\uff5cbegin\u2581of\u2581sentence\uff5c>"
    vocab, merges = byte_trained(splits + [pre_tokenizers.Digits(True)])
    count = len(vocab)
    return steps.whole(
        steps.bpe(vocab, [" ".join(pair) for pair in merges]),
        [
            steps.added(count, bos, normalized=True),
            steps.added(
                count + 1, "<\uff5cend\u2581of\u2581sentence\uff5c>",
                normalized=True,
            ),
            steps.added(count + 2, "<\uff5cfim\u2581hole\uff5c>",
                        special=False, normalized=True),
        ],
        normalizer=sequence("normalizers"),
        pre_tokenizer=splits_and_bytes(
            splits + [{"type": "Digits", "individual_digits": True}]
        ),
        post_processor=steps.bos_template(bos, count),
        decoder=steps.byte_level(),
    )


def deepseek_v3():
    names = ["<\uff5cbegin\u2581of\u2581sentence\uff5c>",
             "<\uff5cend\u2581of\u2581sentence\uff5c>"]
    vocab, merges = byte_trained(DEEPSEEK_V3, names)
    count = len(vocab)
    more = ["<think>", "</think>", "<\uff5cUser\uff5c>",
            "<\uff5cAssistant\uff5c>"]
    return steps.whole(
        steps.bpe(vocab, [" ".join(pair) for pair in merges]),
        [steps.added(i, name) for i, name in enumerate(names)]
        + [
            steps.added(count + i, name, special=False, normalized=True)
            for i, name in enumerate(more)
        ],
        normalizer=sequence("normalizers"),
        pre_tokenizer=splits_and_bytes(DEEPSEEK_V3),
        post_processor=steps.byte_level(),
        decoder=steps.byte_level(),
    )


def qwen():
    vocab, merges = byte_trained([steps.QWEN_REGEX])
    count = len(vocab)
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    return steps.whole(
        steps.bpe(vocab, merges, unk_token=None),
        [steps.added(count + i, name) for i, name in enumerate(names)]
        + [steps.added(count + 3, "<tool_call>", special=False)],
        normalizer={"type": "NFC"},
        pre_tokenizer=splits_and_bytes([steps.QWEN_REGEX]),
        post_processor=steps.byte_level(),
        decoder=steps.byte_level(),
    )


def olmoe():
    tok_pre = pre_tokenizers.ByteLevel(False, use_regex=True)
    vocab, merges = trained(
        tok_pre, pre_tokenizers.ByteLevel.alphabet(), ["<|padding|>"]
    )
    count = len(vocab)
    runs = [
        steps.added(count + i, " " * size, special=False, normalized=True)
        for i, size in enumerate(range(24, 1, -1))
    ]
    count += len(runs)
    return steps.whole(
        steps.bpe(vocab, merges),
        [steps.added(0, "<|padding|>")]
        + runs
        + [
            steps.added(count, "|||IP_ADDRESS|||", special=False,
                        normalized=True),
            steps.added(count + 1, "<|endoftext|>"),
        ],
        normalizer={"type": "NFC"},
        pre_tokenizer=steps.byte_level(use_regex=True, trim_offsets=True),
        post_processor=steps.bos_template("<|endoftext|>", count + 1),
        decoder=steps.byte_level(use_regex=True, add_prefix_space=True),
    )


def granite():
    pre = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(False)]
    )
    names = ["<|end_of_text|>", "<fim_prefix>"]
    vocab, merges = trained(
        pre, pre_tokenizers.ByteLevel.alphabet(), names
    )
    return steps.whole(
        steps.bpe(vocab, merges, unk_token="<|end_of_text|>"),
        [steps.added(i, name) for i, name in enumerate(names)]
        + [steps.added(len(vocab), "<|start_of_role|>")],
        pre_tokenizer=sequence(
            "pretokenizers",
            {"type": "Digits", "individual_digits": True},
            steps.byte_level(use_regex=True, trim_offsets=True),
        ),
        decoder=steps.byte_level(use_regex=True, add_prefix_space=True),
    )


def pieces_trained(pre, normalizer):
    vocab, merges = trained(
        pre,
        [],
        ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)],
        VOCAB + 259,
        normalizer=normalizer,
    )
    # Some characters only as bytes, as a real vocabulary has it.
    gone = {c for c in vocab if len(c) == 1 and ord(c) % 7 == 3}
    merges = [m for m in merges if not gone & set("".join(m))]
    kept = [t for t in vocab if not gone & set(t) or t.startswith("<")]
    kept.sort(key=vocab.get)
    return {t: i for i, t in enumerate(kept)}, merges


def pieces_model(vocab, merges):
    return steps.bpe(
        vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True
    )


def specials():
    return [steps.added(i, t) for i, t in enumerate(["<unk>", "<s>", "</s>"])]


def mixtral():
    normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    pre = pre_tokenizers.Metaspace("\u2581", "never", True)
    vocab, merges = pieces_trained(pre, normalizer)
    return steps.whole(
        pieces_model(vocab, merges),
        specials(),
        normalizer=steps.pieces_normalizer(),
        post_processor=steps.bos_template("<s>", 1),
        decoder=steps.pieces_decoder(),
    )


def metaspace(scheme, split):
    return {
        "type": "Metaspace",
        "replacement": "\u2581",
        "prepend_scheme": scheme,
        "split": split,
    }


def mistral_metaspace():
    pre = pre_tokenizers.Metaspace("\u2581", "always", True)
    vocab, merges = pieces_trained(pre, None)
    return steps.whole(
        pieces_model(vocab, merges),
        specials() + [steps.added(len(vocab), "[INST]")],
        pre_tokenizer=metaspace("first", False),
        post_processor=steps.bos_template("<s>", 1),
        decoder=steps.pieces_decoder(),
    )


def metaspace_words():
    """Words split at the block, decoded by Metaspace, unknowns not fused."""
    pre = pre_tokenizers.Metaspace("\u2581", "always", True)
    vocab, merges = pieces_trained(pre, None)
    return steps.whole(
        steps.bpe(vocab, merges, unk_token="<unk>"),
        specials(),
        pre_tokenizer=metaspace("always", True),
        decoder=metaspace("always", True),
    )


def llama3():
    vocab, merges = byte_trained([LLAMA3])
    # Words that no merge makes: only ignore_merges finds them.
    for word in (" transformer", "throughput", " \u4e2d\u6587"):
        vocab.setdefault(steps.spell(word.encode()), len(vocab))
    count = len(vocab)
    names = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"]
    bos = steps.bos_template(names[0], count)
    return steps.whole(
        steps.bpe(vocab, merges, ignore_merges=True),
        [steps.added(count + i, name) for i, name in enumerate(names)],
        pre_tokenizer=splits_and_bytes([LLAMA3]),
        post_processor=sequence("processors", steps.byte_level(), bos),
        decoder=steps.byte_level(),
    )


def odd_words():
    """Added tokens with every rule, in a text with a prefix space."""
    vocab, merges = byte_trained([steps.QWEN_REGEX], ["<l>"], 400)
    count = len(vocab)
    rules = [
        ("<l>", {"lstrip": True}),
        ("<r>", {"rstrip": True}),
        ("<lr>", {"lstrip": True, "rstrip": True}),
        ("<w>", {"single_word": True}),
        ("word", {"single_word": True, "special": False}),
        ("wor", {"special": False}),
        ("[n]", {"normalized": True}),
        ("\u00c5ngstr\u00f6m", {"normalized": True, "special": False}),
        ("  ", {"special": False, "rstrip": True}),
    ]
    tokens = []
    for i, (name, rule) in enumerate(rules):
        tokens.append(
            steps.added(0 if i == 0 else count + i - 1, name, **rule)
        )
    return steps.whole(
        steps.bpe(vocab, merges),
        tokens,
        normalizer={"type": "NFKC"},
        pre_tokenizer=steps.byte_level(
            add_prefix_space=True, use_regex=True
        ),
        decoder=steps.byte_level(),
    )


def odd_splits():
    """Every behavior of Split, one behind the other, and NFKD."""
    vocab, merges = byte_trained([steps.QWEN_REGEX], ["<x>"], 400)
    return steps.whole(
        steps.bpe(vocab, merges),
        [steps.added(0, "<x>")],
        normalizer=sequence(
            "normalizers",
            {"type": "NFKD"},
            {"type": "Replace", "pattern": {"String": "of"}, "content": ""},
        ),
        pre_tokenizer=sequence(
            "pretokenizers",
            steps.split(r"\r\n|\n", "MergedWithPrevious"),
            steps.split(r"[.,;]+", "MergedWithNext"),
            steps.split(r"\p{N}", "Contiguous"),
            steps.split(r"[^\p{M}\u200d]+", "Contiguous", True),
            steps.split("[\u4e00-\u9fff]+|\\p{L}+|[^\\p{L}]+", "Removed", True),
            {
                "type": "Split",
                "pattern": {"String": "the"},
                "behavior": "Isolated",
                "invert": False,
            },
            steps.byte_level(),
        ),
        decoder=steps.byte_level(),
    )


FAMILIES = [
    deepseek_v2, deepseek_v3, qwen, olmoe, granite, mixtral,
    mistral_metaspace, metaspace_words, llama3, odd_words, odd_splits,
]


def fnv(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return f"{value:x}"


def short(count, text, data):
    return text if len(text) <= 60 else f"~{count}:{fnv(data)}"


def case_line(tok, flags, text, shown):
    source = text.decode("utf-8", "replace")
    tok.encode_special_tokens = not flags & 2
    ids = tok.encode(source, add_special_tokens=bool(flags & 1)).ids
    decoded = tok.decode(ids, skip_special_tokens=bool(flags & 8)).encode()
    same = decoded == source.encode()
    packed = struct.pack(f"<{len(ids)}I", *ids)
    return "\t".join(
        [
            f"{flags:x}",
            shown,
            short(len(ids), " ".join(map(str, ids)), packed),
            "=" if same else short(len(decoded), decoded.hex(), decoded),
        ]
    )


def write_family(folder, build, texts):
    path = folder / build.__name__
    path.mkdir(parents=True, exist_ok=True)
    state = json.dumps(
        build(), ensure_ascii=False, separators=(",", ":")
    ).replace('],["', '],\n["')
    (path / "tokenizer.json").write_text(state + "\n", encoding="utf-8")
    tok = Tokenizer.from_str(state)
    names = [t.content for t in tok.get_added_tokens_decoder().values()]
    names += ["word", "A\u030angstro\u0308m", "swordfish", "of"]
    rng = random.Random(build.__name__)
    lines = [
        case_line(tok, (2, 0, 3, 10, 1, 11)[i % 6], text, f"#{i}")
        for i, text in enumerate(texts)
    ]
    for i in range(100):
        text = text_strings.with_tokens(rng, names).encode()[:160]
        lines.append(
            case_line(tok, (2, 0, 3, 11)[i % 4], text, text.hex() or "-")
        )
    (path / "cases.txt").write_text("\n".join(lines) + "\n")
    sizes = [(path / f).stat().st_size for f in ("tokenizer.json", "cases.txt")]
    print(f"{build.__name__}: {len(lines)} cases, {sizes} bytes")


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    texts = [
        t for t in text_strings.make(7, 4000, []) if len(t) <= 110
    ][:420]
    (folder / "texts.txt").write_text(
        "\n".join(t.hex() or "-" for t in texts) + "\n"
    )
    for build in FAMILIES:
        write_family(folder, build, texts)


if __name__ == "__main__":
    main()
