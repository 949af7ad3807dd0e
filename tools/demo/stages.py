# stages.py - the steps of train_demo.py, in their order
# SPDX-License-Identifier: Apache-2.0
"""Each stage takes (work folder, deploy/demo, steps or None) and does nothing
where its result is there already."""

import shutil
from pathlib import Path

import torch

import adapters
import corpus
import export
import held_out
import text_data
from model import Model, Shape
from optim import Optimizer
from sources import DOMAINS, GENERAL
from text_data import Sampler
from training import Plan, Run, best_device

SEED = 20240704
LENGTH = 512  # tokens of a training window
# Shares of the tokens: enough of each domain to be fair to the base, little
# enough that the adapters have something to learn.
BASE_SHARES = {GENERAL: 0.772, **{d: 0.057 for d in DOMAINS}}
BASE_STEPS = 1000


def data(work: Path, _out: Path, _steps: int | None) -> None:
    """Packages, documents, tokenizer, token streams."""
    corpus.build(work)
    if not (work / "dictionary.npy").exists():
        text_data.prepare(corpus.load(work), work)


def new_model() -> Model:
    torch.manual_seed(SEED)
    return Model(Shape()).to(best_device())


def base(work: Path, _out: Path, steps: int | None) -> None:
    """The base model's checkpoint."""
    torch.set_num_threads(1)
    model = new_model()
    optimizer = Optimizer(list(model.named_parameters()))
    sampler = Sampler(work, BASE_SHARES, LENGTH, SEED)
    Run(model, optimizer, sampler, Plan("base", steps or BASE_STEPS),
        work).train()


def publish(work: Path, out: Path, _steps: int | None) -> None:
    """The base's folder and the held-out texts."""
    model = new_model()
    model.load_state_dict(
        torch.load(work / "base.pt", map_location="cpu")["model"])
    export.write_model(model, work / "tokenizer.json", out / "model")
    shutil.copyfile(work / "manifest.json", out / "model/packages.json")
    held_out.write(corpus.load(work), out / "heldout")


def train_adapters(work: Path, out: Path, steps: int | None) -> None:
    """Three ESFT adapters and a LoRA, from the published base."""
    torch.set_num_threads(1)
    adapters.train_all(work, out, steps)


STAGES = {"data": data, "base": base, "publish": publish,
          "adapters": train_adapters}
