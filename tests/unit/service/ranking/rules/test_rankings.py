"""Rules in rankings: the answer, its explanation, degraded and interleaved lists, metrics; and none without a set."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import orjson
import pytest

from contract.experiments.assignment import ExperimentsSnapshot, snapshot_of
from contract.experiments.decision import Decision
from service.bundles.bundle import Bundle
from service.experiments.arm_loading import ArmModels
from service.experiments.source import Rejected
from service.http.answers import RankedItem
from service.http.rank_answer import rank_body
from service.ranking.call import AwaitedCall
from service.ranking.ranker import Ranker
from service.ranking.ranking_log import RankingLog
from service.ranking.rules.book import RuleBook, is_linear
from service.settings.ranking_log import RankingLogSettings
from service.store.behaviours import StoredBehaviours
from tests.support.builders import behaviours
from tests.support.rankings import TREATMENT, Served, World, call_of, ordered, settings_of
from tests.support.rules import NOW_MS, with_facts

pytestmark = [pytest.mark.anyio, pytest.mark.onnx]

CANDIDATES = ["i3", "new", "i4", "i5", "i6"]
FACTS = {f"i{number}": {"author": "b" if number > 4 else "a", "first_seen": 20 - number} for number in range(1, 21)}
SETS: dict[str, Any] = {
    "spread": [{"diversity": {"by": "author", "decay": 0.01}}],
    "fresh": [{"age_limit": {"seconds": (NOW_MS - 16) / 1000}}],  # born before 16: i5 and later ones
    "sent": [{"boost": {"feature": "topic", "value": "cup", "add": 50, "source": "callers"}}],
}


def snapshot(*, rules: str = "spread", arms: Sequence[Mapping[str, Any]] = (), kind: str = "ab") -> ExperimentsSnapshot:
    """Return a file whose default is the treatment with a set of rules, and perhaps an experiment with arms."""
    experiment = {
        "key": "e", "kind": kind, "salt": "e", "status": "running", "start": "1970-01-01T00:00:00Z",
        "end": "1970-03-01T00:00:00Z", "owner": "o", "slots": [[0, 10_000]],
        "arms": [
            {"key": key, "buckets": [bounds], "params": dict(params)}
            for key, bounds, params in zip(("control", "treatment"), ([0, 5_000], [5_000, 10_000]), arms, strict=False)
        ],
    }  # fmt: skip
    defaults = {"model": "treatment", "version": "1", "rules": rules}
    layer = {"key": "rank", "salt": "rank", "defaults": defaults, "experiments": [experiment] if arms else []}
    return snapshot_of({"schema": 1, "revision": "r", "rules": SETS, "layers": [layer]})


class RuledWorld(World):
    def __init__(self, served: Mapping[str, Served], book: RuleBook) -> None:
        super().__init__(served, settings_of())
        self.book = book
        self.ranker = Ranker(
            self.store, self, self.experiments, self.exposures, self.metrics, settings_of(), now_ms=lambda: 1_234,
            rules=book,
        )  # fmt: skip


@asynccontextmanager
async def ruled_world(bundles: Mapping[str, Bundle], file: ExperimentsSnapshot) -> AsyncIterator[RuledWorld]:
    served = {name: Served(with_facts(bundle, FACTS)) for name, bundle in bundles.items()}
    book = RuleBook(lambda: [one.bundle for one in served.values()])
    assert await book.prepare(file) == []
    world = RuledWorld(served, book)
    try:
        yield world
    finally:
        await world.ranker.close()


def decided(file: ExperimentsSnapshot) -> Decision:
    return file.decide("u1", {}, 1_234)


async def test_an_answer_names_the_rules_that_moved_an_item(bundles: Mapping[str, Bundle]) -> None:
    file = snapshot()
    async with ruled_world(bundles, file) as world:
        plain = await world.rank(CANDIDATES)
        ranking = await world.ranker.rank(call_of(CANDIDATES, decided(file), explain=True))
        assert list(plain.item_ids) == ["i6", "i5", "i4", "i3", "new"]
        assert list(ranking.item_ids) == ["i6", "i4", "i5", "i3", "new"]
        body = orjson.loads(rank_body("r1", ranking, {}))["items"]
        for one in body:
            RankedItem.model_validate(one)
        assert [one["item_id"] for one in body] == list(ranking.item_ids)
        # i3 is lowered too, but keeps its place; i4 is only passed by.
        assert [one.get("rules") for one in body] == [None, None, ["diversity:author"], None, None]
        assert ranking.explanation is not None
        scores = dict(zip(plain.item_ids, plain.scores, strict=True))
        assert ranking.explanation.items["score.before"] == [scores[item] for item in ranking.item_ids]
        assert ranking.explanation.items["score.after"] == ranking.scores
        changed = {item for item, score in zip(ranking.item_ids, ranking.scores, strict=True) if score != scores[item]}
        assert changed == {"i5", "i3"}
        assert world.shown('ranker_rule_moved_items_total{rule="diversity:author",rules="spread"} 1.0')


async def test_the_ranking_log_counts_the_candidates_that_each_rule_moved(bundles: Mapping[str, Bundle]) -> None:
    events: list[dict[str, Any]] = []

    class Sink:
        def offer(self, event: Any, labels: tuple[str, ...] = ()) -> bool:
            events.append(orjson.loads(bytes(event)))
            return True

    log = RankingLog(Sink(), RankingLogSettings(share=1), on_logged=lambda _: None)
    for file, limit in ((snapshot(), None), (snapshot(), 1), (snapshot(rules=""), None)):
        async with ruled_world(bundles, file) as world:
            call: AwaitedCall = call_of(CANDIDATES, decided(file), limit=limit)
            await world.ranker.rank(call)
            log.record(call, "ok", 7)
    assert [(one["rules"], one["moved"]) for one in events[:2]] == [("spread", {"diversity:author": 1})] * 2
    assert events[1]["items"] == ["i6"]  # the moved one is cut off
    assert not {"rules", "moved"} & events[2].keys()


async def test_without_a_set_an_answer_is_as_before(bundles: Mapping[str, Bundle]) -> None:
    file = snapshot(rules="")
    async with ruled_world(bundles, file) as world:
        plain = await world.rank(CANDIDATES)
        ranking = await world.ranker.rank(call_of(CANDIDATES, decided(file)))
        assert rank_body("r1", ranking, {}) == rank_body("r1", plain, {})
        assert (ranking.moved, decided(file).rules) == (None, "")


async def test_old_items_come_last_with_their_scores_and_the_limit_cuts_the_whole_list(
    bundles: Mapping[str, Bundle],
) -> None:
    file = snapshot(rules="fresh")
    async with ruled_world(bundles, file) as world:
        ranked = {"request_time_ms": NOW_MS}
        ranking = await world.ranker.rank(call_of(CANDIDATES, decided(file), **ranked))
        assert list(ranking.item_ids) == ["i4", "i3", "new", "i6", "i5"]
        assert [score is None for score in ranking.scores] == [False, False, True, False, False]
        short = await world.ranker.rank(call_of(CANDIDATES, decided(file), limit=4, **ranked))
        assert list(short.item_ids) == list(ranking.item_ids)[:4]
        world.store.users["u1"] = StoredBehaviours(behaviours(["i4"]))
        seen = await world.ranker.rank(call_of(CANDIDATES, decided(file), seen="last", limit=4, **ranked))
        assert list(seen.item_ids) == ["i3", "new", *ordered(TREATMENT, [4], [5, 6])]
        assert len(orjson.loads(rank_body("r1", seen, {}))["items"]) == 4


async def test_features_of_the_request_are_read(bundles: Mapping[str, Bundle]) -> None:
    file = snapshot(rules="sent")
    async with ruled_world(bundles, file) as world:
        last = ordered(TREATMENT, [], [3, 4, 5, 6])[-1]
        features = {last: {"topic": "cup"}, "new": {"topic": "cup"}}
        ranking = await world.ranker.rank(call_of(CANDIDATES, decided(file), features=features))
        assert ranking.item_ids[0] == last
        assert ranking.known[-1] is False  # without a score, nothing can be added


async def test_popularity_order_has_rules_and_no_scores(bundles: Mapping[str, Bundle]) -> None:
    file = snapshot()
    async with ruled_world(bundles, file) as world:
        for one in world.served.values():
            one.is_healthy = False
        ranking = await world.ranker.rank(call_of(["i3", "i4", "i5", "i6"], decided(file), explain=True))
        assert "popularity" in ranking.degraded
        assert ranking.scores == [None] * 4
        assert {item in ("i5", "i6") for item in ranking.item_ids[:2]} == {True, False}  # not two of one author
        assert ranking.explanation is not None
        assert "score.before" not in ranking.explanation.items


async def test_each_interleaved_arm_has_its_own_rules(bundles: Mapping[str, Bundle]) -> None:
    file = snapshot(rules="", arms=[{"rules": ""}, {"rules": "fresh"}], kind="interleave")
    async with ruled_world(bundles, file) as world:
        call = call_of(["i3", "i4", "i5", "i6"], decided(file), request_time_ms=NOW_MS)
        ranking = await world.ranker.rank(call)
        assert ranking.merged is not None
        ranks = dict(zip(ranking.item_ids, ranking.merged.ranks, strict=True))
        best = ordered(TREATMENT, [], [3, 4, 5, 6])
        assert sorted(ranks, key=lambda item: ranks[item][0] or 0) == best
        assert best == ["i6", "i5", "i4", "i3"]
        assert sorted(ranks, key=lambda item: ranks[item][1] or 0) == ["i4", "i3", "i6", "i5"]


async def test_a_file_whose_rule_reads_what_the_bundle_lacks_is_refused(bundles: Mapping[str, Bundle]) -> None:
    book = RuleBook(lambda: [with_facts(bundle, {"i1": {"genre": "x"}}) for bundle in bundles.values()])
    models = ArmModels(lambda _: ("1",), None, 5.0, rules=book.prepare)
    file = snapshot(rules="", arms=[{}, {"rules": "spread"}])
    with pytest.raises(Rejected) as refusal:
        await models.make_ready(file)
    (problem,) = refusal.value.problems
    assert problem.startswith(
        "rank.e:treatment: rules spread: diversity:author: feature author: bundle treatment@1 has no such item feature "
        "(it has: genre)"
    )
    await models.make_ready(snapshot(rules="sent"))  # callers send what it reads


async def test_rules_of_the_last_files_are_kept(bundles: Mapping[str, Bundle]) -> None:
    served = [with_facts(bundle, FACTS) for bundle in bundles.values()]
    book, file = RuleBook(lambda: served), snapshot()
    await book.prepare(file)
    first = book.of(decided(file), "spread", served[0])
    assert first is not None
    await book.prepare(file)
    await book.prepare(snapshot(rules="fresh"))
    assert book.of(decided(file), "spread", served[0]) is first
    assert book.of(decided(file), "fresh", served[0]) is None  # no arm names it
    assert book.has_rules


def test_scores_are_weights_where_nothing_was_learnt_or_targets_are_summed(bundles: Mapping[str, Bundle]) -> None:
    manifest = bundles["control"].manifest
    assert not is_linear(manifest.model_copy(update={"parameters": 5}))
    assert is_linear(manifest.model_copy(update={"parameters": 0}))
    assert is_linear(manifest.model_copy(update={"parameters": 5, "targets": {"click": 1.0}}))
    assert np.all([bundle.manifest.parameters for bundle in bundles.values()])
