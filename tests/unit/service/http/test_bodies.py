"""The wire's closed lists are those of the code behind it."""

from __future__ import annotations

from typing import get_args

import pytest
from pydantic import ValidationError

from contract.behaviours.actions import ACTIONS
from service.http import answers, requests
from service.names import Degraded
from service.ranking.answer import Explanation
from service.settings.limits import LimitsSettings


def literal_of(model: type[answers.Answer], field: str) -> tuple[str, ...]:
    annotation = model.model_fields[field].annotation
    inner = get_args(annotation)[0]
    return get_args(inner) or get_args(annotation)


def test_every_reason_of_the_ranker_is_on_the_wire() -> None:
    assert set(literal_of(answers.RankResponse, "degraded")) == set(get_args(Degraded))


def test_every_action_of_the_stored_format_is_on_the_wire() -> None:
    properties = requests.BehavioursRequest.model_json_schema()["$defs"]["UserBehaviour"]["properties"]
    assert properties["action"]["enum"] == list(ACTIONS)


def test_the_explanation_on_the_wire_is_the_rankers() -> None:
    assert set(answers.Explanation.model_fields) == set(Explanation.__dataclass_fields__)


def test_requests_are_strict_and_closed() -> None:
    for model in (requests.RankRequest, requests.BehavioursRequest, requests.FeedbackRequest):
        assert model.model_config["strict"]
        assert model.model_json_schema()["additionalProperties"] is False
        with pytest.raises(ValidationError):
            model.model_validate({"surplus": 1})


def test_what_the_schema_says_of_limits_are_their_defaults() -> None:
    limits = LimitsSettings()
    said = {name: field.description or "" for name, field in requests.RankRequest.model_fields.items()}
    assert f"{limits.max_candidates:,}" in said["candidates"]
    assert f"{limits.max_recent:,}" in said["recent"]
    assert f"{limits.max_behaviours:,}" in (requests.BehavioursRequest.model_fields["behaviours"].description or "")
