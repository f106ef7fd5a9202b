"""Evaluates a model on the queries of one part, with the candidates and metrics of the protocol.

| Protocol | View | Candidates | Metrics; the first one selects the model |
| --- | --- | --- | --- |
| leave_last_out | (main) | all items, including those of the history | NDCG@10, HR@10, MRR@20 |
| | pop100, uni100 | the target and 100 stored negatives | the same |
| time | (main) | the target and 1,000 stored negatives | NDCG@5, HIT@5, MRR@5, GAUC; a mean over queries (B-inst) |
| | pool | all of a user's queries in one list, the best target counts | the same; a mean over users (B-pool) |
| impressions | (main) | the items shown | AUC of all rows; UAUC and GAUC, means over users with both labels |

All systems get the same candidates. Metrics are expected values under ties.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from contract.bundle.tensors import SequenceSpec
from models.base import SequentialRecommender
from training.data.prepare import Prepared
from training.judging.metrics import (
    Counts,
    Floats,
    auc,
    auc_by_user,
    best_of_many,
    better_and_equal,
    hit_rate,
    list_auc,
    mrr,
    ndcg,
)
from training.recipe import Protocol, SplitRecipe
from training.rows.loader import Loader, as_tensors
from training.rows.negatives import Kind, Negatives, stored_negatives
from training.rows.split import Part, Rows, Split, split

_Metrics = dict[str, tuple[Callable[[Counts, Counts, int], Floats], int]]

METRICS: Final[dict[Protocol, tuple[str, ...]]] = {
    "leave_last_out": ("ndcg@10", "hr@10", "mrr@20"),
    "time": ("ndcg@5", "hit@5", "mrr@5", "gauc"),
    "impressions": ("auc", "uauc", "gauc"),
}
"""The metrics of every view of a protocol; the first one of the main view, on validation, selects the model."""

_FULL: Final[_Metrics] = {"ndcg@10": (ndcg, 10), "hr@10": (hit_rate, 10), "mrr@20": (mrr, 20)}
_TOP: Final[_Metrics] = {"ndcg@5": (ndcg, 5), "hit@5": (hit_rate, 5), "mrr@5": (mrr, 5)}
_SAMPLED: Final[tuple[Kind, ...]] = ("pop100", "uni100")
_CELLS: Final = {"A": 2_000_000, "B": 2_000_000, "C": 100_000, "D": 20_000, "E": 20_000}
"""Scores computed at once, by serving class: bounds the memory for any catalogue."""
_SAMPLE_SEED: Final = 20_220_711


@dataclass(frozen=True)
class View:
    """Metrics of one kind of candidates.

    Attributes:
        users: (Q,) from 0, one per value.
        values: by metric, (Q,); NaN if a metric is not defined.
        weights: by metric, (Q,), for weighted means.
        totals: metrics of all queries together.
    """

    users: Counts
    values: dict[str, Floats]
    weights: dict[str, Floats] = field(default_factory=dict)
    totals: dict[str, float] = field(default_factory=dict)

    def means(self) -> dict[str, float]:
        """Return every metric's mean over the queries where it is defined; 0 if there are none."""
        return self.totals | {name: self._mean(name) for name in self.values}

    def _mean(self, name: str) -> float:
        defined = ~np.isnan(self.values[name])
        if not bool(defined.any()):
            return 0.0
        weights = self.weights[name][defined] if name in self.weights else None
        return float(np.average(self.values[name][defined], weights=weights))


Views = dict[str, View]
"""Views by name; the main view's name is the empty string."""


def means(views: Views) -> dict[str, float]:
    """Return every mean; those of other views than the main one are named `view.metric`."""
    return {
        f"{name}.{metric}" if name else metric: value
        for name, view in views.items()
        for metric, value in view.means().items()
    }


class Judge:
    """Evaluates models on one part of a split.

    Args:
        prepared: the data.
        spec: the model's inputs.
        recipe: the protocol.
        part: valid or test.
        popularity: (I+1,) training interactions by item index.
        choosing: evaluate to select the best epoch: only the main view, on the recipe's sample.
    """

    def __init__(
        self,
        prepared: Prepared,
        spec: SequenceSpec,
        recipe: SplitRecipe,
        part: Part,
        popularity: NDArray[np.float32],
        *,
        choosing: bool = False,
    ) -> None:
        rows = queries(prepared, recipe, part)
        self._protocol, self._choosing = recipe.protocol, choosing
        kinds: tuple[Kind, ...] = {"leave_last_out": () if choosing else _SAMPLED, "time": ("uni1000",)}.get(
            recipe.protocol, ()
        )
        name = f"{recipe.protocol}-{recipe.held}-{part}"
        self._negatives = {kind: stored_negatives(prepared, name, kind, rows, popularity) for kind in kinds}
        if choosing and recipe.protocol == "time":
            chosen = _sample(len(rows.users), recipe.valid_queries)
            rows = rows.take(chosen)
            count = recipe.valid_negatives or None
            self._negatives = {kind: drawn[chosen, :count] for kind, drawn in self._negatives.items()}
        self._loader = Loader(prepared, spec, rows)

    @property
    def users(self) -> Counts:
        """The user of every query."""
        return self._loader.users()

    @torch.no_grad()
    def __call__(self, model: SequentialRecommender) -> Views:
        """Return the views of the protocol.

        Raises:
            MetricsError: a score is NaN or infinite.
        """
        model.eval()
        if self._protocol == "leave_last_out":
            return self._ranked(model)
        if self._protocol == "time":
            return self._listed(model)
        return self._shown(model)

    def _ranked(self, model: SequentialRecommender) -> Views:
        ranks: dict[str, list[tuple[Counts, Counts]]] = {"": [], **{kind: [] for kind in self._negatives}}
        for chosen, targets, state in self._pieces(model, model.item_count + 1):
            scores = model.score_all(state)[:, 1:].float().cpu().numpy()  # column 0 is padding
            ranks[""].append(better_and_equal(scores, targets - 1))
            for kind, negatives in self._negatives.items():
                listed = _lists(targets, negatives[chosen]) - 1
                taken = np.take_along_axis(scores, listed, axis=1)
                ranks[kind].append(better_and_equal(taken, np.zeros(len(chosen), dtype=np.int64)))
        return {name: View(self.users, _measured(_FULL, *_joined(found))) for name, found in ranks.items()}

    def _listed(self, model: SequentialRecommender) -> Views:
        negatives = self._negatives["uni1000"]
        pieces = [
            _scores(model, state, _lists(targets, negatives[chosen]))
            for chosen, targets, state in self._pieces(model, negatives.shape[1] + 1)
        ]
        scores = np.concatenate(pieces or [np.zeros((0, 1), dtype=np.float32)])
        g, e = better_and_equal(scores, np.zeros(len(scores), dtype=np.int64))
        main = View(self.users, _measured(_TOP, g, e) | {"gauc": list_auc(g, e, scores.shape[1] - 1)})
        return {"": main} if self._choosing else {"": main, "pool": _pooled(self.users, scores)}

    def _shown(self, model: SequentialRecommender) -> Views:
        pieces = [_scores(model, state, items[:, None])[:, 0] for _, items, state in self._pieces(model, 1)]
        scores = np.concatenate(pieces or [np.zeros(0, dtype=np.float32)])
        labels = self._loader.labels() > 0
        rows, areas = auc_by_user(self.users, scores, labels)
        weights = {"gauc": rows.astype(np.float64)}
        values = {"uauc": areas, "gauc": areas}
        return {"": View(np.unique(self.users), values, weights, {"auc": auc(scores, labels)})}

    def _pieces(
        self, model: SequentialRecommender, width: int
    ) -> Iterator[tuple[Counts, Counts, dict[str, torch.Tensor]]]:
        """Yield places, items and states of as many queries at once as memory allows."""
        device = next((tensor.device for tensor in model.state_dict().values()), torch.device("cpu"))
        size = max(1, min(512, _CELLS[model.serving_class] // width))
        for start in range(0, len(self._loader), size):
            chosen = np.arange(start, min(start + size, len(self._loader)))
            inputs = {name: tensor.to(device) for name, tensor in as_tensors(self._loader.inputs(chosen)).items()}
            yield chosen, self._loader.targets(chosen), model.encode(inputs).state


def queries(prepared: Prepared, recipe: SplitRecipe, part: Part) -> Rows:
    """Return the queries of a part; for test, those of `test_users` users."""
    parts: Split = split(prepared, recipe.protocol, recipe.held)
    rows: Rows = getattr(parts, part)
    if part != "test" or not recipe.test_users:
        return rows
    users = np.unique(rows.users)
    return rows.take(np.flatnonzero(np.isin(rows.users, users[_sample(len(users), recipe.test_users)])))


def _sample(count: int, wanted: int) -> Counts:
    """Return `wanted` places of `count` in order, the same ones every time; all if 0 or too many are wanted."""
    if not wanted or wanted >= count:
        return np.arange(count)
    return np.sort(np.random.default_rng(_SAMPLE_SEED).permutation(count)[:wanted])


def _lists(targets: Counts, negatives: Negatives) -> Counts:
    """Return each target before its negatives, (B, 1+n)."""
    return np.concatenate((targets[:, None], negatives.astype(np.int64)), axis=1)


def _scores(model: SequentialRecommender, state: dict[str, torch.Tensor], candidates: Counts) -> NDArray[np.float32]:
    some = next(iter(state.values()))
    lists = torch.from_numpy(candidates).to(some.device)
    return np.asarray(model.score_lists(state, lists).float().cpu().numpy(), dtype=np.float32)


def _joined(pieces: list[tuple[Counts, Counts]]) -> tuple[Counts, Counts]:
    none = np.zeros(0, dtype=np.int64)
    return np.concatenate([g for g, _ in pieces] or [none]), np.concatenate([e for _, e in pieces] or [none])


def _measured(metrics: _Metrics, g: Counts, e: Counts) -> dict[str, Floats]:
    return {name: metric(g, e, k) for name, (metric, k) in metrics.items()}


def _pooled(users: Counts, scores: NDArray[np.float32]) -> View:
    """Return the metrics of each user's queries in one list; the target is the first column of scores (N, 1+n)."""
    order = np.argsort(users, kind="stable")
    known, starts = np.unique(users[order], return_index=True)
    pools = [(scores[part, 0], scores[part, 1:].ravel()) for part in np.split(order, starts[1:])] if len(known) else []
    top = [best_of_many(positives, negatives, 5) for positives, negatives in pools]
    areas = [
        auc(np.concatenate(pool), np.arange(sum(map(len, pool))) < len(pool[0])) for pool in pools
    ]  # positives first
    columns = dict(zip(("ndcg@5", "hit@5", "mrr@5"), np.array(top, dtype=np.float64).reshape(-1, 3).T, strict=True))
    sizes = np.array([sum(map(len, pool)) for pool in pools], dtype=np.float64)
    return View(known, {**columns, "gauc": np.array(areas, dtype=np.float64)}, {"gauc": sizes})
