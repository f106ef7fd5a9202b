"""A JSON body to a validated model; a refusal names its field.

Refusing must never cost more than serving: lists stop at their first bad element, an object with more fields than
names is not checked further, and nothing that a client sent is returned except a shortened field name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeVar

import orjson
from pydantic import ValidationError

from contract.behaviours import grammar
from contract.bundle.context import MAX_TEXT
from service.errors import MAX_DETAILS, Detail, InvalidRequest, Malformed, TooLarge
from service.http import requests

Document = dict[str, Any]  # Any: JSON
Model = TypeVar("Model", bound=requests.Request)

ID_RULE: Final = f"must be {grammar.ID_RULE}"
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
_UNIONS: Final[dict[tuple[int | str, ...], str]] = {
    ("attributes",): "must be a string of at most 128 characters, a number or a boolean",
    ("context",): f"must be a string of at most {MAX_TEXT} characters or a whole number",
}
"""Fields whose entries may have several types, and the rule for an entry."""


def parse(body: bytes) -> Document:
    """Parse a body: NaN, infinities, a byte order mark, bad UTF-8 and 1,024 levels of nesting are not JSON here."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Malformed from error
    if not isinstance(document, dict):
        raise InvalidRequest("The body must be a JSON object.")
    return document


def bound_list(document: Document, name: str, limit: int) -> None:
    """Refuse a list of more elements than the limit."""
    values = document.get(name)
    if isinstance(values, list) and len(values) > limit:
        raise TooLarge(f"must have at most {limit} elements", field=name)


def bound_fields(document: Document, name: str, known: frozenset[str]) -> None:
    """Refuse an element with more fields than names, before each surplus field makes an error."""
    values = document.get(name)
    if not isinstance(values, list):
        return
    for number, value in enumerate(values):
        if isinstance(value, dict) and len(value) > len(known):
            unknown = next(key for key in value if key not in known)
            raise InvalidRequest(_MESSAGES["extra_forbidden"], field=f"{name}.{number}.{unknown}")


def validated(model: type[Model], document: Document) -> Model:
    """Return a document as its model; the refusal names the first fields that cannot be used."""
    if len(document) > len(model.model_fields):
        unknown = next(key for key in document if key not in model.model_fields)
        raise InvalidRequest(_MESSAGES["extra_forbidden"], field=unknown)
    try:
        return model.model_validate(document)
    except ValidationError as error:
        details = _details(error, _places(document.get("features")))
        raise InvalidRequest(
            details[0].message, field=details[0].field, details=details if len(details) > 1 else ()
        ) from error


def _places(features: object) -> Mapping[int | str, int]:
    """Return the place of each item among the features of a ranking: an error does not repeat ids of items."""
    return {item: place for place, item in enumerate(features)} if isinstance(features, dict) else {}


def _details(error: ValidationError, places: Mapping[int | str, int]) -> list[Detail]:
    """Return the first problems, each field once: a union reports every member that did not fit."""
    found: dict[str, str] = {}
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        whole = _without_tag(problem["loc"])
        if whole[:1] == ("features",):
            whole = ("features", *(places.get(part, part) for part in whole[1:2]), *whole[2:])
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
