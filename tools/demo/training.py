# training.py - the loop: batches, checkpoints, pauses
# SPDX-License-Identifier: Apache-2.0
"""A run stopped at any time goes on from its last checkpoint, at most
CHECKPOINT_S seconds back, and ends as if it had not been stopped: the data
depends on the step alone, and the state of the optimizer is kept.
"""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from model import Model
from optim import Optimizer, rate_factor
from text_data import Sampler

CHECKPOINT_S = 120
CPU_WORKERS = 2
BALANCE_WEIGHT = 0.01
PAUSE_VARIABLE = "HEDDLE_TRAIN_PAUSE_FILE"


@dataclass(frozen=True)
class Plan:
    """One run."""

    name: str  # of its checkpoint
    steps: int
    rows: int = 10  # windows of a batch
    warmup: int = 40
    decay: float = 0.38  # share of the steps
    balance: float = BALANCE_WEIGHT


def wait_while_paused() -> None:
    """Sleeps while the file named in the environment exists, so that others
    can have the machine to themselves for a while."""
    path = os.environ.get(PAUSE_VARIABLE)
    while path and os.path.exists(path):
        time.sleep(2)


def best_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


class Workers:
    """Threads that take equal parts of each batch, one core each.

    One core per thread and one meeting per step keeps its speed on a machine
    that others use too, where threads inside each operation wait for each
    other thousands of times a step. Gradients are added in the order of the
    workers, so a result depends on their number but not on their speed.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.pool = ThreadPoolExecutor(
            count, initializer=lambda: torch.set_num_threads(1))

    def each(self, work: Callable, *lists) -> list:
        return list(self.pool.map(work, *lists))


def batch_gradients(model: Model, ids: Tensor, plan: Plan,
                    workers: Workers) -> float:
    """Leaves the gradients of a batch's mean loss; returns the loss."""
    wanted = [p for p in model.parameters() if p.requires_grad]

    def part_gradients(part: Tensor) -> tuple[float, tuple]:
        losses, balance = model.losses(part)
        loss = losses.mean()
        whole = loss + plan.balance * balance if plan.balance else loss
        return loss.item(), torch.autograd.grad(whole, wanted,
                                                allow_unused=True)

    results = workers.each(part_gradients, ids.chunk(workers.count))
    for p, *grads in zip(wanted, *(r[1] for r in results)):
        known = [g for g in grads if g is not None]
        p.grad = sum(known[1:], known[0]).div_(len(results)) \
            if known else None
    return sum(r[0] for r in results) / len(results)


class Run:
    """A model in training and what is needed to go on later."""

    def __init__(self, model: Model, optimizer: Optimizer, sampler: Sampler,
                 plan: Plan, work: Path) -> None:
        self.model, self.optimizer = model, optimizer
        self.workers = Workers(1 if best_device() == "cuda" else CPU_WORKERS)
        self.sampler, self.plan = sampler, plan
        self.path = work / f"{plan.name}.pt"
        self.step, self.saved_at = 0, time.monotonic()

    def save(self) -> None:
        """Written beside, then renamed: a stop never leaves half a file."""
        partial = self.path.with_suffix(".part")
        trained = {n: p.detach() for n, p in self.model.named_parameters()
                   if p.requires_grad}
        torch.save({"step": self.step, "model": trained,
                    "optimizer": self.optimizer.state(),
                    "sampler": self.sampler.state()}, partial)
        partial.rename(self.path)
        self.saved_at = time.monotonic()

    def resume(self) -> None:
        if not self.path.exists():
            return
        saved = torch.load(self.path, map_location=best_device())
        self.step = saved["step"]
        self.model.load_state_dict(saved["model"], strict=False)
        self.optimizer.restore(saved["optimizer"])
        self.sampler.restore(saved["sampler"])

    def train(self) -> None:
        """To the plan's last step."""
        self.resume()
        self.model.train()
        average, begun, first = 0.0, time.monotonic(), self.step
        while self.step < self.plan.steps:
            wait_while_paused()
            ids = torch.from_numpy(self.sampler.batch(self.plan.rows))
            loss = batch_gradients(self.model, ids.to(best_device()),
                                   self.plan, self.workers)
            self.optimizer.step(rate_factor(
                self.step, self.plan.steps, self.plan.warmup,
                self.plan.decay), self.workers.each)
            self.step += 1
            done = self.step - first
            average += (loss - average) / min(done, 20)
            if done % 10 == 0 or self.step == self.plan.steps:
                per_step = (time.monotonic() - begun) / done
                left = (self.plan.steps - self.step) * per_step / 60
                print(f"{self.plan.name} step {self.step}/{self.plan.steps} "
                      f"loss {average:.4f} {per_step:.2f} s/step, "
                      f"{left:.1f} min left", flush=True)
            if time.monotonic() - self.saved_at > CHECKPOINT_S:
                self.save()
        self.save()
