"""QUARANTINED: how much a wrong reshape in the published MGNM can raise its metrics. Nothing may import this.

python benchmarks/leak/mgnm_batch_position.py --data data --out benchmarks/leak/results.json

The published code runs the BiLSTM (eq 10) over time-major pieces and reads its output back as if it were batch-major:
row b then contains another row's output, of a time step near b*T/R in a batch of R rows. Its batches list the positives
first and the negatives after them, in training and in test, so the time step reveals the label.

Two small models, which differ only in that reshape, train on the same rows in the same order, a row per candidate and
positives first as published. Both are tested on batches of two users, positives first. The scrambled one is tested a
second time with only one change: the rows of each batch are in random order.

The reshape is written from a description of its index arithmetic; no published code is copied.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from contract.command_line import run
from models.base import Tensors
from models.mgnm import MGNM, MGNMConfig, _attended
from training.data.prepare import load_prepared
from training.fitting.allocator import keep_freed_memory
from training.judging.metrics import better_and_equal, hit_rate, list_auc
from training.recipe import Recipe
from training.rows.loader import Loader, as_tensors, dataset_facts, sequence_spec
from training.rows.negatives import uniform_negatives
from training.rows.split import split

POSITIVES, NEGATIVES = 42, 5  # 252 rows per training batch, as published
JUDGED, LISTED = 2, 100  # users per test batch, and negatives of each (published: 1,000)


class ScrambledMGNM(MGNM):
    """MGNM whose BiLSTM's output is read back in the wrong order, as published."""

    def _rnn(self, z: Tensor, mask: Tensor) -> Tensor:
        levels = self.config.levels + 1  # routed as rows of one batch here, one after another as published
        return torch.cat([self._level(level) for level in z.chunk(levels)]) * mask[:, None, :, None]

    def _level(self, z: Tensor) -> Tensor:
        R, K, T, d = z.shape
        sequence = z.transpose(1, 2).reshape(R, T, K * d)
        forward, _ = self.forward_rnn(sequence)
        backward, _ = self.backward_rnn(sequence.flip(1))
        out = self.rnn_out(torch.cat((forward, backward.flip(1)), dim=-1))  # (R, T, K*d), right so far
        pieces = out.transpose(0, 1).reshape(T * R, K * d)  # time-major
        return torch.as_tensor(pieces.reshape(R, K, T, d))  # ... and read as batch-major, K and T swapped only by name


def rows_of(
    loader: Loader, chosen: NDArray[np.int64], rng: np.random.Generator, items: int, count: int
) -> tuple[Tensors, Tensor]:
    """Return inputs and candidates, a row per candidate: all positives first, then `count` negatives of each."""
    inputs, targets = loader.inputs(chosen), loader.targets(chosen)
    excluded = np.concatenate((inputs["items"], targets[:, None]), axis=1)
    negatives = uniform_negatives(rng, excluded, items, count)
    place = np.concatenate((np.arange(len(chosen)), np.repeat(np.arange(len(chosen)), count)))
    candidates = torch.from_numpy(np.concatenate((targets, negatives.ravel())))
    return {name: tensor[place] for name, tensor in as_tensors(inputs).items()}, candidates


def logits_of(model: MGNM, inputs: Tensors, candidates: Tensor) -> Tensor:
    """Return the logit of every level for one candidate per row, (R, L+1)."""
    q, _ = model._encode(inputs)
    return _attended(model._dots(q, candidates[:, None]), dim=2)[:, :, 0] + model.bias[candidates][:, None]


def trained(kind: type[MGNM], prepared: Any, facts: Any, options: argparse.Namespace) -> MGNM:
    """Train by binary cross-entropy summed over levels."""
    torch.manual_seed(options.seed)
    config = MGNMConfig(
        length=options.length, width=16, objective="bce", negatives=NEGATIVES, dropout=0.0,
        projection="none", aligned_start=False,  # as published; the routing hardly changes aligned capsules
    )  # fmt: skip
    model = kind(config, facts).train()
    loader = Loader(prepared, sequence_spec(model), split(prepared, "leave_last_out").train)
    rng = np.random.default_rng(options.seed)
    optimiser = torch.optim.Adam(model.parameters(), lr=options.learning_rate)
    labels = (torch.arange(POSITIVES * (1 + NEGATIVES)) < POSITIVES).float()
    losses = []
    for step in range(options.steps):
        chosen = rng.integers(0, len(loader), POSITIVES)
        logits = logits_of(model, *rows_of(loader, chosen, rng, facts.item_count, NEGATIVES))
        expected = labels[:, None].expand_as(logits)
        loss = F.binary_cross_entropy_with_logits(logits, expected, reduction="none").sum(1).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()
        losses.append(loss.item())
        if (step + 1) % 100 == 0:
            print(f"{kind.__name__} step {step + 1} loss {np.mean(losses[-100:]):.4f}", flush=True)
    return model.eval()


@torch.no_grad()
def judged(model: MGNM, prepared: Any, facts: Any, users: int, shuffled: bool) -> dict[str, float]:
    """Return GAUC and HIT@5, means over users of one target and `LISTED` negatives each."""
    loader = Loader(prepared, sequence_spec(model), split(prepared, "leave_last_out").test)
    rng, order = np.random.default_rng(1), np.random.default_rng(2)
    some, lists = np.sort(rng.permutation(len(loader))[:users]), []
    for start in range(0, len(some) - JUDGED + 1, JUDGED):
        inputs, candidates = rows_of(loader, some[start : start + JUDGED], rng, facts.item_count, LISTED)
        rows = order.permutation(len(candidates)) if shuffled else np.arange(len(candidates))
        scores = np.empty(len(candidates), dtype=np.float32)
        found = logits_of(model, {name: tensor[rows] for name, tensor in inputs.items()}, candidates[rows])
        scores[rows] = found.amax(dim=1).numpy()
        lists.append(np.concatenate((scores[:JUDGED, None], scores[JUDGED:].reshape(JUDGED, LISTED)), axis=1))
    table = np.concatenate(lists)
    g, e = better_and_equal(table, np.zeros(len(table), dtype=np.int64))
    return {"gauc": float(list_auc(g, e, LISTED).mean()), "hit@5": float(hit_rate(g, e, 5).mean())}


def main() -> int:
    """Train both, test them in three ways, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--length", type=int, default=20)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--learning-rate", type=float, default=5e-3)
    parser.add_argument("--variants", nargs="+", choices=("correct", "scrambled"), default=["correct", "scrambled"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    prepared = load_prepared(options.data / "ml-100k")
    facts = dataset_facts(prepared, Recipe(dataset="ml-100k", model="mgnm"))
    started = time.process_time()
    found: dict[str, dict[str, float]] = {}
    for name in options.variants:
        model = trained({"correct": MGNM, "scrambled": ScrambledMGNM}[name], prepared, facts, options)
        for order, shuffled in (("positives first", False), ("rows shuffled", True)):
            metrics = found[f"{name}, {order}"] = judged(model, prepared, facts, options.users, shuffled)
            print(f"{name + ', ' + order:28} GAUC {metrics['gauc']:.4f}  HIT@5 {metrics['hit@5']:.4f}", flush=True)
    seconds = round(time.process_time() - started)
    print(f"{seconds} s of one core")
    if options.out:
        settings = {name: getattr(options, name) for name in ("seed", "length", "steps", "users")}
        options.out.write_text(json.dumps(settings | {"results": found, "cpu_seconds": seconds}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(run("error", main))
