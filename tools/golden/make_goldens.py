# make_goldens.py - tiny checkpoints and their expected logits (seed -> files)
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/golden/<case>/: a Hugging Face directory with random weights,
golden.jsonl and greedy.jsonl. README.md says what is in them.

Every number comes from transformers in float32 and is checked against
reference.py in float64; margins come from reference.py. Run it with the
versions pinned in README.md and the files come out the same, bit for bit.
"""

import argparse
import json
import math
import pathlib
import shutil
import sys
import tempfile

import numpy as np
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import save_file

import hf
import mutations
import reference
import weights
from cases import CASES

# Prompts are drawn so that no position chooses experts by less than this.
MARGIN_MIN = 1e-3
# What may not be exceeded: transformers (float32) against the reference.
AGREE_MAX = 1e-4
# What each mutation must move at least.
MUTATION_MIN = 1e-2
TOP = 5
GREEDY_PROMPT, GREEDY_TOKENS = 21, 24
GREEDY_GAP_MIN, GREEDY_MARGIN_MIN, GREEDY_DISTINCT = 2e-3, 2e-4, 10


def digits(x):
    """Nine significant digits: enough for float32."""
    assert math.isfinite(x)
    return float(f"{x:.9g}")


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n")


def write_lines(path, rows):
    path.write_text("".join(
        json.dumps(row, separators=(",", ":")) + "\n" for row in rows))


def write_checkpoint(case, out):
    cfg = dict(case["config"])
    for name in ("rope_theta", "torch_dtype"):
        if cfg[name] is None:
            del cfg[name]
    write_json(out / "config.json", cfg)
    write_json(out / "generation_config.json", {
        "_from_model_config": True, "bos_token_id": cfg["bos_token_id"],
        "eos_token_id": cfg["eos_token_id"],
        "transformers_version": cfg["transformers_version"],
        **case.get("generation", {})})
    write_tensors(weights.make(case), out, case.get("shards", 1))


def write_tensors(tensors, out, shards):
    if shards == 1:
        save_file(tensors, out / "model.safetensors", {"format": "pt"})
        return
    # Dealt out like cards, so that no shard holds a whole layer.
    names, weight_map = list(tensors), {}
    for s in range(shards):
        file = f"model-{s + 1:05}-of-{shards:05}.safetensors"
        part = {name: tensors[name] for name in names[s::shards]}
        save_file(part, out / file, {"format": "pt"})
        weight_map.update(dict.fromkeys(part, file))
    total = sum(t.nbytes for t in tensors.values())
    write_json(out / "model.safetensors.index.json", {
        "metadata": {"total_size": total},
        "weight_map": dict(sorted(weight_map.items()))})


def draw_prompt(ref, rng, length):
    """Tokens whose margins are all wide: each offender is drawn again."""
    vocab = ref.cfg["vocab_size"]
    ids = rng.integers(vocab, size=length).tolist()
    for _ in range(200 * length):
        margin = ref.forward(ids)[1]
        bad = (margin < MARGIN_MIN).nonzero().flatten().tolist()
        if not bad:
            return ids, margin
        ids[bad[0]] = int(rng.integers(vocab))
    raise RuntimeError("no prompt with wide margins; try another seed")


def golden_row(model, ref, ids, margin):
    """One line of golden.jsonl, and how far the reference is from it."""
    lp = hf.logits(model, ids).double().log_softmax(-1)
    want = ref.forward(ids)[0].log_softmax(-1)
    top = lp.topk(TOP, -1)
    row = {
        "ids": ids,
        "logprobs": [digits(lp[t, ids[t + 1]].item())
                     for t in range(len(ids) - 1)],
        "top": [[[i, digits(v)] for i, v in zip(*pair)] for pair in
                zip(top.indices.tolist(), top.values.tolist())],
        "margin": [digits(m) for m in margin.tolist()],
    }
    return row, (lp - want).abs().max().item(), lp


def greedy_row(model, ref, ids):
    """24 tokens by argmax without a cache; None if a choice was close."""
    eos = model.generation_config.eos_token_id
    stop = set(eos if isinstance(eos, list) else [eos])
    seq, gaps = list(ids), []
    for _ in range(GREEDY_TOKENS):
        best = hf.logits(model, seq)[-1].topk(2)
        gaps.append((best.values[0] - best.values[1]).item())
        seq.append(int(best.indices[0]))
    margin = ref.forward(seq[:-1])[1]
    out = seq[len(ids):]
    if (stop & set(out) or len(set(out)) < GREEDY_DISTINCT
            or min(gaps) < GREEDY_GAP_MIN
            or margin.min().item() < GREEDY_MARGIN_MIN):
        return None
    return {"ids": ids, "out": out, "gap": [digits(g) for g in gaps],
            "margin": [digits(m) for m in margin.tolist()]}


def draw_greedy(model, ref, rng):
    for _ in range(400):
        ids = rng.integers(ref.cfg["vocab_size"], size=GREEDY_PROMPT)
        row = greedy_row(model, ref, ids.tolist())
        if row:
            return row
    raise RuntimeError("no good greedy prompt; try another seed")


def check_mutations(case, ref, ids):
    """How far each deliberate mistake moves the log-probabilities."""
    right = ref.forward(ids)[0].log_softmax(-1)
    moved = {}
    for name in case["mutations"]:
        wrong = mutations.run(name, ref, ids).log_softmax(-1)
        moved[name] = (wrong - right).abs().max().item()
        if not moved[name] > MUTATION_MIN:
            raise RuntimeError(f"{name} moves only {moved[name]:.2g}")
    return moved


def check_files(out):
    """Every file opens with the safetensors package; tensors are finite."""
    count = 0
    for file in sorted(out.glob("*.safetensors")):
        with safe_open(file, "pt") as f:
            for name in f.keys():
                t = f.get_tensor(name)
                assert t.float().isfinite().all(), name
                count += 1
    for file in ("golden.jsonl", "greedy.jsonl"):
        for line in (out / file).read_text().splitlines():
            json.loads(line)
    return count


def report(out, rows, worst, entropy, moved):
    margins = np.concatenate([row["margin"] for row in rows])
    size = sum(f.stat().st_size for f in out.iterdir())
    print(f"{out.name}: {size / 1000:.0f} kB, {check_files(out)} tensors, "
          f"{len(margins)} positions")
    print(f"  against the reference: {worst:.1e}; entropy {entropy:.2f} "
          f"nats; margin: least {margins.min():.1e}, median "
          f"{np.median(margins):.1e}, share below 1e-4 "
          f"{(margins < 1e-4).mean():.2%}")
    print("  mutations:", ", ".join(
        f"{name} {far:.2g}" for name, far in moved.items()), flush=True)
    return size


def make_case(name, root):
    case, out = CASES[name], root / name
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    write_checkpoint(case, out)
    ref = reference.Reference(out)
    with tempfile.TemporaryDirectory() as scratch:
        model, patches = hf.load(out, pathlib.Path(scratch),
                                 case["config"]["num_hidden_layers"])
    rng = np.random.default_rng([case["seed"], 1])
    rows, worst, entropy = [], 0.0, []
    for length in case["lengths"]:
        ids, margin = draw_prompt(ref, rng, length)
        row, far, lp = golden_row(model, ref, ids, margin)
        rows.append(row)
        worst = max(worst, far)
        entropy += (-(lp.exp() * lp).sum(-1)).tolist()
    if worst > AGREE_MAX:
        raise RuntimeError(f"{name}: reference differs by {worst:.2g}")
    write_lines(out / "golden.jsonl", rows)
    write_lines(out / "greedy.jsonl", [draw_greedy(model, ref, rng)])
    write_json(out / "meta.json", {
        "transformers": transformers.__version__,
        "torch": torch.__version__, "seed": case["seed"],
        "patches": patches, "reference_max_abs_diff": float(f"{worst:.1e}")})
    moved = check_mutations(case, ref, rows[2]["ids"])
    return report(out, rows, worst, float(np.mean(entropy)), moved)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--case", action="append", choices=CASES)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.set_grad_enabled(False)
    total = sum(make_case(name, args.out) for name in args.case or CASES)
    print(f"total {total / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
