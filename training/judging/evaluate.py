"""Evaluates a model on the queries of one part, with the candidates and metrics of the protocol.

| Protocol | View | Candidates | Metrics |
| --- | --- | --- | --- |
| leave_last_out | (main) | all items | NDCG@10, HR@10, MRR@20 |
| | unseen | all items without those of the user's history | the same |
| | pop100, uni100 | the target and 100 stored negatives | the same |
| | unseen.pop100, unseen.uni100 | the same without items of the user's history | the same |
| time | (main) | the target and 1,000 stored negatives | NDCG@5, HIT@5, MRR@5, GAUC; means over queries (B-inst) |
| | pool | all of a user's queries in one list, the best target counts | the same; means over users (B-pool) |
| | alive | all items alive at the query's time | NDCG@10, HR@10, MRR@20 |
| | unseen | items alive without those of the user's history | the same |
| | warm, cold | as the first view; targets known in training, targets born later | the same |
| impressions | (main) | the items shown | AUC of all rows; UAUC and GAUC, means over users with both labels |

`training.judging.ranking` tells which view comes first. A target that the user has met before stays a candidate in
every view. All systems and the baselines get the same candidates. Metrics are expected values under ties.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from contract.bundle.tensors import SequenceSpec
from models.base import SequentialRecommender
from training.data.prepare import Prepared
from training.data.times import HOUR_MS
from training.judging.candidates import Lifetimes, Mask, Seen
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
    pool_auc,
)
from training.judging.ranking import first_view, selects_by_list
from training.judging.scores import ModelScores, Scorer, Scores, baselines
from training.judging.views import View, Views, joined
from training.recipe import SplitRecipe
from training.rows.negatives import Kind, Negatives, stored_negatives
from training.rows.split import Part, Rows, Split, split, training_end

_Metrics = dict[str, tuple[Callable[[Counts, Counts, int], Floats], int]]
_Ranks = dict[str, list[tuple[Counts, Counts]]]

_FULL: Final[_Metrics] = {"ndcg@10": (ndcg, 10), "hr@10": (hit_rate, 10), "mrr@20": (mrr, 20)}
_TOP: Final[_Metrics] = {"ndcg@5": (ndcg, 5), "hit@5": (hit_rate, 5), "mrr@5": (mrr, 5)}
_SAMPLED: Final[tuple[Kind, ...]] = ("pop100", "uni100")
_ROWS: Final = 512  # queries scored at once, at most
_LISTED: Final = 100_000  # queries with 1,000 stored negatives; of more, those of a fixed sample of users
_POOLED: Final = 4_096  # queries whose lists are kept at once; one user's are kept together
_SAMPLE_SEED: Final = 20_220_711


class Judge:
    """Evaluates models on one part of a split.

    Args:
        prepared: the data.
        spec: the model's inputs.
        recipe: the protocol.
        part: valid or test.
        popularity: (I+1,) training interactions by item index.
        choosing: evaluate to select the best epoch: only the rankings that select, on the recipe's sample.

    Attributes:
        first: the view that comes first.
        repeat_share: the share of targets that their user has met before, in the whole data set.
        watch: is told how many queries of a view were judged.
    """

    watch: Callable[[float], None] = staticmethod(lambda _: None)

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
        self._prepared, self._spec, self._popularity = prepared, spec, popularity
        self._protocol, self._choosing = recipe.protocol, choosing
        self.repeat_share = prepared.repeat_share
        self.first = first_view(recipe, self.repeat_share)
        rows = queries(prepared, recipe, part)
        self._rows = _whole_users(rows, _LISTED) if recipe.protocol == "time" else rows
        self._parts = _rankings(recipe, choosing)
        name = f"{recipe.protocol}-{recipe.held}-{part}"
        self._negatives = {kind: stored_negatives(prepared, name, kind, self._rows, popularity) for kind in self._kinds}
        if choosing and "lists" in self._parts:
            self._sample(recipe)
        if recipe.protocol != "impressions":
            self._seen = Seen(prepared)
        if "alive" in self._parts:
            self._lifetimes = Lifetimes(prepared, round(recipe.alive_margin_hours * HOUR_MS))
            self._born_later = self._lifetimes.first >= training_end(prepared, "time", recipe.hours)
            wanted = [count for count in (recipe.ranked_queries, choosing * recipe.valid_queries) if count]
            self._ranked_rows = rows.take(_sample(len(rows.users), min(wanted, default=0)))

    @property
    def _kinds(self) -> tuple[Kind, ...]:
        """The stored negatives that the views need."""
        if self._protocol == "leave_last_out" and not self._choosing:
            return _SAMPLED
        return ("uni1000",) if "lists" in self._parts else ()

    def _sample(self, recipe: SplitRecipe) -> None:
        """Keep the queries and negatives that select the epoch."""
        chosen = _sample(len(self._rows.users), recipe.valid_queries)
        self._rows = self._rows.take(chosen)
        count = recipe.valid_negatives or None
        self._negatives = {kind: drawn[chosen, :count] for kind, drawn in self._negatives.items()}

    @property
    def size(self) -> int:
        """Queries to judge for one scorer, over all views that are scored apart."""
        listed = len(self._rows.users) if self._protocol != "time" or "lists" in self._parts else 0
        return listed + (len(self._ranked_rows.users) if "alive" in self._parts else 0)

    @property
    def baseline_count(self) -> int:
        """Number of baselines."""
        return 2 if self._protocol == "leave_last_out" else 3

    @property
    def users(self) -> Counts:
        """The user of every query of the main view."""
        return self._rows.users

    def __call__(self, model: SequentialRecommender) -> Views:
        """Return the views of the protocol.

        Raises:
            MetricsError: a score is NaN or infinite.
        """
        model.eval()
        return self.judged(ModelScores(model, self._prepared, self._spec))

    def baselines(self) -> dict[str, Views]:
        """Return the views of every baseline, on the same queries and candidates."""
        by_time = self._protocol != "leave_last_out"
        found = baselines(self._prepared, self._popularity, by_time=by_time)
        return {name: self.judged(scorer) for name, scorer in found.items()}

    def judged(self, scorer: Scorer) -> Views:
        """Return the views of any scores; see `__call__`."""
        if self._protocol == "leave_last_out":
            return self._ranked(scorer)
        if self._protocol == "impressions":
            return self._shown(scorer)
        views = self._listed(scorer) if "lists" in self._parts else {}
        return views | (self._alive(scorer) if "alive" in self._parts else {})

    def _ranked(self, scorer: Scorer) -> Views:
        ranks: _Ranks = defaultdict(list)
        for chosen, piece in self._pieces(self._rows, scorer, self._width):
            scores, unseen = scorer.all(piece), self._seen.unseen(piece)
            ranks[""].append(_among_all(scores, piece, None))
            ranks["unseen"].append(_among_all(scores, piece, unseen))
            for kind, negatives in self._negatives.items():
                listed = _lists(piece.items, negatives[chosen])
                taken = np.take_along_axis(scores, listed, axis=1)
                targets = np.zeros(len(chosen), dtype=np.int64)
                ranks[kind].append(better_and_equal(taken, targets))
                allowed = np.take_along_axis(unseen, listed, axis=1)
                ranks[f"unseen.{kind}"].append(better_and_equal(taken, targets, allowed))
        return _views(self.users, ranks)

    def _alive(self, scorer: Scorer) -> Views:
        ranks: _Ranks = defaultdict(list)
        rows = self._ranked_rows
        for _, piece in self._pieces(rows, scorer, self._width):
            scores, alive = scorer.all(piece), self._lifetimes.alive(piece)
            ranks["alive"].append(_among_all(scores, piece, alive))
            alive &= self._seen.unseen(piece)
            ranks["unseen"].append(_among_all(scores, piece, alive))
        views = _views(rows.users, ranks)
        if self._choosing:
            return views
        cold = self._born_later[rows.items]
        first = views["alive" if self.first == "alive" else "unseen"]
        apart = {"warm": first.take(~cold), "cold": first.take(cold)}
        return views | {name: view for name, view in apart.items() if len(view.users)}

    def _listed(self, scorer: Scorer) -> Views:
        """Score the queries of whole users at once, so that their pools need no more memory than the largest one."""
        negatives = self._negatives["uni1000"]
        g, e = (np.zeros(len(self.users), dtype=np.int64) for _ in range(2))
        pools: list[View] = []
        for chosen in _by_user(self.users, _POOLED):
            scores = self._list_scores(scorer, chosen)
            g[chosen], e[chosen] = better_and_equal(scores, np.zeros(len(chosen), dtype=np.int64))
            if not self._choosing:
                pools.append(_pooled(self.users[chosen], scores))
        values = _measured(_TOP, g, e) | {"gauc": list_auc(g, e, negatives.shape[1])}
        main = View(self.users, values)
        return {"": main} if self._choosing else {"": main, "pool": joined(pools)}

    def _list_scores(self, scorer: Scorer, chosen: Counts) -> Scores:
        """Return the scores of chosen queries, their targets first, (B, 1+n)."""
        rows, negatives = self._rows.take(chosen), self._negatives["uni1000"]
        pieces = [
            scorer.lists(piece, _lists(piece.items, negatives[chosen[places]]))
            for places, piece in self._pieces(rows, scorer, negatives.shape[1] + 1)
        ]
        return np.concatenate(pieces)

    def _shown(self, scorer: Scorer) -> Views:
        pieces = [scorer.lists(piece, piece.items[:, None])[:, 0] for _, piece in self._pieces(self._rows, scorer, 1)]
        scores = np.concatenate(pieces or [np.zeros(0, dtype=np.float32)])
        assert self._rows.labels is not None
        labels = self._rows.labels > 0
        rows, areas = auc_by_user(self.users, scores, labels)
        weights = {"gauc": rows.astype(np.float64)}
        values = {"uauc": areas, "gauc": areas}
        return {
            "": View(np.unique(self.users), values, weights, {"auc": auc(scores, labels)} | self._by_outcome(scores))
        }

    def _by_outcome(self, scores: NDArray[np.float32]) -> dict[str, float]:
        """Return how well the scores tell apart who did and who did not, for each outcome that is an action."""
        if self._rows.outcomes is None:
            return {}
        columns = dict(zip(self._prepared.outcomes, self._rows.outcomes.T, strict=True))
        actions = {name: values for name, values in columns.items() if bool(np.isin(values, (0, 1)).all())}
        return {f"auc.{name}": auc(scores, values > 0) for name, values in actions.items()}

    def _pieces(self, rows: Rows, scorer: Scorer, width: int) -> Iterator[tuple[Counts, Rows]]:
        """Yield places and queries, as many at once as memory allows for `width` scores each."""
        size = max(1, min(_ROWS, scorer.cells // width))
        for start in range(0, len(rows.users), size):
            chosen = np.arange(start, min(start + size, len(rows.users)))
            yield chosen, rows.take(chosen)
            self.watch(len(chosen))

    @property
    def _width(self) -> int:
        return len(self._prepared.items) + 1


def _rankings(recipe: SplitRecipe, choosing: bool) -> frozenset[str]:
    """Return the kinds of candidates that a split by time needs: stored lists, all items alive, or both."""
    if recipe.protocol != "time":
        return frozenset()
    if not choosing:
        return frozenset({"lists", "alive"})
    return frozenset({"lists"}) if selects_by_list(recipe) else frozenset({"alive"})


def queries(prepared: Prepared, recipe: SplitRecipe, part: Part) -> Rows:
    """Return the queries of a part; for test, those of `test_users` users."""
    parts: Split = split(prepared, recipe.protocol, recipe.held, recipe.hours)
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


def _whole_users(rows: Rows, most: int) -> Rows:
    """Return the queries of as many users as have at most this number together, the same ones every time."""
    if len(rows.users) <= most:
        return rows
    users, counts = np.unique(rows.users, return_counts=True)
    order = np.random.default_rng(_SAMPLE_SEED).permutation(len(users))
    kept = max(1, int((np.cumsum(counts[order]) <= most).sum()))
    return rows.take(np.flatnonzero(np.isin(rows.users, users[order[:kept]])))


def _lists(targets: Counts, negatives: Negatives) -> Counts:
    """Return each target before its negatives, (B, 1+n)."""
    return np.concatenate((targets[:, None], negatives.astype(np.int64)), axis=1)


def _among_all(scores: Scores, piece: Rows, mask: Mask | None) -> tuple[Counts, Counts]:
    """Return g and e of the targets among the candidates (B, I+1); column 0 is padding."""
    return better_and_equal(scores[:, 1:], piece.items - 1, None if mask is None else mask[:, 1:])


def _views(users: Counts, ranks: _Ranks) -> Views:
    return {name: View(users, _measured(_FULL, *_joined(found))) for name, found in ranks.items()}


def _joined(pieces: list[tuple[Counts, Counts]]) -> tuple[Counts, Counts]:
    return np.concatenate([g for g, _ in pieces]), np.concatenate([e for _, e in pieces])


def _measured(metrics: _Metrics, g: Counts, e: Counts) -> dict[str, Floats]:
    return {name: metric(g, e, k) for name, (metric, k) in metrics.items()}


def _by_user(users: Counts, size: int) -> Iterator[Counts]:
    """Yield the places of whole users' queries, about `size` at once; more only if one user has more."""
    order = np.argsort(users, kind="stable")
    stops = np.append(np.flatnonzero(np.diff(users[order])) + 1, len(order))
    begin = 0
    for stop, following in zip(stops, np.append(stops[1:], len(order) + size + 1), strict=True):
        if following - begin > size and stop > begin:
            yield order[begin:stop]
            begin = int(stop)


def _pooled(users: Counts, scores: NDArray[np.float32]) -> View:
    """Return the metrics of each user's queries in one list; the target is the first column of scores (N, 1+n)."""
    order = np.argsort(users, kind="stable")
    known, starts = np.unique(users[order], return_index=True)
    pools = [(scores[part, 0], scores[part, 1:].ravel()) for part in np.split(order, starts[1:])]
    top = [best_of_many(positives, negatives, 5) for positives, negatives in pools]
    areas = [pool_auc(positives, negatives) for positives, negatives in pools]
    columns = dict(zip(("ndcg@5", "hit@5", "mrr@5"), np.array(top, dtype=np.float64).reshape(-1, 3).T, strict=True))
    sizes = np.array([sum(map(len, pool)) for pool in pools], dtype=np.float64)
    return View(known, {**columns, "gauc": np.array(areas, dtype=np.float64)}, {"gauc": sizes})
