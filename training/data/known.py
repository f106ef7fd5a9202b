"""Vocabularies of an earlier preparation, to append to: an index keeps its meaning from day to day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Final

from contract.bundle.vocabulary import Vocabulary
from contract.files import BadFileError, read_object
from training.data.attributes import ATTRIBUTES_FILE, read_attributes
from training.data.datasets.interactions import DataError
from training.data.item_field import Names


@dataclass(frozen=True)
class Known:
    """Names in the order of their indices, from 1; all empty at the first preparation.

    Attributes:
        users, items: public ids.
        features: names of the values, by field.
        digest: of all of them; empty if nothing is known.
        edges: of the buckets of numbers, by field.
        attributes: texts of the attributes of requests, by name.
    """

    users: Sequence[str] = ()
    items: Sequence[str] = ()
    features: Mapping[str, Sequence[str]] = field(default_factory=dict)
    digest: str = ""
    edges: Mapping[str, Sequence[float]] = field(default_factory=dict)
    attributes: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def names(self, name: str) -> Names:
        """Return what is known about one feature."""
        return Names(self.features.get(name, ()), self.edges.get(name, ()))


NOTHING_KNOWN: Final = Known()


def read_known(folder: Path) -> Known:
    """Read the vocabularies of prepared data, or of a run.

    Raises:
        DataError: a file is missing or damaged.
    """
    contents = []
    try:
        for name in ("items.json", "users.json", "features.json"):
            contents.append((folder / name).read_bytes())
        items, users = (list(Vocabulary.parse(content).ids) for content in contents[:2])
        described = read_object(folder / "features.json")
        features = {name: tuple(facts["names"][1:]) for name, facts in described.items()}
        edges = {name: tuple(facts.get("edges", ())) for name, facts in described.items()}
        if (folder / ATTRIBUTES_FILE).exists():
            contents.append((folder / ATTRIBUTES_FILE).read_bytes())
        attributes = read_attributes(folder)
    except (BadFileError, OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"--after: {folder} is neither prepared data nor a run with vocabularies: {error}") from None
    return Known(users, items, features, sha256(b"\0".join(contents)).hexdigest(), edges, attributes)
