# evaluate.py - the demo's figures by transformers and peft, not by Heddle
# SPDX-License-Identifier: Apache-2.0
"""Usage, with the Python that setup.sh makes:

    evaluate.py table                bits and perplexity per byte, all pairs
    evaluate.py scores ADAPTER DOMAIN    JSON lines as heddle-eval score does
    evaluate.py compare FILE ADAPTER DOMAIN    FILE: heddle-eval's JSON lines
    evaluate.py samples              twice 200 tokens of base and adapters
    evaluate.py training-model WORK  checkpoint against the published base

ADAPTER is a folder's name in deploy/demo/adapters, base, or the path of a
whole checkpoint, as heddle-eval merge writes one. HEDDLE_DEMO names another
folder than deploy/demo.
"""

import argparse
import json
import math
import os
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

DEMO = Path(os.environ.get(
    "HEDDLE_DEMO", Path(__file__).resolve().parents[2] / "deploy/demo"))
DOMAINS = ("general", "scripture", "german", "python", "dictionary")
SAMPLE_TOKENS = 200
TEMPERATURE = 0.8
SAMPLE_SEEDS = (1, 2)


def overwrite_experts(model, folder: Path) -> None:
    """What ESFT's add_adapter does: the tuned experts replace the base's."""
    listed = json.loads((folder / "expert_cfg.json").read_text())["experts"]
    tensors = {}
    for path in folder.glob("*.safetensors"):
        tensors |= load_file(path)
    for layer, experts in listed.items():
        held = model.model.layers[int(layer)].mlp.experts
        for e in experts:
            stem = f"model.layers.{layer}.mlp.experts.{e}."
            gate, up, down = (tensors.pop(f"{stem}{n}_proj.weight").float()
                              for n in ("gate", "up", "down"))
            held.gate_up_proj.data[e] = torch.cat((gate, up))
            held.down_proj.data[e] = down
    assert not tensors, f"{folder}: unused {sorted(tensors)}"


def load(adapter: str):
    """The base in float32, with one adapter or none, or what merge made."""
    whole = "/" in adapter
    model, info = AutoModelForCausalLM.from_pretrained(
        adapter if whole else DEMO / "model", dtype=torch.float32,
        attn_implementation="eager", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"], info
    if whole:
        return model.eval()
    folder = DEMO / "adapters" / adapter
    if (folder / "expert_cfg.json").exists():
        overwrite_experts(model, folder)
    elif adapter != "base":
        from peft import PeftModel
        model = PeftModel.from_pretrained(model, folder)
    return model.eval()


def adapter_names() -> list[str]:
    return ["base", *sorted(p.name for p in (DEMO / "adapters").glob("*")
                            if p.is_dir())]


def texts(domain: str) -> list[str]:
    lines = (DEMO / "heldout" / f"{domain}.jsonl").read_text("utf-8")
    return [json.loads(line)["text"] for line in lines.splitlines()]


@torch.inference_mode()
def log_probabilities(model, ids: list[int]) -> list[float]:
    """Of each token but the first."""
    logits = model(torch.tensor([ids])).logits[0, :-1].double()
    return logits.log_softmax(-1).gather(
        1, torch.tensor(ids[1:])[:, None])[:, 0].tolist()


def score(model, tokenizer, domain: str) -> list[dict]:
    """One {"ids", "logprobs"} per held-out text."""
    rows = []
    for text in texts(domain):
        ids = tokenizer(text).input_ids
        rows.append({"ids": ids, "logprobs": log_probabilities(model, ids)})
    return rows


def bits_per_byte(rows: list[dict], domain: str) -> float:
    size = sum(len(t.encode()) for t in texts(domain))
    return -sum(sum(r["logprobs"]) for r in rows) / math.log(2) / size


def table(tokenizer) -> None:
    """Rows: models; columns: domains; how much lower than the base's."""
    print("bits per byte (perplexity per byte; against the base)")
    print("| model | " + " | ".join(DOMAINS) + " |")
    print("|---" * (len(DOMAINS) + 1) + "|")
    base: dict[str, float] = {}
    for adapter in adapter_names():
        model, cells = load(adapter), []
        for domain in DOMAINS:
            bits = bits_per_byte(score(model, tokenizer, domain), domain)
            base.setdefault(domain, bits)
            change = 100 * (2 ** (bits - base[domain]) - 1)
            cells.append(f"{bits:.3f} ({2 ** bits:.3f}; {change:+.1f} %)")
        print(f"| {adapter} | " + " | ".join(cells) + " |", flush=True)


def compare(tokenizer, file: str, adapter: str, domain: str) -> None:
    """Perplexity and tokens of another program against transformers'."""
    theirs = [json.loads(line) for line in Path(file).read_text().splitlines()]
    ours = score(load(adapter), tokenizer, domain)
    same = [a["ids"] for a in ours] == [b["ids"] for b in theirs]
    worst = max(abs(x - y) for a, b in zip(ours, theirs)
                for x, y in zip(a["logprobs"], b["logprobs"]))
    count = sum(len(a["logprobs"]) for a in ours)
    mine, other = (math.exp(-sum(sum(r["logprobs"]) for r in rows) / count)
                   for rows in (ours, theirs))
    difference = 100 * abs(other / mine - 1)
    print(f"{adapter} on {domain}: same ids: {same}; perplexity per token "
          f"{mine:.6f} (transformers), {other:.6f} ({file}): "
          f"{difference:.6f} % apart; worst token {worst:.2e}")
    if not same or difference > 0.1:
        sys.exit(1)


@torch.inference_mode()
def sample(model, tokenizer, prompt: str, seed: int) -> str:
    """SAMPLE_TOKENS tokens after the prompt."""
    torch.manual_seed(seed)
    ids = tokenizer(prompt, return_tensors="pt").input_ids
    out = model.generate(
        input_ids=ids, do_sample=True, temperature=TEMPERATURE, top_p=1.0,
        top_k=0, max_new_tokens=SAMPLE_TOKENS, min_new_tokens=SAMPLE_TOKENS,
        pad_token_id=tokenizer.eos_token_id)
    return tokenizer.decode(out[0, ids.shape[1]:], skip_special_tokens=True)


def samples(tokenizer) -> None:
    """From an empty prompt: BOS alone."""
    for adapter in adapter_names():
        model = load(adapter)
        print(f"### {adapter}\n")
        for seed in SAMPLE_SEEDS:
            print(f"````text\n{sample(model, tokenizer, '', seed)}\n````\n",
                  flush=True)


def training_model(tokenizer, work: Path) -> None:
    """The function of model.py is that of transformers; what bf16 costs."""
    from model import Model, Shape

    model = Model(Shape())
    model.load_state_dict(torch.load(work / "base.pt",
                                     map_location="cpu")["model"])
    library = load("base")
    for rounded in (False, True):
        if rounded:
            for p in model.parameters():
                p.data = p.data.to(torch.bfloat16).float()
        total, other, size = 0.0, 0.0, 0
        for text in texts("general"):
            ids = tokenizer(text).input_ids
            with torch.inference_mode():
                total += model.losses(torch.tensor([ids]))[0].sum().item()
            other -= sum(log_probabilities(library, ids))
            size += len(text.encode())
        print(f"{'bf16' if rounded else 'f32 '} weights in model.py "
              f"{total / size / math.log(2):.6f} bits per byte, published "
              f"in transformers {other / size / math.log(2):.6f}")


def main() -> None:
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("command", choices=[
        "table", "scores", "compare", "samples", "training-model"])
    parser.add_argument("rest", nargs="*")
    arguments = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(DEMO / "model")
    rest = arguments.rest
    if arguments.command == "table":
        table(tokenizer)
    elif arguments.command == "scores":
        for row in score(load(rest[0]), tokenizer, rest[1]):
            print(json.dumps(row))
    elif arguments.command == "compare":
        compare(tokenizer, *rest)
    elif arguments.command == "samples":
        samples(tokenizer)
    else:
        training_model(tokenizer, Path(rest[0]))


if __name__ == "__main__":
    main()
