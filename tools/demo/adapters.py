# adapters.py - trains the four adapters on the published base
# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import torch

import esft
import export
import lora
from model import Model, Shape, config_json
from optim import Optimizer
from text_data import Sampler
from training import Plan, Run, best_device

SEED = 408
LENGTH = 512
ROWS = 6
ESFT_DOMAINS = ("scripture", "german", "python")
LORA_DOMAIN = "dictionary"
STEPS = {"scripture": 750, "german": 300, "python": 1300, "dictionary": 600}
# Of all layers together; 147 kB each, all adapters at most 8 MB.
EXPERTS_MAX = {"scripture": 14, "german": 12, "python": 15}
MUON_RATE = 0.1
# Muon moves the pairs of an expert that a batch hardly touched as far as those
# of any other: after some 200 steps the loss rises again.
LORA_ADAM_RATE = 0.004


def frozen_base(work: Path) -> Model:
    """Ready to have an adapter attached."""
    return export.load_rounded(Model(Shape()), work).to(best_device())


def train(model: Model, optimizer: Optimizer, domain: str, work: Path,
          steps: int | None) -> None:
    """On the domain's own training documents alone."""
    sampler = Sampler(work, {domain: 1.0}, LENGTH, SEED)
    plan = Plan(f"adapter-{domain}", steps or STEPS[domain], rows=ROWS,
                warmup=10, decay=0.8, balance=0.0)
    Run(model, optimizer, sampler, plan, work).train()


def trainable(model: Model) -> list:
    return [(n, p) for n, p in model.named_parameters() if p.requires_grad]


def train_esft(domain: str, work: Path, out: Path,
               steps: int | None) -> None:
    """One ESFT adapter, and the scores its experts were chosen by."""
    torch.manual_seed(SEED)
    model = frozen_base(work)
    scored = esft.scores(model, Sampler(work, {domain: 1.0}, LENGTH, SEED))
    p, chosen = esft.largest_selection(scored, EXPERTS_MAX[domain])
    print(f"{domain}: p = {p}, experts {chosen}", flush=True)
    esft.attach(model, chosen)
    train(model, Optimizer(trainable(model), muon_rate=MUON_RATE), domain,
          work, steps)
    export.write_esft(model, config_json(model.shape), out)


def train_lora(work: Path, out: Path, base: Path,
               steps: int | None) -> None:
    """One LoRA adapter on attention and routed experts."""
    import lora_export  # needs peft, which nothing else does

    torch.manual_seed(SEED)
    model = frozen_base(work)
    lora.attach(model)
    optimizer = Optimizer(trainable(model), muon_rate=None,
                          adam_rate=LORA_ADAM_RATE)
    train(model, optimizer, LORA_DOMAIN, work, steps)
    lora_export.write(model, base, out)


def train_all(work: Path, out: Path, steps: int | None) -> None:
    """Each adapter whose folder is not complete yet."""
    for domain in ESFT_DOMAINS:
        if not (out / "adapters" / domain / "config.json").exists():
            train_esft(domain, work, out / "adapters" / domain, steps)
    folder = out / "adapters" / LORA_DOMAIN
    if not (folder / "adapter_config.json").exists():
        train_lora(work, folder, out / "model", steps)
