"""The page compares models: same candidates, explanation, times, and no exposure."""

from __future__ import annotations

from typing import Any

import pytest

from service.experiments.exposures import Exposures, Outcome
from service.page.comparison import MAX_MODELS, PageSources, _shuffled
from service.page.routes import MAX_EXTRA
from service.store.behaviours import StoredBehaviours
from tests.support.builders import behaviours
from tests.support.served_page import Served

pytestmark = pytest.mark.anyio


async def test_every_model_ranks_the_same_candidates_with_explanation_and_times(served: Served) -> None:
    answer = await served.ask("/page/compare", {"user_id": "tester", "seed": 3, "count": 10})
    assert len(answer["candidates"]) == 10
    assert [call.item_ids for call in served.ranker.asked] == [answer["candidates"]] * 2
    assert [one["bundle"] for one in answer["rankings"]] == ["mgnm@1", "pyramid_mixer@1"]
    ranking = answer["rankings"][1]
    assert ranking["error"] is None
    assert ranking["degraded"] == ["behaviours_corrupt"]
    assert ranking["timings"]["encode"] == 2.0
    assert ranking["state_cached"] is True
    assert ranking["explanation"] == {"period_weights": [0.5, 0.3, 0.2]}
    assert [item["why"] for item in ranking["items"]][::9] == [{"level": 0}, {}]
    assert [item["known"] for item in ranking["items"]][::9] == [True, False]


async def test_own_arm_is_told_with_reason_and_its_model_marked(served: Served) -> None:
    answer = await served.ask("/page/compare", {"user_id": "tester", "count": 5})
    assert answer["decision"]["header"] == "rank=pyramid-vs-mgnm:treatment;r=override"
    [layer] = answer["decision"]["layers"]
    assert (layer["experiment"], layer["arm"], layer["reason"]) == ("pyramid-vs-mgnm", "treatment", "override")
    assert [one["own"] for one in answer["rankings"]] == [False, True]


async def test_bucket_is_hidden_where_the_service_hides_it(served: Served) -> None:
    served.sources = PageSources(
        lambda: served.bundles, lambda: served.snapshot, served.store, served.ranker, dict, show_bucket=False
    )
    answer = await served.ask("/page/compare", {"user_id": "tester", "count": 5})
    assert answer["decision"]["layers"][0]["slot"] is None


async def test_looking_exposes_nobody(served: Served) -> None:
    await served.ask("/page/compare", {"user_id": "tester", "count": 5})

    class Sink:
        def offer(self, *_: Any) -> bool:
            raise AssertionError("an exposure was written")

    log = Exposures(Sink(), on_exposure=lambda *_: None)  # type: ignore[arg-type]
    for call in served.ranker.asked:
        outcome = Outcome(call.request_id, 0, "ok", "mgnm", "1", 5, 5)
        assert log.record(call.decision, outcome) == 0
        assert [layer.forced for layer in call.decision.layers] == [True]
        assert call.decision.variant == "none"


async def test_items_that_the_user_met_are_no_candidates(served: Served) -> None:
    met = [f"i{index}" for index in range(1, 26)]
    served.store.users["u1"] = StoredBehaviours(behaviours(met))
    answer = await served.ask("/page/compare", {"user_id": "u1", "count": 500})
    assert sorted(answer["candidates"]) == ["i26", "i27", "i28", "i29", "i30"]


async def test_candidates_depend_on_the_seed_and_on_nothing_else(served: Served) -> None:
    async def drawn(seed: int) -> list[str]:
        return list((await served.ask("/page/compare", {"user_id": "u1", "seed": seed, "count": 10}))["candidates"])

    first = await drawn(7)
    assert await drawn(7) == first
    assert await drawn(8) != first
    assert len(set(first)) == 10


async def test_a_click_takes_one_candidate_away_and_leaves_the_others(served: Served) -> None:
    question = {"user_id": "u1", "seed": 7, "count": 10}
    before = (await served.ask("/page/compare", question))["candidates"]
    served.store.users["u1"] = StoredBehaviours(behaviours([before[3]]))
    after = (await served.ask("/page/compare", question))["candidates"]
    assert after[:9] == [*before[:3], *before[4:]]


async def test_new_items_that_are_asked_for_are_candidates_too(served: Served) -> None:
    asked = [*(f"new-{place}" for place in range(MAX_EXTRA - 1)), "i1"]
    answer = await served.ask("/page/compare", {"user_id": "u1", "count": 30, "extra": asked})
    assert answer["candidates"][30:] == asked[:-1]  # i1 is one of the thirty
    assert served.ranker.asked[0].item_ids == answer["candidates"]


def test_a_large_vocabulary_is_not_shuffled_as_a_whole() -> None:
    places = _shuffled(10_000_000, 3)
    assert len(places) == len(set(places)) > 16_000
    assert places == _shuffled(10_000_000, 3) != _shuffled(10_000_000, 4)


async def test_user_who_met_everything_gets_an_empty_comparison(served: Served) -> None:
    served.store.users["u1"] = StoredBehaviours(behaviours([f"i{index}" for index in range(1, 31)]))
    answer = await served.ask("/page/compare", {"user_id": "u1"})
    assert answer["candidates"] == []
    assert answer["rankings"] == []


async def test_model_that_fails_is_told_beside_the_one_that_works(served: Served) -> None:
    served.ranker.failing = "mgnm"
    answer = await served.ask("/page/compare", {"user_id": "u1", "count": 5})
    failed, works = answer["rankings"]
    assert failed["error"] == {"code": "inference_failed", "message": "The model failed on this request."}
    assert works["error"] is None
    assert len(works["items"]) == 5


async def test_ranking_without_explanation_is_shown(served: Served) -> None:
    served.ranker.unexplained = True
    ranking = (await served.ask("/page/compare", {"user_id": "u1", "count": 5}))["rankings"][0]
    assert (ranking["state_cached"], ranking["explanation"]) == (None, {})
    assert [item["why"] for item in ranking["items"]] == [{}] * 5


async def test_number_of_models_is_bounded(served: Served) -> None:
    served.bundles = served.bundles * MAX_MODELS
    assert len((await served.ask("/page/compare", {"user_id": "u1", "count": 5}))["rankings"]) == MAX_MODELS
