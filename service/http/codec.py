"""From a body to validated values and on to records.

Refusing must never cost more than serving: lists stop at their first bad element, an object with more fields than
names is not checked further, and nothing that a client sent is returned except a shortened field name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, Final, TypeVar

import numpy as np
import orjson
from pydantic import ValidationError

from contract.behaviours import grammar
from contract.behaviours.actions import ACTION_CODES, ACTIONS, DEFAULT_ACTION
from contract.behaviours.grammar import is_id, is_text
from contract.behaviours.records import Records, item_keys, records_from_columns
from contract.bundle.context import MAX_OFFSET, MAX_TEXT, MAX_TOLD, MIN_OFFSET, OFFSET
from contract.bundle.vocabulary import Vocabulary
from contract.events.activity import missing_field
from service.errors import MAX_DETAILS, Detail, InvalidRequest, Malformed, TooLarge, UnsupportedMedia
from service.experiments.feedback import Taken
from service.http import answers, requests
from service.http.item_features import check_item_features
from service.http.media import is_json
from service.settings.limits import LimitsSettings
from service.store.behaviours import StoredBehaviours

Document = dict[str, Any]  # Any: JSON
Model = TypeVar("Model", bound=requests.Request)

_DEFAULT_CODE: Final = ACTION_CODES[DEFAULT_ACTION]
ID_RULE: Final = f"must be {grammar.ID_RULE}"
_TEXT_RULE: Final = f"must be 1 to {grammar.MAX_ID_BYTES} bytes of UTF-8 without control characters"
_TIME_FIELDS: Final = frozenset({"ts", "request_time"})
_TIME_MESSAGES: Final = {"greater_than_equal": grammar.SECONDS_HINT, "less_than": grammar.LATE_HINT}
_MESSAGES: Final = {
    "extra_forbidden": "is not a known field",
    "missing": "is required",
    "string_type": "must be a string",
    "int_type": "must be an integer",
    "int_from_float": "must be an integer",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "list_type": "must be an array",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "string_too_short": ID_RULE,
    "string_too_long": ID_RULE,
    "too_short": "must not be empty",
}
_OFFSET_RULE: Final = f"must be a whole number of minutes from {MIN_OFFSET} to {MAX_OFFSET}"
_UNIONS: Final[dict[tuple[int | str, ...], str]] = {
    ("attributes",): "must be a string of at most 128 characters, a number or a boolean",
    ("context",): f"must be a string of at most {MAX_TEXT} characters or a whole number",
}
"""Fields whose entries may have several types, and the rule for an entry."""
_SHOWN: Final = 64  # characters of an id in an error
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
    document = _document(body)
    _bound_list(document, "candidates", limits.max_candidates)
    _bound_list(document, "recent", limits.max_recent)
    _bound_fields(document, "recent", _RECENT_FIELDS)
    attributes = document.get("attributes")
    if isinstance(attributes, dict) and len(attributes) > requests.MAX_ATTRIBUTES:
        raise InvalidRequest(f"must have at most {requests.MAX_ATTRIBUTES} entries", field="attributes")
    told = document.get("context")
    if isinstance(told, dict) and len(told) > MAX_TOLD:
        raise InvalidRequest(f"must have at most {MAX_TOLD} entries", field="context")
    features = document.get("features")
    if isinstance(features, dict) and len(features) > limits.max_candidates:
        raise TooLarge(f"must have at most {limits.max_candidates} entries", field="features")
    for item, found in features.items() if isinstance(features, dict) else ():
        check_item_features(found, f"features.{item[:_SHOWN]}")
    request = _validated(requests.RankRequest, document)
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
    document = _document(body)
    _bound_list(document, "items", limits.max_behaviours)
    _bound_fields(document, "items", _ITEM_FIELDS)
    listed = document.get("items")
    for place, item in enumerate(listed if isinstance(listed, list) else ()):
        if isinstance(item, dict) and "features" in item:
            check_item_features(item["features"], f"items.{place}.features")
    items = _validated(requests.ItemsRequest, document).items
    check_ids([item.item_id for item in items], "items.{}.item_id")
    return items


def parse_behaviours(body: bytes, limits: LimitsSettings) -> list[requests.UserBehaviour]:
    """Return valid behaviours to be stored.

    Raises:
        Malformed, TooLarge, InvalidRequest: as parse_rank.
    """
    document = _document(body)
    _bound_list(document, "behaviours", limits.max_behaviours)
    _bound_fields(document, "behaviours", _BEHAVIOUR_FIELDS)
    behaviours = _validated(requests.BehavioursRequest, document).behaviours
    check_ids([behaviour["user_id"] for behaviour in behaviours], "behaviours.{}.user_id")
    check_ids([behaviour["item_id"] for behaviour in behaviours], "behaviours.{}.item_id")
    return behaviours


def parse_feedback(body: bytes, limits: LimitsSettings) -> list[requests.AnyFeedback]:
    """Return valid activity.

    Raises:
        Malformed, TooLarge, InvalidRequest: as parse_rank.
    """
    document = _document(body)
    _bound_list(document, "feedback", limits.max_behaviours)
    _bound_fields(document, "feedback", _FEEDBACK_FIELDS)
    feedback = _validated(requests.FeedbackRequest, document).feedback
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


def records_of(behaviours: Sequence[Mapping[str, Any]]) -> Records:
    """Return the records of behaviours, in their order; Any: validated as requests.Behaviour."""
    if not behaviours:
        return _NOTHING
    return records_from_columns(
        item_keys([behaviour["item_id"] for behaviour in behaviours]),
        np.array([behaviour["ts"] for behaviour in behaviours], dtype=np.int64),
        np.array([_code(behaviour) for behaviour in behaviours], dtype=np.uint8),
        np.array([behaviour.get("play_ms", 0) for behaviour in behaviours], dtype=np.int64),
        np.array([behaviour.get("value", 0) for behaviour in behaviours], dtype=np.float64),
    )


def records_by_user(behaviours: Sequence[requests.UserBehaviour]) -> dict[str, tuple[list[int], Records]]:
    """Group behaviours by user: their positions in the request and their records, in request order."""
    records = records_of(behaviours)
    places: dict[str, list[int]] = {}
    for place, behaviour in enumerate(behaviours):
        places.setdefault(behaviour["user_id"], []).append(place)
    return {user_id: (own, records[own]) for user_id, own in places.items()}


def stored_body(user_id: str, stored: StoredBehaviours, vocabularies: Sequence[Vocabulary]) -> bytes:
    """Return a user's stored behaviours, as answers.StoredBehavioursResponse describes them."""
    records = stored.records[::-1]
    names: list[str | None] = [None] * len(records)
    for vocabulary in vocabularies:
        indices = vocabulary.indices_of_keys(records["item"]).tolist()
        names = [vocabulary.ids[index - 1] if index else name for index, name in zip(indices, names, strict=True)]
    behaviours = [
        {
            "item_key": f"{key:016x}", "item_id": name, "ts": ts, "action": ACTIONS[action - 1],
            "play_ms": play_ms, "value": value / 10,
        }
        for name, (key, ts, play_ms, action, value, _) in zip(names, records.tolist(), strict=True)
    ]  # fmt: skip
    return orjson.dumps({
        "user_id": user_id, "status": stored.status, "corrupt": stored.corrupt, "truncated": stored.truncated,
        "behaviours": behaviours,
    })  # fmt: skip


_NOTHING: Final = records_from_columns(
    np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.uint8),
    np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float64),
)  # fmt: skip


def _code(behaviour: Mapping[str, Any]) -> int:
    action = behaviour.get("action")
    return _DEFAULT_CODE if action is None else ACTION_CODES[action]


def _document(body: bytes) -> Document:
    """Parse a body: NaN, infinities, a byte order mark, bad UTF-8 and 1,024 levels of nesting are not JSON here."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Malformed from error
    if not isinstance(document, dict):
        raise InvalidRequest("The body must be a JSON object.")
    return document


def _bound_list(document: Document, name: str, limit: int) -> None:
    values = document.get(name)
    if isinstance(values, list) and len(values) > limit:
        raise TooLarge(f"must have at most {limit} elements", field=name)


def _bound_fields(document: Document, name: str, known: frozenset[str]) -> None:
    """Refuse an element with more fields than names, before each surplus field makes an error."""
    values = document.get(name)
    if not isinstance(values, list):
        return
    for number, value in enumerate(values):
        if isinstance(value, dict) and len(value) > len(known):
            unknown = next(key for key in value if key not in known)
            raise InvalidRequest(_MESSAGES["extra_forbidden"], field=f"{name}.{number}.{unknown}")


def _validated(model: type[Model], document: Document) -> Model:
    if len(document) > len(model.model_fields):
        unknown = next(key for key in document if key not in model.model_fields)
        raise InvalidRequest(_MESSAGES["extra_forbidden"], field=unknown)
    try:
        return model.model_validate(document)
    except ValidationError as error:
        details = _details(error)
        raise InvalidRequest(
            details[0].message, field=details[0].field, details=details if len(details) > 1 else ()
        ) from error


def _details(error: ValidationError) -> list[Detail]:
    """Return the first problems, each field once: a union reports every member that did not fit."""
    found: dict[str, str] = {}
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        whole = _without_tag(problem["loc"])
        place = whole[:2] if whole[:1] in _UNIONS else whole
        message = _MESSAGES.get(problem["type"]) or problem["msg"].replace("Input should be", "must be", 1)
        if place and place[-1] in _TIME_FIELDS:
            message = _TIME_MESSAGES.get(problem["type"], message)
        if len(place) < len(whole):
            message = _UNIONS[whole[:1]]
        found.setdefault(".".join(str(part) for part in place), message)
    return [Detail(field, message) for field, message in found.items()][:MAX_DETAILS]


def _without_tag(place: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """Return the place of a problem without the name that pydantic gives to one of two kinds of events."""
    return (*place[:2], *place[3:]) if place[:1] == ("feedback",) else place
