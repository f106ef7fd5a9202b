"""From raw interactions to prepared data: filter, order, index, and write with provenance.

| File | Holds |
| --- | --- |
| interactions.npz | items, times_ms, actions, values (tenths), plays: int64 (R,) by (user, time); user_starts (U+1,) |
| items.json, users.json | vocabularies; the k-th user of user_starts has index k+1 |
| features.npz, features.json | item features (I+1, width), 0 = unknown; cardinalities and names of the codes |
| catalogue.json | titles, years and genres by item id, for people |
| behaviours.csv | the same interactions with public ids: what the service is loaded with |
| provenance.json | source, digest, parameters, counts; written last |
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from contract.behaviours import ACTION_CODES, ACTIONS
from contract.tensors import POSITIVE_ACTIONS
from contract.vocabulary import Vocabulary
from training.datasets.interactions import DataError, Interactions
from training.features import Features, item_features

FORMAT: Final = 1
"""Of the files; raise it whenever they change, so that older prepared data are made anew."""

COLUMNS: Final = ("items", "times_ms", "actions", "values", "plays")
_FILES: Final = (
    "interactions.npz", "items.json", "users.json", "features.npz", "features.json", "catalogue.json", "behaviours.csv"
)  # fmt: skip

Column = NDArray[np.int64]


@dataclass(frozen=True)
class Prepared:
    """Prepared data in memory; R interactions of U users, I items.

    Attributes:
        columns: by name, int64 (R,).
        user_starts: (U+1,).
        features: by name, int64 (I+1, width).
        cardinalities: by name, one more than the largest value.
    """

    directory: Path
    columns: dict[str, Column]
    user_starts: Column
    items: Vocabulary
    users: Vocabulary
    features: dict[str, Column]
    cardinalities: dict[str, int]
    provenance: dict[str, Any]  # as JSON has it

    @property
    def digest(self) -> str:
        """The digest of source and parameters: the same digest means the same prepared data."""
        return str(self.provenance["digest"])


def prepare(raw: Interactions, directory: Path, core: int = 5) -> tuple[dict[str, Any], bool]:
    """Write the prepared data unless the same are already there; returns the provenance, and whether it was reused.

    Args:
        raw: interactions.
        directory: is made if absent.
        core: the least interactions of every user and item, applied until nothing changes.

    Raises:
        DataError: nothing is left after the filter.
    """
    parameters = {"format": FORMAT, "core": core, "actions": list(POSITIVE_ACTIONS)}
    digest = sha256(json.dumps([raw.digest, parameters], sort_keys=True).encode()).hexdigest()
    known = _provenance(directory)
    if known is not None and known.get("digest") == digest and all((directory / file).exists() for file in _FILES):
        return known, True
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "provenance.json").unlink(missing_ok=True)
    counts = _write(raw, directory, core)
    provenance = {
        "dataset": raw.name,
        "source": raw.source,
        "source_digest": raw.digest,
        "digest": digest,
        "parameters": parameters,
        "counts": counts,
    }
    _write_json(directory / "provenance.json", provenance, indent=2)
    return provenance, False


def load_prepared(directory: Path) -> Prepared:
    """Read prepared data.

    Raises:
        DataError: there are none, or they are of another format.
    """
    provenance = _provenance(directory)
    if provenance is None or provenance["parameters"].get("format") != FORMAT:
        raise DataError(
            f"{directory} holds no prepared data of this version; run: python -m training prepare {directory.name} "
            f"(your own: path/to/{directory.name}.csv)"
        )
    with np.load(directory / "interactions.npz", allow_pickle=False) as arrays:
        columns = {name: arrays[name] for name in COLUMNS}
        user_starts = arrays["user_starts"]
    with np.load(directory / "features.npz", allow_pickle=False) as arrays:
        features = {name: arrays[name] for name in arrays.files}
    described = json.loads((directory / "features.json").read_text(encoding="utf-8"))
    return Prepared(
        directory,
        columns,
        user_starts,
        Vocabulary.parse((directory / "items.json").read_bytes()),
        Vocabulary.parse((directory / "users.json").read_bytes()),
        features,
        {name: int(facts["cardinality"]) for name, facts in described.items()},
        provenance,
    )


def core_filter(users: Column, items: Column, core: int) -> NDArray[np.bool_]:
    """Return which interactions remain when every user and item must have `core` of them, repeated until stable."""
    kept = np.ones(len(users), dtype=np.bool_)
    while True:
        by_user = np.bincount(users[kept], minlength=users.max(initial=0) + 1)
        by_item = np.bincount(items[kept], minlength=items.max(initial=0) + 1)
        enough = kept & (by_user[users] >= core) & (by_item[items] >= core)
        if bool((enough == kept).all()):
            return kept
        kept = enough


def _write(raw: Interactions, directory: Path, core: int) -> dict[str, int]:
    users, items = _codes(raw.users), _codes(raw.items)
    positive = np.isin(raw.actions, [ACTION_CODES[action] for action in POSITIVE_ACTIONS])
    kept = np.flatnonzero(positive)
    kept = kept[core_filter(users[kept], items[kept], core)]
    if not len(kept):
        raise DataError(f"{raw.source}: no user and item has {core} interactions; try a smaller --core")
    kept = kept[np.lexsort((kept, raw.times_ms[kept], users[kept]))]  # ties by the order of the source
    user_ids, user_counts = _named(raw.users, users[kept])
    item_ids, index = _indexed(raw.items, items, kept)
    columns = {
        "items": index,
        "times_ms": raw.times_ms[kept],
        "actions": raw.actions[kept],
        "values": raw.values[kept],
        "plays": raw.plays_ms[kept],
    }
    starts = np.concatenate(([0], np.cumsum(user_counts))).astype(np.int64)
    np.savez_compressed(directory / "interactions.npz", user_starts=starts, **columns)  # type: ignore[arg-type]
    Vocabulary(item_ids).write(directory / "items.json")
    Vocabulary(user_ids).write(directory / "users.json")
    _write_features(directory, item_features(item_ids, raw.catalogue))
    _write_catalogue(directory / "catalogue.json", raw, item_ids)
    _write_behaviours(directory / "behaviours.csv", columns, np.repeat(user_ids, user_counts), item_ids)
    return {
        "interactions_before": len(raw.users),
        "users_before": int(users.max()) + 1,
        "items_before": int(items.max()) + 1,
        "users": len(user_ids),
        "items": len(item_ids),
        "interactions": len(kept),
    }


def _codes(ids: Any) -> Column:  # a sequence of str
    """Return 0, 1, ... by first appearance, so that the indices do not depend on how ids sort."""
    seen: dict[str, int] = {}
    return np.array([seen.setdefault(identifier, len(seen)) for identifier in ids], dtype=np.int64)


def _named(ids: Any, codes: Column) -> tuple[list[str], Column]:
    """Return the ids of sorted codes, and how often each stands there."""
    distinct, counts = np.unique(codes, return_counts=True)
    names = list(dict.fromkeys(ids))
    return [names[code] for code in distinct], counts


def _indexed(ids: Any, codes: Column, kept: Column) -> tuple[list[str], Column]:
    """Return the ids of the items that remain, and the index from 1 of each kept interaction."""
    distinct, inverse = np.unique(codes[kept], return_inverse=True)
    names = list(dict.fromkeys(ids))
    return [names[code] for code in distinct], inverse.astype(np.int64) + 1


def _write_features(directory: Path, features: dict[str, Features]) -> None:
    np.savez_compressed(directory / "features.npz", **{name: one.codes for name, one in features.items()})  # type: ignore[arg-type]
    described = {
        name: {"cardinality": len(one.names) + 1, "width": one.codes.shape[1], "names": ["", *one.names]}
        for name, one in features.items()
    }
    _write_json(directory / "features.json", described)


def _write_catalogue(path: Path, raw: Interactions, item_ids: list[str]) -> None:
    known = {item: raw.catalogue[item] for item in item_ids if item in raw.catalogue}
    entries = {
        item: {"title": facts.title or item, "year": facts.year, "genres": list(facts.genres)}
        for item, facts in known.items()
    }
    _write_json(path, {"items": entries})


def _write_behaviours(path: Path, columns: dict[str, Column], users: NDArray[np.str_], item_ids: list[str]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("user_id", "item_id", "ts", "action", "play_ms", "value"))
        writer.writerows(
            (user, item_ids[item - 1], time, ACTIONS[action - 1], play or "", value / 10 if value else "")
            for user, item, time, action, play, value in zip(
                users.tolist(),
                *(columns[name].tolist() for name in ("items", "times_ms", "actions", "plays", "values")),
                strict=True,
            )
        )


def _provenance(directory: Path) -> dict[str, Any] | None:
    try:
        document = json.loads((directory / "provenance.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) and isinstance(document.get("parameters"), dict) else None


def _write_json(path: Path, document: object, indent: int | None = None) -> None:
    path.write_text(json.dumps(document, ensure_ascii=False, indent=indent) + "\n", encoding="utf-8")
