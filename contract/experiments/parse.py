"""From a parsed document to a valid experiment file and its digest.

The digest of a file is that of its canonical JSON (keys sorted, no spaces, UTF-8, times as YYYY-MM-DDTHH:MM:SSZ), so
the same experiments in YAML and in JSON have one digest, and every exposure can be traced to the file in force.
"""

from __future__ import annotations

import hashlib
import json
import math
from datetime import datetime
from typing import Final

from pydantic import ValidationError

from contract.experiments.definition import ExperimentsConfig, Overrides
from contract.experiments.fields import TIME_FORMAT
from contract.experiments.problems import ExperimentsError, Place, Problem

MAX_FILE_BYTES: Final = 1_048_576


def canonical_json(document: object) -> bytes:
    """Return the canonical JSON of a parsed experiment file.

    Raises:
        ExperimentsError: it contains something that JSON cannot express (NaN, a key that is not text, a foreign type).
    """
    try:
        text = json.dumps(_plain(document), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode()
    except ExperimentsError:
        raise
    except (TypeError, ValueError, RecursionError) as error:
        raise ExperimentsError([f"not plain data ({error})"]) from error


def digest_of_canonical(content: bytes) -> str:
    """Return the config digest: the first 12 hex digits of the SHA-256 of canonical JSON."""
    return hashlib.sha256(content).hexdigest()[:12]


def parse_experiments(document: object) -> tuple[ExperimentsConfig, str]:
    """Validate a parsed experiment file; return its config and its digest.

    Raises:
        ExperimentsError: a rule is broken; the problems name field and rule.
    """
    content = canonical_json(document)
    if len(content) > MAX_FILE_BYTES:
        raise ExperimentsError([f"larger than {MAX_FILE_BYTES} bytes"])
    try:
        config = ExperimentsConfig.model_validate_json(content)
    except ValidationError as error:
        raise ExperimentsError(_problems(error)) from error
    return config, digest_of_canonical(content)


def _plain(node: object, place: Place = ()) -> object:
    """Return the node with text keys only and times as text, as JSON has them."""
    if isinstance(node, dict):
        if any(isinstance(key, bool) or not isinstance(key, str | int) for key in node):
            raise TypeError("a key is not text")
        return {str(key): _plain(value, (*place, str(key))) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_plain(value, (*place, number)) for number, value in enumerate(node)]
    if isinstance(node, float) and not math.isfinite(node):
        named = _shown(place) or "the file"
        raise ExperimentsError([Problem(f"not plain data: {named} is not a finite number", place)])
    if isinstance(node, datetime):
        # A time of another zone, or of none, keeps its own form, which the field then refuses.
        return node.strftime(TIME_FORMAT) if node.tzinfo is not None and not node.utcoffset() else node.isoformat()
    return node


def _shown(place: Place) -> str:
    """Return a place in words. It never has a unit of the overrides: problems are logged, and a unit is a user."""
    known = 2 if place[1:2] and place[1] in Overrides.model_fields else 1
    return ".".join(map(str, place[:known] if place[:1] == ("overrides",) else place))


def _problems(error: ValidationError) -> list[Problem]:
    found = []
    for detail in error.errors(include_url=False, include_context=False, include_input=False):
        place = _shown(detail["loc"])
        message = detail["msg"].removeprefix("Value error, ")
        found.append(Problem(f"{place}: {message}" if place else message, detail["loc"]))
    return found
