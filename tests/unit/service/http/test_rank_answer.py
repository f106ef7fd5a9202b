"""A ranking's answer has the schema's fields, and its items exactly as they are."""

from __future__ import annotations

import json

import numpy as np
import pytest

from contract.bundle.vocabulary import Vocabulary
from service.http import answers, rank_answer
from service.ranking.answer import Explanation, Ranking
from service.ranking.listed import Listed


def test_a_ranking_s_bytes_are_as_the_schema_says() -> None:
    ranking = Ranking(["b", "new"], [1.5, None], [True, False], "mgnm", "7", ("popularity",), {})
    parameters = {"model": "mgnm", "version": "7", "diversity": 0.5, "fresh": True, "many": 2**53}
    body = rank_answer.rank_body("r", ranking, parameters)
    assert json.loads(body)["parameters"] == parameters
    assert answers.RankResponse.model_validate_json(body, strict=True).version == "7"
    assert json.loads(body)["items"] == [
        {"item_id": "b", "score": 1.5},
        {"item_id": "new", "score": None, "known": False},
    ]


def test_an_item_s_id_is_never_read_as_a_format() -> None:
    ids = ["%b", "%%", '"\\', "100%", "%(x)s"]
    ranking = Ranking(ids, [1.5, -0.25, 1e-7, None, None], [True] * 3 + [False] * 2, "mgnm", "7", (), {})
    items = json.loads(rank_answer.rank_body("r", ranking, {}))["items"]
    assert [item["item_id"] for item in items] == ids
    assert [item["score"] for item in items] == ranking.scores
    assert [item.get("known", True) for item in items] == ranking.known


@pytest.mark.parametrize("ids", [[","], [",", "b"], ["b", ","], [",", ",,", '","'], [",a", "b,", "\n"]])
@pytest.mark.parametrize("is_listed", [True, False])
def test_an_id_may_be_what_json_has_between_two(ids: list[str], is_listed: bool) -> None:
    listed = Listed(Vocabulary(ids), np.arange(1, len(ids) + 1)) if is_listed else ids
    for is_mixed in (True, False):
        ranking = Ranking(listed, [0.5] * len(ids), [True] * len(ids), "mgnm", "7", (), {}, is_mixed=is_mixed)
        items = json.loads(rank_answer.rank_body("r", ranking, {}))["items"]
        assert [item["item_id"] for item in items] == ids


@pytest.mark.parametrize("indices", [[1], [2, 4], [3, 1, 4, 2]])
def test_an_answer_is_the_same_from_ids_and_from_indices(indices: list[int]) -> None:
    vocabulary = Vocabulary(['a"', "ü", "%b", "d"])
    listed = Listed(vocabulary, np.array(indices))
    scores: list[float | None] = [0.5 - index for index in indices]
    for item_ids in (listed, list(listed)):
        ranking = Ranking(item_ids, scores, [True] * len(indices), "mgnm", "7", (), {})
        items = json.loads(rank_answer.rank_body("r", ranking, {}))["items"]
        assert [item["item_id"] for item in items] == [vocabulary.ids[index - 1] for index in indices]
        assert [item["score"] for item in items] == scores


@pytest.mark.parametrize("known", [[], [True], [False], [True, False], [False, False]])
def test_a_list_is_answered_whatever_the_model_knows(known: list[bool]) -> None:
    scores = [0.5 if one else None for one in known]
    ranking = Ranking([f"i{place}" for place in range(len(known))], scores, known, "mgnm", "7", (), {})
    items = json.loads(rank_answer.rank_body("r", ranking, {}))["items"]
    assert [(item["item_id"], item["score"], item.get("known", True)) for item in items] == [
        *zip(ranking.item_ids, scores, known, strict=True)
    ]


def test_numbers_of_an_explanation_that_are_not_finite_become_null() -> None:
    """JSON has no NaN: a caller's parser would refuse the whole answer."""
    explanation = Explanation(
        read=0, recent=0, corrupt=0, used=0, truncated=0, unread_behaviours=0, unknown_behaviours=0,
        unknown_candidates=0, state_cached=False, user={"period_weights": [float("nan"), 0.5]},
        items={"level": [float("inf"), float("-inf")]},
    )  # fmt: skip
    ranking = Ranking(["b", "c"], [1.5, 1.0], [True, True], "mgnm", "7", (), {}, explanation)
    body = rank_answer.rank_body("r", ranking, {})
    said = json.loads(body, parse_constant=pytest.fail)["explanation"]
    assert (said["user"], said["items"]) == ({"period_weights": [None, 0.5]}, {"level": [None, None]})
    assert answers.RankResponse.model_validate_json(body, strict=True).explanation is not None


def test_server_timing_is_in_milliseconds() -> None:
    assert rank_answer.server_timing({"store": 0.0006, "total": 0.0029}) == b"store;dur=0.600, total;dur=2.900"
