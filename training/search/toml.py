"""A recipe as TOML, the form that people read and `train` takes; only what differs from the defaults."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from training.recipe import Recipe

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")


def recipe_toml(recipe: Recipe, comment: str) -> str:
    """Return the text of a recipe file.

    Args:
        recipe: any.
        comment: lines for its beginning.
    """
    lines = [f"# {line}".rstrip() for line in comment.splitlines()]
    document = recipe.model_dump(mode="json", exclude_defaults=True)
    return "\n".join([*lines, *_table(document, "")]) + "\n"


def _table(table: Mapping[str, Any], path: str) -> Iterator[str]:  # Any: JSON
    """Yield the lines of a table: its values first, then the tables in it."""
    inner = {name: value for name, value in table.items() if isinstance(value, dict)}
    for name, value in table.items():
        if name not in inner and value is not None:
            yield f"{_key(name)} = {_value(value)}"
    for name, value in inner.items():
        below = f"{path}.{_key(name)}" if path else _key(name)
        yield from ("", f"[{below}]", *_table(value, below))


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else json.dumps(name, ensure_ascii=False)


def _value(value: Any) -> str:  # Any: JSON
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{_key(name)} = {_value(one)}' for name, one in value.items())} }}"
    return json.dumps(value, ensure_ascii=False)  # bool, number and text are written alike
