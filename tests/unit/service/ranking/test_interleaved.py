"""Both models' lists become one, and when one model fails the other answers without credit for either."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from contract.experiments.decision import Decision, LayerArm, LayerDecision
from contract.experiments.interleaving import INTERLEAVED, redraft, team_draft
from service.bundles.bundle import Bundle, load_bundle
from service.errors import CALLER_GONE, DeadlineExceeded, InferenceFailed, NotReady, Overloaded
from service.ranking.answer import Merged, Ranking
from service.ranking.call import AwaitedCall
from service.ranking.ranking_log import RankingLog
from service.settings.ranking_log import RankingLogSettings
from service.store.behaviours import StoredBehaviours
from tests.support.builders import TinyModel, behaviours
from tests.support.rankings import World, both_models, call_of, ordered, world_of
from tests.support.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.onnx]

RISING = TinyModel(model="control", items=12)
FALLING = TinyModel(model="treatment", version="1", slope=-1.0, items=15, poison_item=5, offset=1_000)
CANDIDATES = [f"i{place}" for place in range(1, 13)]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    root: Path = tmp_path_factory.mktemp("bundles")
    return {model.model: load_bundle(model.write(root), max_bytes=10_000_000) for model in (RISING, FALLING)}


async def interleave(world: World, candidates: list[str] | None = None, **fields: Any) -> Ranking:
    return await world.ranker.rank(call_of(candidates or CANDIDATES, both_models(), **fields))


async def alone(world: World, arm: str, candidates: list[str] | None = None) -> list[str]:
    return (await world.rank(candidates or CANDIDATES, arm)).item_ids


def merged_of(ranking: Ranking) -> Merged:
    assert ranking.merged is not None
    return ranking.merged


async def test_the_list_is_the_draft_of_the_lists_that_each_model_gives(two: Mapping[str, Bundle]) -> None:
    async with world_of(two) as world:
        world.store.users["u1"] = StoredBehaviours(behaviours(["i1", "i2"]))
        own = [await alone(world, arm) for arm in ("control", "treatment")]
        assert own[0] != own[1]
        for number in range(20):
            ranking = await interleave(world, request_id=f"r{number}")
            draft = team_draft(f"r{number}", *own)
            assert ranking.item_ids == draft.items
            merged = merged_of(ranking)
            assert merged.teams == [None if team is None else ("control", "treatment")[team] for team in draft.teams]
            assert merged.ranks == [[own[0].index(item) + 1, own[1].index(item) + 1] for item in draft.items]
            assert redraft(f"r{number}", dict(zip(ranking.item_ids, merged.ranks, strict=True))) == draft
        assert (ranking.model, ranking.version, ranking.degraded) == ("control+treatment", "1+1", ())
        assert (ranking.scores, ranking.known) == ([None] * 12, [True] * 12)
        assert set(ranking.timings) == {"store", "queue", "encode", "score", "order", "total"}
        outcome = world.exposures.outcomes[-1]
        assert (outcome.served_model, outcome.served_version, outcome.status) == ("control+treatment", "1+1", "ok")


async def test_behaviours_are_read_once_and_each_bundle_runs_once_for_all(two: Mapping[str, Bundle]) -> None:
    async with world_of(two) as world:
        calls = [interleave(world, user_id=f"u{number}", deadline=1e9) for number in range(5)]
        await asyncio.gather(*calls, world.rank(["i1"], "control"))
        assert [len(read) for read in world.store.reads] == [6]
        assert (world.served["control"].batches, world.served["treatment"].batches) == ([6], [5])
        assert set(world.served["control"].deadlines[:5]) == set(world.served["treatment"].deadlines)


async def test_all_behaviours_are_read_if_they_do_not_fill_one_of_the_models(tmp_path: Path) -> None:
    models = (TinyModel(model="control", length=1), TinyModel(model="treatment", length=5))
    bundles = {one.model: load_bundle(one.write(tmp_path), max_bytes=10_000_000) for one in models}
    async with world_of(bundles) as world:
        world.store.users["u1"] = StoredBehaviours(behaviours(["i3"]), truncated=True)
        world.store.wholes["u1"] = StoredBehaviours(behaviours(["i1", "i2", "i3"]))
        await world.rank(["i1"], "control")
        assert not world.store.whole_reads
        await interleave(world)
        assert world.store.whole_reads == [["u1"]]
        assert len(world.served["treatment"].rows[-1].records) == 3


async def test_equal_lists_are_not_changed_and_have_no_teams(two: Mapping[str, Bundle]) -> None:
    async with world_of({"control": two["control"], "treatment": two["control"]}) as world:
        ranking = await interleave(world)
        assert ranking.item_ids == await alone(world, "control")
        assert merged_of(ranking).teams == [None] * 12


@pytest.mark.parametrize("limit", [1, 2, 5, 12, 99])
async def test_a_limit_gives_the_beginning_of_the_list(two: Mapping[str, Bundle], limit: int) -> None:
    async with world_of(two) as world:
        whole, part = await interleave(world), await interleave(world, limit=limit)
        assert part.item_ids == whole.item_ids[:limit]
        assert merged_of(part) == Merged(merged_of(whole).teams[:limit], merged_of(whole).ranks[:limit])


async def test_items_that_neither_model_knows_are_last_and_have_no_team(two: Mapping[str, Bundle]) -> None:
    async with world_of(two) as world:
        candidates = ["x", "i14", "i3", "y", "i2", "i15", "i1"]  # i14 and i15 are known to the treatment only
        ranking = await interleave(world, candidates, explain=True)
        assert ranking.item_ids[5:] == ["x", "y"]
        assert ranking.known == [True] * 5 + [False] * 2
        ranks = dict(zip(ranking.item_ids, merged_of(ranking).ranks, strict=True))
        assert {item: ranks[item] for item in ("i14", "i15", "x", "y")} == {
            "i14": [None, 4], "i15": [None, 5], "x": [None, None], "y": [None, None],
        }  # fmt: skip
        assert merged_of(ranking).teams[5:] == [None, None]
        assert (await interleave(world, candidates, limit=6)).item_ids == ranking.item_ids[:6]
        assert ranking.explanation is not None
        assert ranking.explanation.items == {
            "team": merged_of(ranking).teams,
            "control.rank": [own[0] for own in merged_of(ranking).ranks],
            "treatment.rank": [own[1] for own in merged_of(ranking).ranks],
        }


async def test_nothing_but_unknown_items_is_answered_in_request_order(two: Mapping[str, Bundle]) -> None:
    async with world_of(two) as world:
        ranking = await interleave(world, ["x", "z", "y"])
        assert (ranking.item_ids, merged_of(ranking).teams) == (["x", "z", "y"], [None] * 3)


@pytest.mark.parametrize("arm", ["control", "treatment"])
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"fault": InferenceFailed()}, "bundle_unavailable"),
        ({"fault": Overloaded()}, "bundle_unavailable"),
        ({"fault": DeadlineExceeded()}, "bundle_slow"),
        ({"is_healthy": False}, "bundle_unavailable"),
        ({"is_slow": True}, "bundle_slow"),
    ],
    ids=["fails", "full", "late", "broken", "slow"],
)
async def test_when_one_model_fails_the_other_answers_and_no_team_gets_credit(
    two: Mapping[str, Bundle], arm: str, fault: Mapping[str, Any], reason: str
) -> None:
    other = {"control": "treatment", "treatment": "control"}[arm]
    async with world_of(two) as world:
        expected = await alone(world, other)
        for name, value in fault.items():
            setattr(world.served[arm], name, value)
        ranking = await interleave(world)
        assert (ranking.item_ids, ranking.model, ranking.degraded) == (expected, other, (reason,))
        assert ranking.merged is None
        assert None not in ranking.scores
        assert world.exposures.outcomes[-1].served_model == other
        assert world.shown(f'ranker_degraded_total{{reason="{reason}"}} 1.0')


async def test_a_model_that_is_not_loaded_is_answered_for_by_the_other(two: Mapping[str, Bundle]) -> None:
    async with world_of(two) as world:
        del world.served["control"]
        ranking = await interleave(world)
        assert (ranking.model, ranking.degraded, ranking.merged) == ("treatment", ("bundle_unavailable",), None)


async def test_where_both_bundles_are_slow_both_are_asked(two: Mapping[str, Bundle]) -> None:
    async with world_of(two) as world:
        for served in world.served.values():
            served.is_slow = True
        assert merged_of(await interleave(world)).teams.count("treatment") > 0
        world.served["control"].is_healthy = False  # slow is better than broken
        ranking = await interleave(world)
        assert (ranking.model, ranking.degraded) == ("treatment", ("bundle_unavailable",))


async def test_when_both_models_fail_the_order_is_that_of_popularity(two: Mapping[str, Bundle]) -> None:
    async with world_of(two) as world:
        for served in world.served.values():
            served.fault = DeadlineExceeded()
        ranking = await interleave(world, ["i9", "i3"])
        assert (ranking.item_ids, ranking.degraded, ranking.merged) == (["i3", "i9"], ("popularity",), None)
        world.served["control"].fault = InferenceFailed()
        with pytest.raises(InferenceFailed):  # as without interleaving: a working engine failed on this request
            await interleave(world)
        world.served.clear()
        with pytest.raises(NotReady):
            await interleave(world)


async def test_a_row_that_one_model_fails_on_fails_alone(two: Mapping[str, Bundle]) -> None:
    async with world_of(two) as world:
        world.store.users["bad"] = StoredBehaviours(behaviours(["i5"]))
        bad, good = await asyncio.gather(interleave(world, user_id="bad"), interleave(world))
        assert world.served["treatment"].batches == [2]
        assert (bad.item_ids, bad.degraded) == (ordered(RISING, [5], list(range(1, 13))), ("bundle_unavailable",))
        assert (bad.merged, good.degraded) == (None, ())
        assert merged_of(good).teams.count("control") == merged_of(good).teams.count("treatment") > 0


async def test_an_item_without_a_finite_score_is_last_in_that_model_s_list(tmp_path: Path) -> None:
    models = (TinyModel(model="control"), TinyModel(model="treatment", nan_candidate=7))
    bundles = {one.model: load_bundle(one.write(tmp_path), max_bytes=10_000_000) for one in models}
    async with world_of(bundles) as world:
        ranking = await interleave(world, ["i7", "i3", "i9"])
        assert ranking.degraded == ("unscored_items",)
        assert dict(zip(ranking.item_ids, merged_of(ranking).ranks, strict=True))["i7"] == [2, None]


async def test_a_caller_who_leaves_between_the_two_scores_ends_the_ranking_once(two: Mapping[str, Bundle]) -> None:
    async with world_of(two) as world:
        call = call_of(CANDIDATES, both_models())
        submit = world.served["treatment"].submit
        world.served["treatment"].submit = lambda entries: (call.abandon(), submit(entries))[0]  # type: ignore[assignment, func-returns-value, return-value]
        asked = asyncio.create_task(world.ranker.rank(call))
        await until(lambda: call.is_over)
        asked.cancel(CALLER_GONE)
        await asyncio.wait({asked})
        assert [one.status for one in world.exposures.outcomes] == ["gone"]


class Sink:
    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def offer(self, event: Any, labels: tuple[str, ...] = ()) -> bool:
        self.events.append(json.loads(bytes(event)))
        return True


async def test_the_ranking_log_has_teams_and_ranks_of_the_best_items(two: Mapping[str, Bundle]) -> None:
    sink = Sink()
    log = RankingLog(sink, RankingLogSettings(share=1, top=5), on_logged=lambda _: None)
    async with world_of(two) as world:
        call: AwaitedCall = call_of(CANDIDATES, both_models())
        merged = merged_of(await world.ranker.rank(call))
        log.record(call, "ok", 7)
        plain = call_of(CANDIDATES, both_models())
        world.served["treatment"].is_healthy = False
        await world.ranker.rank(plain)
        log.record(plain, "degraded", 7)
    first, second = sink.events
    assert (first["teams"], first["ranks"]) == (merged.teams[:5], merged.ranks[:5])
    assert first["arms"] == [{"layer": "rank", "exp": "e", "arm": "interleaved", "forced": 0}]
    assert "teams" not in second
    assert second["arms"] == first["arms"]


async def test_two_weightings_of_one_bundle_are_interleaved(tmp_path: Path) -> None:
    model = TinyModel(model="control", items=12, slope=50.0, targets=True)
    bundle = load_bundle(model.write(tmp_path), max_bytes=10_000_000)
    arms = (
        LayerArm("control", {"model": "control", "version": "1", "targets": ""}),
        LayerArm("treatment", {"model": "control", "version": "1", "targets": "click=0,like=2"}),
    )
    layer = LayerDecision("rank", "e", INTERLEAVED, "split", 1, None, False, arms[0].parameters, "s", arms)
    decision = Decision((layer,), "digest", "u1", None, arms)
    async with world_of({"control": bundle}) as world:
        ranking = await world.ranker.rank(call_of(CANDIDATES, decision))
        rising = [f"i{place}" for place in range(12, 0, -1)]
        assert ranking.item_ids == team_draft("r1", rising, rising[::-1]).items
