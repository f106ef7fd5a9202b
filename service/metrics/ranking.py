"""Metrics of rankings: stages, candidates, histories, batches."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from typing import Final, get_args

from contract.bundle.reference import LENGTHS
from service.metrics.buckets import BATCH_CANDIDATES, CANDIDATES, LATENCY, ROWS
from service.metrics.families import Families
from service.metrics.values import Counter, Gauge, Histogram, Made
from service.names import Degraded

STAGES: Final = ("store", "queue", "encode", "score", "order", "total")


class RankingMetrics:
    """Counts rankings.

    Args:
        families: where they are declared.
    """

    def __init__(self, families: Families) -> None:
        stages = families.histogram(
            "ranker_stage_duration_seconds", "Time of a ranking by stage.", LATENCY, stage=STAGES
        )
        self._stages = {stage: stages.of(stage) for stage in STAGES}
        self._candidates = families.histogram("ranker_candidates", "Candidates of a request.", CANDIDATES).of()
        self._lengths = families.histogram(
            "ranker_sequence_length", "Behaviours that a model read for a request.", LENGTHS
        ).of()
        self._declare_batches(families)
        self._unused = families.counter(
            "ranker_history_unused_total", "Rankings of users of whose history the model could use nothing.",
            reason=("items", "actions"),
        )  # fmt: skip
        unknown = families.counter(
            "ranker_unknown_items_total", "Items the model has never seen.", kind=("behaviour", "candidate")
        )
        self._unknown_behaviours, self._unknown_candidates = unknown.of("behaviour"), unknown.of("candidate")
        self._new_items = families.counter(
            "ranker_new_items_total", "Candidates that got a score from their features."
        ).of()
        self._new_behaviours = families.counter(
            "ranker_new_item_behaviours_total", "Behaviours on new items that a model read by their features."
        ).of()
        self._refused_features = families.counter(
            "ranker_item_features_refused_total", "Features of candidates that the model does not read."
        ).of()
        self._seen = families.counter(
            "ranker_seen_candidates_total", "Candidates of the user's history that a request wants last or dropped.",
            seen=("last", "drop"),
        )  # fmt: skip
        self._moved = families.counter(
            "ranker_rule_moved_items_total", "Candidates that a rule of an experiment file moved.", rules=(), rule=()
        )
        context = families.counter(
            "ranker_context_values_total", "Attributes of the context that a model reads, by what the request had.",
            input=(), result=("known", "missing", "unknown"),
        )  # fmt: skip
        self._context: Made[tuple[str, str], Counter] = Made(lambda labels: context.of(*labels))
        cache = families.counter("ranker_state_cache_total", "Look-ups of user states.", result=("hit", "miss"))
        self._hits, self._misses = cache.of("hit"), cache.of("miss")
        self._degraded = families.counter(
            "ranker_degraded_total", "Answers that went without something.", reason=get_args(Degraded)
        )

    def _declare_batches(self, families: Families) -> None:
        rows = families.histogram("ranker_batch_rows", "Requests of a batch.", ROWS, bundle=())
        candidates = families.histogram(
            "ranker_batch_candidates", "Candidates of a batch (of the store: users).", BATCH_CANDIDATES, bundle=()
        )
        depth = families.gauge("ranker_queue_depth", "Requests waiting for a batch.", "sum", bundle=())
        self._batches: Made[str, tuple[Histogram, Histogram]] = families.by_bundle(
            lambda name: (rows.of(name), candidates.of(name))
        )
        self._depths: Made[str, Gauge] = families.by_bundle(depth.of)

    def stages(self, seconds: Mapping[str, float]) -> None:
        """Observe the stages of one ranking; names as in STAGES."""
        stages = self._stages
        for stage, duration in seconds.items():
            histogram = stages[stage]  # observe() here, without six calls for each ranking
            histogram.counts[bisect_left(LATENCY, duration)] += 1
            histogram.sum += duration

    def candidates(self, count: int, unknown: int) -> None:
        """Observe how many candidates a request has, and how many of them the model has never seen."""
        self._candidates.observe(count)
        self._unknown_candidates.value += unknown

    def new_items(self, scored: int, refused: int) -> None:
        """Count candidates that got a score from features, and features that the model does not read."""
        self._new_items.value += scored
        self._refused_features.value += refused

    def seen_candidates(self, seen: str, count: int) -> None:
        """Count candidates that the user has met, of a request that wants them `last` or to `drop` them."""
        self._seen.of(seen).value += count

    def rules_applied(self, name: str, moved: Mapping[str, int]) -> None:
        """Count the candidates that each rule of a set moved."""
        for rule, count in moved.items():
            self._moved.of(name, rule).value += count

    def context_value(self, name: str, result: str) -> None:
        """Count what a request had for an attribute that the model reads: known, missing, or unknown to training."""
        self._context[name, result].inc()

    def sequence(self, used: int, unknown: int, new: int) -> None:
        """Observe how many behaviours a model read, those on new items among them, and how many it passed over."""
        self._lengths.observe(used)
        self._unknown_behaviours.value += unknown
        self._new_behaviours.value += new

    def history_unused(self, reason: str) -> None:
        """Count a ranking of a user with a history of which the model could use nothing: `items` or `actions`."""
        self._unused.of(reason).inc()

    def state_cache(self, hit: bool) -> None:
        """Count a look-up of a user's state."""
        (self._hits if hit else self._misses).value += 1

    def degraded(self, reason: str) -> None:
        """Count an answer that went without something."""
        self._degraded.of(reason).inc()

    def queue_depth(self, name: str, entries: int) -> None:
        """Note how many entries wait in a batcher."""
        self._depths[name].value = entries

    def batch(self, name: str, rows: int, cost: int) -> None:
        """Observe a batch that is about to run."""
        of_rows, of_costs = self._batches[name]
        of_rows.observe(rows)
        of_costs.observe(cost)
