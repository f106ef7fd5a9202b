"""Does a dashboard fit the types of the SDK's models, which are generated from Grafana's published schema?"""

from __future__ import annotations

import enum
import re
import types
import typing
from typing import Any

from grafana_foundation_sdk.models import dashboard, prometheus, stat, timeseries

# Parts that the schema of a dashboard leaves open, since each kind of panel and source has a schema of its own.
OPTIONS = {"timeseries": timeseries.Options, "stat": stat.Options}
CUSTOM = {"timeseries": timeseries.FieldConfig}


def misfits(model: Any, value: Any, place: str = "$") -> list[str]:
    """Return the places of a document that a type does not allow: other types, unknown names, unknown choices."""
    if value is None or model is Any or model is object:
        return []
    origin = typing.get_origin(model)
    if origin in {typing.Union, types.UnionType}:
        tried = [misfits(one, value, place) for one in _alternatives(model, value)]
        return min(tried, key=len)
    if origin is list:
        return _of_list(typing.get_args(model)[0], value, place)
    if origin is dict:
        return [] if isinstance(value, dict) else [place]
    if origin is typing.Literal:
        return [] if value in typing.get_args(model) else [place]
    if isinstance(model, type) and issubclass(model, enum.Enum):
        return [] if value in {one.value for one in model} else [place]
    if model in {str, int, float, bool}:
        return [] if _is(model, value) else [place]
    return _of_object(model, value, place)


def _alternatives(model: Any, value: Any) -> list[Any]:
    """Return the types of a union; of the panels, the one that the document names."""
    found = [one for one in typing.get_args(model) if one is not type(None)]
    if dashboard.RowPanel in found and isinstance(value, dict):
        return [dashboard.RowPanel if value.get("type") == "row" else dashboard.Panel]
    return found


def _is(model: type, value: Any) -> bool:
    if model is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is model


def _of_list(model: Any, value: Any, place: str) -> list[str]:
    if not isinstance(value, list):
        return [place]
    return [misfit for number, one in enumerate(value) for misfit in misfits(model, one, f"{place}[{number}]")]


def _of_object(model: Any, value: Any, place: str) -> list[str]:
    if not isinstance(value, dict):
        return [place]
    if not typing.get_type_hints(model):  # an interface: of a query, which has a schema of its own
        model = prometheus.Dataquery
    hints = typing.get_type_hints(model)
    found: list[str] = []
    for name, one in value.items():
        attribute = _attribute(name, hints)
        inside = f"{place}.{name}"
        found += [inside] if attribute is None else misfits(hints[attribute], one, inside)
    return found + (_of_panel(value, place) if model is dashboard.Panel else [])


def _of_panel(panel: dict[str, Any], place: str) -> list[str]:
    kind = panel["type"]
    custom = panel["fieldConfig"]["defaults"].get("custom")
    options = misfits(OPTIONS[kind], panel["options"], f"{place}.options")
    return options + (misfits(CUSTOM[kind], custom, f"{place}.custom") if custom is not None else [])


def _attribute(name: str, hints: dict[str, Any]) -> str | None:
    """Return the attribute of a name in JSON: `gridPos` is `grid_pos`, and `type`, a word of Python, is `type_val`."""
    snake = re.sub(r"(?<=[a-z0-9])([A-Z])", lambda found: f"_{found[1].lower()}", name)
    return next((one for one in (snake, f"{snake}_val") if one in hints), None)
