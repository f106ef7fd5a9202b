"""A model by the name in a recipe: one of the catalogue, an installed entry point, or the path of a class.

| `model` in the recipe | Found in | Name of its runs and bundles |
| --- | --- | --- |
| `sasrec` | models/catalog.py | `sasrec` |
| `my_models:NewestClicks` | the class of that module | `newest_clicks` |
| `newest` | an installed package's entry point of the group `ranker.models` | `newest` |

Finding a class imports its module, so it runs that module's code: a recipe or run of someone else may name any module
that this Python can import.
"""

from __future__ import annotations

import re
from dataclasses import is_dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final, NamedTuple

from contract.command_line import one_line
from models.base import SequentialRecommender
from models.catalog import MODELS, ModelEntry

GROUP: Final = "ranker.models"
_PATH: Final = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*)", re.ASCII)
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,47}", re.ASCII)  # that of a bundle's model
_WORDS: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


class Found(NamedTuple):
    """A model.

    Attributes:
        name: of its runs and bundles, in tables and cards.
        entry: its constructor and the type of its config.
    """

    name: str
    entry: ModelEntry


def find_model(model: str) -> Found:
    """Return the model that a recipe names.

    Raises:
        ValueError: no such model, or the class is not a model; the message names the reason.
    """
    if model in MODELS:
        return Found(model, MODELS[model])
    if ":" in model:
        path = _PATH.fullmatch(model)
        if path is None:
            raise ValueError(f"{model[:100]!r} is not the path of a class, such as my_package.my_module:MyModel")
        return Found(_name_of(path[2]), _entry(model, _imported(model, *path.groups())))
    return _installed(model)


def _installed(model: str) -> Found:
    points = [point for point in entry_points(group=GROUP) if point.name == model]
    if not points or not _NAME.fullmatch(model):
        names = [*MODELS, *sorted({point.name for point in entry_points(group=GROUP)} - set(MODELS))]
        raise ValueError(f"no model {model[:100]!r}; there are {', '.join(names)}, and module:Class for your own")
    if len({point.value for point in points}) > 1:
        raise ValueError(f"{model}: several installed packages have this model: {', '.join(map(_source, points))}")
    return Found(model, _entry(model, _imported(model, *points[0].value.partition(":")[::2])))


def _source(point: EntryPoint) -> str:
    return f"{point.dist.name if point.dist else 'unknown'} ({point.value})"


def _imported(model: str, module: str, attribute: str) -> Any:  # Any: the object may be of any type
    try:
        found = import_module(module)
    except Exception as error:  # the code of someone else, which may raise any error
        cause = one_line(f"{type(error).__name__}: {error}")[:300]
        raise ValueError(f"{model}: cannot import {module}: {cause}") from error
    if not hasattr(found, attribute):
        raise ValueError(f"{model}: {module} ({found.__file__}) has no {attribute or 'class'}")
    return getattr(found, attribute)


def _entry(model: str, found: Any) -> ModelEntry:
    """Return the entry of a class, after checks that a training would fail without, late and without a reason."""
    if not (isinstance(found, type) and issubclass(found, SequentialRecommender)):
        raise ValueError(f"{model}: not a subclass of models.base.SequentialRecommender")
    for method in ("encode", "score"):
        if getattr(found, method) is getattr(SequentialRecommender, method):
            raise ValueError(f"{model}: has no {method}")
    if not hasattr(found, "serving_class"):
        raise ValueError(f"{model}: set serving_class, the cost of a candidate: A to E (models/base.py)")
    config = found.config_class
    if config is None:
        raise ValueError(f"{model}: set config_class, a frozen dataclass with the fields of [config]")
    if not (isinstance(config, type) and is_dataclass(config)):
        raise ValueError(f"{model}: config_class is not a dataclass")
    return ModelEntry(found, config)


def _name_of(name: str) -> str:
    """Return the name of a class in small letters, words joined by `_`."""
    words = _WORDS.sub("_", name).lower().strip("_")
    if not _NAME.fullmatch(words):
        raise ValueError(f"{name}: its name in small letters, {words!r}, is longer than 48 or starts with no letter")
    if words in MODELS:
        raise ValueError(f"{name}: the catalogue has a model {words!r}: rename the class")
    return words
