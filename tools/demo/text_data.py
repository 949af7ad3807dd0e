# text_data.py - documents to a tokenizer and to token streams
# SPDX-License-Identifier: Apache-2.0
"""The tokenizer is trained on the training documents alone. Every domain
becomes one stream of uint16 ids: BOS document EOS BOS document EOS ...
One document in eight is framed as a conversation, so that the tokens of the
chat template mean something to the model.
"""

import hashlib
import json
import random
from pathlib import Path

import numpy as np
from tokenizers import (Regex, Tokenizer, decoders, models, pre_tokenizers,
                        processors, trainers)

from sources import ALL_DOMAINS, GENERAL

VOCAB = 4096
BOS, EOS, SYSTEM, USER, ASSISTANT, END = range(6)
SPECIAL = ["<|bos|>", "<|eos|>", "<|system|>", "<|user|>", "<|assistant|>",
           "<|end|>"]
# Words with the space before them, single digits, runs of other signs.
WORDS = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
         r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
CHAT_SHARE = 8  # one document in so many
CHAT_CHARACTERS = 1200
# A third of the tokenizer's text: rare languages need their own words too.
TOKENIZER_BYTES = {GENERAL: 6_000_000, "scripture": 1_000_000,
                   "german": 1_500_000, "python": 1_500_000,
                   "dictionary": 1_500_000}
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' }}{{ message['content'] }}"
    "{{ '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}")


def train_tokenizer(documents: list[dict], path: Path) -> None:
    """Byte-level BPE with the split of the newer model families."""
    texts, room = [], dict(TOKENIZER_BYTES)
    for document in documents:
        if not document["held_out"] and room[document["domain"]] > 0:
            texts.append(document["text"])
            room[document["domain"]] -= len(document["text"])
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB, special_tokens=SPECIAL, show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|bos|> $A", special_tokens=[("<|bos|>", BOS)])
    tokenizer.save(str(path))


def write_tokenizer_files(tokenizer: Path, folder: Path) -> None:
    """tokenizer.json and tokenizer_config.json of the model's folder."""
    (folder / "tokenizer.json").write_bytes(tokenizer.read_bytes())
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": SPECIAL[BOS], "eos_token": SPECIAL[EOS],
        "pad_token": SPECIAL[EOS], "model_max_length": 16384,
        "additional_special_tokens": SPECIAL[SYSTEM:],
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(
        json.dumps(config, indent=2) + "\n")


def is_chat(document: dict) -> bool:
    """Chosen by hash, so that it does not depend on the order."""
    mark = hashlib.sha256(("chat" + document["text"]).encode()).digest()
    return int.from_bytes(mark[:4]) % CHAT_SHARE == 0


def document_ids(tokenizer: Tokenizer, document: dict) -> list[int]:
    """BOS text EOS, or a question for it and the answer."""
    def ids(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False).ids

    text = document["text"]
    if not is_chat(document):
        return [BOS, *ids(text), EOS]
    answer = text[:CHAT_CHARACTERS].rsplit("\n", 1)[0]
    return [BOS, USER, *ids(document["title"]), END, ASSISTANT,
            *ids(answer), END, EOS]


def encode(documents: list[dict], tokenizer_path: Path, work: Path) -> None:
    """work/DOMAIN.npy: the training stream; stream_bytes.json: its text."""
    tokenizer = Tokenizer.from_file(str(tokenizer_path))
    for domain in ALL_DOMAINS:
        chosen = [d for d in documents
                  if d["domain"] == domain and not d["held_out"]]
        random.Random(domain).shuffle(chosen)
        parts = [np.array(document_ids(tokenizer, d), np.uint16)
                 for d in chosen]
        np.save(work / f"{domain}.npy", np.concatenate(parts))


def prepare(documents: list[dict], work: Path) -> None:
    """Tokenizer and streams, each once."""
    path = work / "tokenizer.json"
    if not path.exists():
        train_tokenizer(documents, path)
    if not all((work / f"{d}.npy").exists() for d in ALL_DOMAINS):
        encode(documents, path, work)


class Sampler:
    """Windows of a mix of domains; state() makes it go on where it was.

    A domain's windows come in a random order, all before any comes again.
    Every second window is moved to the start of a document where one starts
    in it, because that is where generation starts too.
    """

    def __init__(self, work: Path, shares: dict[str, float], length: int,
                 seed: int) -> None:
        self.streams = {d: np.load(work / f"{d}.npy", mmap_mode="r")
                        for d in shares}
        self.names = list(shares)
        total = sum(shares.values())
        self.shares = [shares[d] / total for d in self.names]
        self.length, self.seed = length, seed
        self.drawn = {d: 0 for d in shares}
        self.steps = 0

    def state(self) -> dict:
        return {"drawn": dict(self.drawn), "steps": self.steps}

    def restore(self, state: dict) -> None:
        self.drawn, self.steps = dict(state["drawn"]), state["steps"]

    def window(self, domain: str) -> np.ndarray:
        """The next window of a domain, one id longer than `length`."""
        stream, span = self.streams[domain], self.length + 1
        count = (len(stream) - span) // self.length
        turn, at = divmod(self.drawn[domain], count)
        order = np.random.default_rng(
            [self.seed, turn, len(domain)]).permutation(count)
        start = int(order[at]) * self.length
        if self.drawn[domain] % 2:
            starts = np.flatnonzero(stream[start:start + self.length] == BOS)
            if len(starts) and start + starts[0] + span <= len(stream):
                start += int(starts[0])
        self.drawn[domain] += 1
        return np.asarray(stream[start:start + span], np.int64)

    def batch(self, rows: int) -> np.ndarray:
        """[rows, length + 1] ids."""
        rng = np.random.default_rng([self.seed, self.steps])
        self.steps += 1
        chosen = rng.choice(len(self.names), size=rows, p=self.shares)
        return np.stack([self.window(self.names[c]) for c in chosen])
