"""From raw interactions to prepared data: filter, order, index, and write with provenance.

| File | Holds |
| --- | --- |
| interactions.npz | items, times_ms, actions, values (tenths), plays, context: int64 (R,) by (user, time); |
| | user_starts (U+1,) |
| impressions.npz | users (place in user_starts), items, times_ms, labels: int64 (N,) by time; where there are any |
| items.json, users.json | vocabularies; the k-th user of user_starts has index k+1 |
| features.npz, features.json | item features (I+1, width), 0 = unknown; cardinalities and names of the codes |
| catalogue.json | titles, years and genres by item id, for people |
| behaviours.csv | the same interactions with public ids: what the service is loaded with |
| provenance.json | source, digest, parameters, counts; written last |
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from contract.behaviours import ACTION_CODES, ACTIONS
from contract.files import BadFileError, read_arrays, read_object, whole_folder
from contract.tensors import POSITIVE_ACTIONS
from contract.vocabulary import Vocabulary
from training.datasets.interactions import DataError, Impressions, Interactions
from training.features import Features, item_features

FORMAT: Final = 2
"""Of the files; raise it whenever they change, so that older prepared data are made anew."""

COLUMNS: Final = ("items", "times_ms", "actions", "values", "plays", "context")
IMPRESSIONS: Final = ("users", "items", "times_ms", "labels")
_FILES: Final = (
    "interactions.npz", "items.json", "users.json", "features.npz", "features.json", "catalogue.json", "behaviours.csv"
)  # fmt: skip
_IMPRESSIONS_FILE: Final = "impressions.npz"

Column = NDArray[np.int64]


@dataclass(frozen=True)
class Prepared:
    """Prepared data in memory; R interactions of U users, I items.

    Attributes:
        columns: by name, int64 (R,); context is 1 for what was known before the log begins, which is never a target.
        user_starts: (U+1,); a user without interactions, known from impressions, has an empty range.
        features: by name, int64 (I+1, width).
        cardinalities: by name, one more than the largest value.
        impressions: what was shown, by name, int64 (N,), in the order of time; None where the source does not say.
    """

    directory: Path
    columns: dict[str, Column]
    user_starts: Column
    items: Vocabulary
    users: Vocabulary
    features: dict[str, Column]
    cardinalities: dict[str, int]
    provenance: dict[str, Any]  # as JSON has it
    impressions: dict[str, Column] | None = None

    @property
    def digest(self) -> str:
        """The digest of source and parameters: the same digest means the same prepared data."""
        return str(self.provenance["digest"])

    @property
    def has_times(self) -> bool:
        """False where times are made up and tell the order alone."""
        return bool(self.provenance["counts"]["has_times"])


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
    files = _FILES if raw.impressions is None else (*_FILES, _IMPRESSIONS_FILE)
    if known is not None and known.get("digest") == digest and all((directory / file).exists() for file in files):
        return known, True
    with whole_folder(directory) as fresh:
        counts = _write(raw, fresh, core)
        provenance = {
            "dataset": raw.name,
            "source": raw.source,
            "source_digest": raw.digest,
            "digest": digest,
            "parameters": parameters,
            "read": dict(raw.read),
            "counts": counts,
        }
        _write_json(fresh / "provenance.json", provenance, indent=2)
    return provenance, False


def load_prepared(directory: Path) -> Prepared:
    """Read prepared data.

    Raises:
        DataError: there are none, or they are of another format, or damaged.
    """
    provenance = _provenance(directory)
    if provenance is None or provenance["parameters"].get("format") != FORMAT:
        raise DataError(
            f"{directory} holds no prepared data of this version; run: python -m training prepare {directory.name} "
            f"(your own: path/to/{directory.name}.csv)"
        )
    try:
        return _loaded(directory, provenance)
    except (BadFileError, KeyError, TypeError, ValueError, OSError) as error:
        raise DataError(
            f"{directory} is damaged: {error}; remove it, and prepare it again: python -m training prepare"
        ) from error


def _loaded(directory: Path, provenance: dict[str, Any]) -> Prepared:
    interactions, impressions = read_arrays(directory / "interactions.npz"), None
    if (directory / _IMPRESSIONS_FILE).exists():
        shown = read_arrays(directory / _IMPRESSIONS_FILE)
        impressions = {name: shown[name] for name in IMPRESSIONS}
    described = read_object(directory / "features.json")
    read_object(directory / "catalogue.json")
    return Prepared(
        directory,
        {name: interactions[name] for name in COLUMNS},
        interactions["user_starts"],
        Vocabulary.parse((directory / "items.json").read_bytes()),
        Vocabulary.parse((directory / "users.json").read_bytes()),
        read_arrays(directory / "features.npz"),
        {name: int(facts["cardinality"]) for name, facts in described.items()},
        provenance,
        impressions,
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
    names_of_users, users = _codes(raw.users)
    names_of_items, items = _codes(raw.items)
    positive = np.isin(raw.actions, [ACTION_CODES[action] for action in POSITIVE_ACTIONS])
    kept = np.flatnonzero(positive)
    kept = kept[core_filter(users[kept], items[kept], core)]
    if not len(kept):
        raise DataError(f"{raw.source}: no user and item has {core} interactions; try a smaller --core")
    user_ids, users_kept = _remaining(names_of_users, users[kept])
    item_ids, items_kept = _remaining(names_of_items, items[kept])
    if core <= 1 and raw.impressions is not None:  # without a filter whoever was shown something is a user
        user_ids = list(dict.fromkeys((*user_ids, *raw.impressions.users)))
        item_ids = list(dict.fromkeys((*item_ids, *raw.impressions.items)))
    context = np.zeros(len(users), dtype=np.bool_) if raw.context is None else raw.context
    # Of equal times what was known before the log begins stands first, then by the order of the source.
    order = np.lexsort((kept, ~context[kept], raw.times_ms[kept], users_kept))
    kept, users_kept = kept[order], users_kept[order]
    columns = {
        "items": items_kept[order] + 1,
        "times_ms": raw.times_ms[kept],
        "actions": raw.actions[kept],
        "values": raw.values[kept],
        "plays": raw.plays_ms[kept],
        "context": context[kept].astype(np.int64),
    }
    user_counts = np.bincount(users_kept, minlength=len(user_ids))
    starts = np.concatenate(([0], np.cumsum(user_counts))).astype(np.int64)
    np.savez_compressed(directory / "interactions.npz", user_starts=starts, **columns)  # type: ignore[arg-type]
    user_vocabulary, item_vocabulary = Vocabulary(user_ids), Vocabulary(item_ids)
    user_vocabulary.write(directory / "users.json")
    item_vocabulary.write(directory / "items.json")
    _write_features(directory, item_features(item_ids, raw.catalogue))
    _write_catalogue(directory / "catalogue.json", raw, item_ids)
    _write_behaviours(directory / "behaviours.csv", columns, np.repeat(user_ids, user_counts), item_ids)
    counts = {
        "interactions_before": len(raw.users),
        "users_before": len(names_of_users),
        "items_before": len(names_of_items),
        "users": len(user_ids),
        "items": len(item_ids),
        "interactions": len(kept),
        "context": int(context[kept].sum()),
        "has_times": raw.has_times,
    }
    if raw.impressions is not None:
        shown = _impressions(raw.impressions, user_vocabulary, item_vocabulary)
        np.savez_compressed(directory / _IMPRESSIONS_FILE, **shown)  # type: ignore[arg-type]
        counts |= {"impressions": len(shown["labels"]), "impressions_positive": int(shown["labels"].sum())}
    return counts


def _impressions(raw: Impressions, users: Vocabulary, items: Vocabulary) -> dict[str, Column]:
    """Return the impressions of users and items that remain, in the order of time, ties by that of the source."""
    places, index = users.indices(raw.users) - 1, items.indices(raw.items)
    kept = np.flatnonzero((places >= 0) & (index > 0))
    kept = kept[np.argsort(raw.times_ms[kept], kind="stable")]
    return {"users": places[kept], "items": index[kept], "times_ms": raw.times_ms[kept], "labels": raw.labels[kept]}


def _codes(ids: Sequence[str]) -> tuple[list[str], Column]:
    """Return the distinct ids by first appearance, so that indices do not depend on how ids sort, and the codes."""
    seen: dict[str, int] = {}
    codes = np.array([seen.setdefault(identifier, len(seen)) for identifier in ids], dtype=np.int64)
    return list(seen), codes


def _remaining(names: list[str], codes: Column) -> tuple[list[str], Column]:
    """Return the names that still stand there, and the place of each among them, from 0."""
    distinct, places = np.unique(codes, return_inverse=True)
    return [names[code] for code in distinct], places.astype(np.int64)


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
