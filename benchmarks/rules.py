"""`python -m benchmarks.rules BUNDLE...`: what rules after scoring cost, and how far a factor moves an item.

Candidates are random items that the bundle knows, users have random histories. The ways take turns, and each cost is a
median of processor time: of ordering an answer by scores that are there, and of writing its bytes.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from contract.behaviours.records import Records, item_keys, records_from_columns
from contract.command_line import CommandError, run
from contract.experiments.rules import FIRST_SEEN, Rule
from service.bundles.bundle import Bundle, load_bundle
from service.http.rank_answer import rank_body
from service.inference.engine import OnnxEngine
from service.inference.inputs import RankRow
from service.inference.scorer import Inference, ScoredRow
from service.inference.state_cache import StateCache
from service.ranking.answer import ranking_of
from service.ranking.candidates import Candidates, candidates_of
from service.ranking.rules.applied import finished, ruled
from service.ranking.rules.book import bundle_rules
from service.ranking.rules.features import features_of

_CANDIDATES: Final = 200
_USERS: Final = 200
_ROUNDS, _RUNS = 200, 5
_FACTORS: Final = (1.1, 1.5, 2.0, 5.0)
_PLACES: Final = (20, 100)  # from 0, before the boost

Rules = dict[str, list[dict[str, Any]]]  # Any: JSON


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rules", description=__doc__)
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--feature", default="genres", help="an item feature of the bundles")
    options = parser.parse_args(arguments)
    return run("benchmarks.rules", lambda: _measure(options.bundles, options.feature))


def _measure(paths: Sequence[Path], feature: str) -> int:
    bundles = [load_bundle(path, max_bytes=1 << 31) for path in paths]
    for bundle in bundles:
        if lacking := {feature, FIRST_SEEN} - features_of(bundle):
            raise CommandError(f"{bundle.name}: no item feature {', '.join(sorted(lacking))}: prepare and train again")
    print("| Bundle | From place | " + " | ".join(f"factor {factor}" for factor in _FACTORS) + " |")
    print("| --- | --- |" + " --- |" * len(_FACTORS))
    for bundle in bundles:
        _print_places(bundle)
    print("\n| Rules | " + " | ".join(f"CPU us, {bundle.name}" for bundle in bundles) + " |")
    print("| --- |" + " --- |" * len(bundles))
    costs = [_costs(bundle, feature) for bundle in bundles]
    for name in costs[0]:
        print(f"| {name} | " + " | ".join(f"{found[name]:.0f}" for found in costs) + " |")
    return 0


def _print_places(bundle: Bundle) -> None:
    """Print the median number of places that a boost moves an item up."""
    ordered = np.stack([-np.sort(-scored.scores) for _, scored in _scored(bundle, _USERS)])
    for place in _PLACES:
        moved = [place - np.median((ordered > ordered[:, [place]] + np.log(factor)).sum(axis=1)) for factor in _FACTORS]
        print(f"| {bundle.name} | {place + 1} | " + " | ".join(f"{places:.0f}" for places in moved) + " |")


def _costs(bundle: Bundle, feature: str) -> Mapping[str, float]:
    candidates, scored = next(_scored(bundle, 1))
    value = str(next(entry[feature][0] for entry in bundle.catalogue.values() if entry.get(feature)))
    boost = {"boost": {"feature": feature, "value": value, "factor": 1.3}}
    diversity = {"diversity": {"by": feature, "decay": 0.5, "floor": 0.1}}
    limit = {"age_limit": {"hours": 24 * 30}}
    sent = [{**boost, "boost": {**boost["boost"], "source": "callers"}}]
    sets: Rules = {
        "none": [], "`boost`": [boost], "`diversity`": [diversity], "`age_limit`": [limit],
        "all three": [diversity, boost, limit], "`boost`, features of callers": sent,
    }  # fmt: skip
    now_ms = int(np.median([entry[FIRST_SEEN] for entry in bundle.catalogue.values() if FIRST_SEEN in entry]))
    now_ms += 24 * 30 * 3_600_000  # so that half of the items are too old
    features = {place: {feature: [value]} for place in range(0, _CANDIDATES, 2)}
    ways = {
        name: _way(bundle, candidates, scored, rules, features if rules is sent else {}, now_ms)
        for name, rules in sets.items()
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(_ROUNDS):
        for name, way in ways.items():
            taken[name].append(_microseconds(way))
    return {name: float(np.median(found)) for name, found in taken.items()}


def _way(
    bundle: Bundle,
    candidates: Candidates,
    scored: ScoredRow,
    rules: Sequence[Mapping[str, Any]],
    features: Mapping[int, Mapping[str, object]],
    now_ms: int,
) -> Callable[[], bytes]:
    def plain() -> bytes:
        return rank_body("r", ranking_of(bundle, candidates, scored, limit=None, degraded=(), timings={}), {})

    if not rules:
        return plain
    prepared = bundle_rules("set", TypeAdapter(list[Rule]).validate_python(rules), bundle)

    def with_rules() -> bytes:
        result = ruled(prepared, candidates, scored.scores, features, now_ms)
        ranking = ranking_of(
            bundle, candidates, scored, limit=None, degraded=(), timings={}, instead=result.after
        )  # fmt: skip
        return rank_body("r", finished(ranking, result, None, explain=False), {})

    return with_rules


def _scored(bundle: Bundle, users: int) -> Iterator[tuple[Candidates, ScoredRow]]:
    inference, rng = Inference(bundle, OnnxEngine(bundle, "cpu", threads=1), StateCache(10)), np.random.default_rng(1)
    for _ in range(users):
        items = rng.choice(bundle.manifest.item_count, _CANDIDATES, replace=False)
        candidates = candidates_of([bundle.items.ids[item] for item in items.tolist()], bundle.items)
        (scored,) = inference.run([RankRow("", _history(bundle, rng), candidates.indices, 0)])
        if isinstance(scored, Exception):
            raise scored
        yield candidates, scored


def _history(bundle: Bundle, rng: np.random.Generator) -> Records:
    length = bundle.manifest.sequence.length
    share: NDArray[np.float64] = bundle.popularity[1:].astype(np.float64) / bundle.popularity.sum()
    items = rng.choice(len(share), length, p=share)
    nothing = np.zeros(length)
    times = 1_700_000_000_000 + np.arange(length)
    actions = np.full(length, 11, np.uint8)  # rate, as MovieLens has it
    keys = item_keys([bundle.items.ids[item] for item in items.tolist()])
    return records_from_columns(keys, times, actions, nothing.astype(np.int64), nothing)


def _microseconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    for _ in range(_RUNS):
        work()
    return (time.process_time() - began) / _RUNS * 1e6


if __name__ == "__main__":
    sys.exit(main())
