"""Raw features of items in a body: refused at the first value that cannot be one.

pydantic would describe every bad value of a large body, several times each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from contract.bundle.item_features import MAX_FEATURES, MAX_TEXT, MAX_VALUES
from service.errors import InvalidRequest

_MAX_NAME: Final = 64
_RULE: Final = f"must be a text of at most {MAX_TEXT} characters, a number, or a list of at most {MAX_VALUES} of them"


def check_item_features(features: object, place: str) -> None:
    """Check the features of one item.

    Args:
        features: as decoded from JSON.
        place: of the item in the body, for the error.

    Raises:
        InvalidRequest: not an object, too many features, or a name or value that cannot be one.
    """
    if not isinstance(features, Mapping) or len(features) > MAX_FEATURES:
        raise InvalidRequest(f"must be an object with at most {MAX_FEATURES} features", field=place)
    for name, value in features.items():
        if not 1 <= len(name) <= _MAX_NAME:
            raise InvalidRequest(f"the name of a feature must have 1 to {_MAX_NAME} characters", field=place)
        values = value if isinstance(value, list) else [value]
        plain = len(values) <= MAX_VALUES and all(map(_is_plain, values))
        if not plain or (isinstance(value, list) and any(isinstance(one, float) for one in value)):
            raise InvalidRequest(_RULE, field=f"{place}.{name}")


def _is_plain(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= MAX_TEXT
    return isinstance(value, int | float) and not isinstance(value, bool)
