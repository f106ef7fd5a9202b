"""From the body of each route to validated values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from contract.behaviours import grammar
from contract.behaviours.grammar import is_id, is_text
from contract.bundle.context import MAX_OFFSET, MAX_TOLD, MIN_OFFSET, OFFSET
from contract.events.activity import missing_field
from service.errors import InvalidRequest, TooLarge, UnsupportedMedia
from service.experiments.feedback import Taken
from service.http import answers, requests
from service.http.documents import ID_RULE, bound_fields, bound_list, parse, validated
from service.http.item_features import check_item_features
from service.http.media import is_json
from service.http.sizes import bound_values, most_of_events
from service.settings.limits import LimitsSettings

_TEXT_RULE: Final = f"must be 1 to {grammar.MAX_ID_BYTES} bytes of UTF-8 without control characters"
_OFFSET_RULE: Final = f"must be a whole number of minutes from {MIN_OFFSET} to {MAX_OFFSET}"
_RECENT_FIELDS: Final = frozenset(requests.Behaviour.__annotations__)
_ITEM_FIELDS: Final = frozenset(requests.Item.model_fields)
_BEHAVIOUR_FIELDS: Final = frozenset(requests.UserBehaviour.__annotations__)
_FEEDBACK_FIELDS: Final = frozenset(requests.Feedback.__annotations__) | frozenset(
    requests.ActivityEvent.__annotations__
)
_FEEDBACK_IDS: Final = ("user_id", "item_id", "event_id", "author_id", "device_id", "view_id")


def check_media(content_type: str | None, content_encoding: str | None) -> None:
    """Refuse a body that is not plain JSON in UTF-8.

    Raises:
        UnsupportedMedia: it is not.
    """
    if content_type is None or not is_json(content_type):
        raise UnsupportedMedia(field="Content-Type")
    if content_encoding is not None and content_encoding.strip().lower() != "identity":
        raise UnsupportedMedia(field="Content-Encoding")


def parse_rank(body: bytes, limits: LimitsSettings) -> requests.RankRequest:
    """Return a valid ranking request.

    Raises:
        Malformed: not JSON.
        TooLarge: more candidates or recent behaviours than are allowed.
        InvalidRequest: a field cannot be used; it is named.
    """
    document = parse(body)
    bound_list(document, "candidates", limits.max_candidates)
    bound_list(document, "recent", limits.max_recent)
    bound_fields(document, "recent", _RECENT_FIELDS)
    attributes = document.get("attributes")
    if isinstance(attributes, dict) and len(attributes) > requests.MAX_ATTRIBUTES:
        raise InvalidRequest(f"must have at most {requests.MAX_ATTRIBUTES} entries", field="attributes")
    told = document.get("context")
    if isinstance(told, dict) and len(told) > MAX_TOLD:
        raise InvalidRequest(f"must have at most {MAX_TOLD} entries", field="context")
    features = document.get("features")
    if isinstance(features, dict) and len(features) > limits.max_candidates:
        raise TooLarge(f"must have at most {limits.max_candidates} entries", field="features")
    for place, found in enumerate(features.values() if isinstance(features, dict) else ()):
        check_item_features(found, f"features.{place}")
    request = validated(requests.RankRequest, document)
    check_ids((request.user_id,), "user_id")
    check_ids(request.candidates, "candidates.{}")
    check_ids([behaviour["item_id"] for behaviour in request.recent], "recent.{}.item_id")
    if not is_context(request.context):
        raise InvalidRequest(_OFFSET_RULE, field=f"context.{OFFSET}")
    _check_texts(request.attributes, "attributes")
    _check_texts([value for value in request.attributes.values() if isinstance(value, str) and value], "attributes")
    return request


def is_context(told: Mapping[str, str | int]) -> bool:
    """Return whether a context, whose types and lengths have been checked, has an offset that can be."""
    offset = told.get(OFFSET, 0)
    return isinstance(offset, int) and MIN_OFFSET <= offset <= MAX_OFFSET


def parse_items(body: bytes, limits: LimitsSettings) -> list[requests.Item]:
    """Return valid features of items.

    Raises:
        Malformed, TooLarge, InvalidRequest: as parse_rank.
    """
    document = parse(body)
    bound_list(document, "items", limits.max_behaviours)
    bound_fields(document, "items", _ITEM_FIELDS)
    listed = document.get("items")
    for place, item in enumerate(listed if isinstance(listed, list) else ()):
        if isinstance(item, dict) and "features" in item:
            check_item_features(item["features"], f"items.{place}.features")
    items = validated(requests.ItemsRequest, document).items
    check_ids([item.item_id for item in items], "items.{}.item_id")
    return items


def parse_behaviours(body: bytes, limits: LimitsSettings) -> list[requests.UserBehaviour]:
    """Return valid behaviours to be stored.

    Raises:
        Malformed, TooLarge, InvalidRequest: as parse_rank.
    """
    bound_values(body, most_of_events(limits))
    document = parse(body)
    bound_list(document, "behaviours", limits.max_behaviours)
    bound_fields(document, "behaviours", _BEHAVIOUR_FIELDS)
    behaviours = validated(requests.BehavioursRequest, document).behaviours
    check_ids([behaviour["user_id"] for behaviour in behaviours], "behaviours.{}.user_id")
    check_ids([behaviour["item_id"] for behaviour in behaviours], "behaviours.{}.item_id")
    return behaviours


def parse_feedback(body: bytes, limits: LimitsSettings) -> list[requests.AnyFeedback]:
    """Return valid activity.

    Raises:
        Malformed, TooLarge, InvalidRequest: as parse_rank.
    """
    bound_values(body, most_of_events(limits))
    document = parse(body)
    bound_list(document, "feedback", limits.max_behaviours)
    bound_fields(document, "feedback", _FEEDBACK_FIELDS)
    feedback = validated(requests.FeedbackRequest, document).feedback
    for field in _FEEDBACK_IDS:
        _check_feedback_ids(feedback, field)
    _check_texts([event["request_id"] for event in feedback if "request_id" in event], "feedback")
    for number, event in enumerate(feedback):
        if "type" in event and (missing := missing_field(event)) is not None:
            raise InvalidRequest(missing[1], field=f"feedback.{number}.{missing[0]}")
    return feedback


def wants_receipt(parameters: Iterable[tuple[str, str]]) -> bool:
    """Return whether a caller of /feedback waits until the events are in Redis: `ack=stored`.

    Raises:
        InvalidRequest: `ack` has another value, or is there twice.
    """
    given = [value for name, value in parameters if name == "ack"]
    if len(given) > 1 or not set(given) <= {"accepted", "stored"}:
        raise InvalidRequest("must be accepted or stored, once", field="ack")
    return given == ["stored"]


def feedback_answer(results: Sequence[Taken], *, has_types: bool) -> answers.FeedbackResponse:
    """Return the answer to events from the result of each; without types it is that of version 1."""
    refusals = []
    place = 0
    for result, group in groupby(results):
        count = len(list(group))
        if result == "future" or result == "full":
            refusals.append(answers.FeedbackRefusal(index=place, count=count, reason=result))
        place += count
    counts = Counter(results)
    return answers.FeedbackResponse(
        accepted=counts[""] + counts["clamped"],
        dropped=counts["full"],
        refused=counts["future"],
        clamped=counts["clamped"] if has_types else None,
        refusals=refusals,
    )


def check_ids(identifiers: Sequence[str], place: str) -> None:
    """Refuse ids outside the grammar. Fast path: one pass when all ids are valid.

    Args:
        identifiers: each already 1 to 128 characters.
        place: the field's name, with `{}` for the number of the id.

    Raises:
        InvalidRequest: one is outside; it is named.
    """
    if grammar.are_ids(identifiers):
        return
    for number, identifier in enumerate(identifiers):
        if not is_id(identifier):
            raise InvalidRequest(ID_RULE, field=place.format(number))


def _check_feedback_ids(feedback: Sequence[Mapping[str, Any]], field: str) -> None:
    """Refuse an id outside the grammar in a field that not all events have; Any: validated."""
    if not grammar.are_ids([event[field] for event in feedback if field in event]):
        for number, event in enumerate(feedback):
            if not is_id(event.get(field, "-")):
                raise InvalidRequest(ID_RULE, field=f"feedback.{number}.{field}")


def _check_texts(texts: Iterable[str], field: str) -> None:
    for text in texts:
        if not is_text(text):
            raise InvalidRequest(_TEXT_RULE, field=field)
