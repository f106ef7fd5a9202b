"""Writes RecBole's metrics of random scores without ties. Runs in RecBole's environment.

ENV/bin/python benchmarks/recbole/metrics_fixture.py > tests/unit/training/judging/recbole_metrics.json

Two parts. `lists`: one positive among 60 items per user, ranked. `labelled`: p positives and 3p negatives
per user, for GAUC and AUC; RecBole weighs a user's AUC by the positives, we by the rows, which is the same here.
"""

import json
from collections import defaultdict

import numpy as np
import torch
from recbole.config import Config  # noqa: F401  (its import restores the names of numpy that the metrics use)
from recbole.evaluator import Collector, Evaluator

for name, kind in {"bool": np.bool_, "int": np.int_, "float": np.float64}.items():
    setattr(np, name, kind)

SEED = 20_251_121
_TOPK = [1, 5, 10, 20]


def evaluated(metrics, scores, users, items, label=None):
    """Return RecBole's values: scores (B, I+1) or, with labels, flat ones."""
    config = defaultdict(lambda: None)
    config |= {"metrics": metrics, "topk": _TOPK, "metric_decimal_place": 15, "device": torch.device("cpu")}
    config |= {"LABEL_FIELD": "label", "eval_args": {"mode": "full"}}
    collector = Collector(config)
    collector.eval_batch_collect(torch.tensor(scores), {"label": label}, torch.tensor(users), torch.tensor(items))
    return {name: float(value) for name, value in Evaluator(config).evaluate(collector.get_data_struct()).items()}


def distinct(rng, count):
    """Return scores of which no two are equal, short enough to be read back exactly."""
    return rng.permutation(8 * count)[:count] / 8 - count / 2


def main():
    """Print the fixture."""
    rng = np.random.default_rng(SEED)
    users, items = 40, 60
    scores = np.stack([distinct(rng, items) for _ in range(users)])
    targets = rng.integers(0, items, users)
    targets[::3] = np.argsort(-scores[::3], axis=1)[np.arange(len(scores[::3])), rng.integers(0, 8, len(scores[::3]))]
    padded = np.concatenate((np.full((users, 1), -np.inf), scores), axis=1)
    lists = {"scores": scores.tolist(), "targets": targets.tolist()}
    lists["recbole"] = evaluated(["Hit", "NDCG", "MRR"], padded, np.arange(users), targets + 1)

    positives = rng.integers(1, 6, 15)
    owners = np.repeat(np.arange(15), 4 * positives)
    labels = np.concatenate([rng.permutation(np.arange(4 * p) < p) for p in positives])
    flat = distinct(rng, len(owners)) + labels * (round(len(owners) / 5) + 1 / 16)
    assert len(np.unique(flat)) == len(flat)
    table = np.full((15, 1 + len(owners)), -np.inf)
    table[owners, 1 + np.arange(len(owners))] = flat
    labelled = {"users": owners.tolist(), "scores": flat.tolist(), "labels": labels.astype(int).tolist()}
    found = evaluated(["GAUC"], table, owners[labels], 1 + np.flatnonzero(labels))
    found |= evaluated(["AUC"], flat, [0], [0], torch.tensor(labels.astype(np.float64)))
    labelled["recbole"] = found
    command = "ENV/bin/python benchmarks/recbole/metrics_fixture.py > tests/unit/training/judging/recbole_metrics.json"
    about = {"made_by": "RecBole 1.2.1", "command": command, "seed": SEED}
    print(json.dumps(about | {"lists": lists, "labelled": labelled}))


if __name__ == "__main__":
    main()
