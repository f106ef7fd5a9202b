"""From raw interactions to prepared data: filter, order, index, and write with provenance.

| File | Contains |
| --- | --- |
| interactions.npz | items, times_ms, actions, values (tenths), plays, context: int64 (R,) by (user, time); |
| | user_starts (U+1,) |
| impressions.npz | users (place in user_starts), items, times_ms, labels: int64 (N,) by time; if there are any |
| items.json, users.json | vocabularies; the k-th user of user_starts has index k+1 |
| features.npz, features.json | item features (I+1, width), 0 = unknown; cardinalities and names of the codes |
| catalogue.json | titles, years and genres by item id, for people |
| behaviours.csv | the same interactions with public ids, to load into the service |
| provenance.json | source, digest, parameters, counts, plausibility report; written last |
"""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from contract.behaviours.grammar import MAX_FUTURE_MS, MIN_TIME_MS, are_ids, id_problem
from contract.behaviours.records import ACTION_CODES, ACTIONS, records_from_columns, repeats
from contract.bundle.tensors import POSITIVE_ACTIONS
from contract.bundle.vocabulary import Vocabulary
from contract.files import BadFileError, read_arrays, read_object, whole_folder
from training.data.datasets.interactions import DataError, Impressions, Interactions
from training.data.features import Features, item_features
from training.data.known import NOTHING_KNOWN, Known, appended
from training.data.plausibility import Report, dropped_rows, suspects

FORMAT: Final = 3
"""The format version of the files; raise it when they change, so that older prepared data are rebuilt."""

COLUMNS: Final = ("items", "times_ms", "actions", "values", "plays", "context")
IMPRESSIONS: Final = ("users", "items", "times_ms", "labels")
_FILES: Final = (
    "interactions.npz", "items.json", "users.json", "features.npz", "features.json", "catalogue.json", "behaviours.csv"
)  # fmt: skip
_IMPRESSIONS_FILE: Final = "impressions.npz"
_CHUNK: Final = 65_536  # rows written at once

Column = NDArray[np.int64]


@dataclass(frozen=True)
class Prepared:
    """Prepared data in memory; R interactions of U users, I items.

    Attributes:
        columns: by name, int64 (R,); context is 1 for behaviour from before the log begins, which is never a target.
        user_starts: (U+1,); a user with only impressions has an empty range.
        features: by name, int64 (I+1, width).
        cardinalities: by name, one more than the largest value.
        impressions: the items shown, by name, int64 (N,), in time order; None if the source has none.
    """

    directory: Path
    columns: dict[str, Column]
    user_starts: Column
    items: Vocabulary
    users: Vocabulary
    features: dict[str, Column]
    cardinalities: dict[str, int]
    provenance: dict[str, Any]  # the JSON form
    impressions: dict[str, Column] | None = None

    @property
    def digest(self) -> str:
        """The digest of source and parameters: the same digest means the same prepared data."""
        return str(self.provenance["digest"])

    @property
    def has_times(self) -> bool:
        """False if times are made up and only their order is real."""
        return bool(self.provenance["counts"]["has_times"])


def prepare(
    raw: Interactions, directory: Path, core: int = 5, known: Known = NOTHING_KNOWN
) -> tuple[dict[str, Any], bool]:
    """Write the prepared data unless the same are already there; returns the provenance, and whether it was reused.

    Args:
        raw: interactions.
        directory: created if absent.
        core: minimum number of interactions of every user and item, applied until nothing changes.
        known: vocabularies to append to; their users and items stay, with or without interactions.

    Raises:
        DataError: nothing is left after the filter, or the service would refuse an id or a time.
    """
    parameters = {"format": FORMAT, "core": core, "actions": list(POSITIVE_ACTIONS)}
    if known.digest:
        parameters["after"] = known.digest
    digest = sha256(json.dumps([raw.digest, parameters], sort_keys=True).encode()).hexdigest()
    there = _provenance(directory)
    files = _FILES if raw.impressions is None else (*_FILES, _IMPRESSIONS_FILE)
    if there is not None and there.get("digest") == digest and all((directory / file).exists() for file in files):
        return there, True
    _check(raw)
    with whole_folder(directory) as fresh:
        counts, report = _write(raw, fresh, core, known)
        provenance = {
            "dataset": raw.name,
            "source": raw.source,
            "source_digest": raw.digest,
            "digest": digest,
            "parameters": parameters,
            "read": dict(raw.read),
            "counts": counts,
            "plausibility": report,
        }
        _write_json(fresh / "provenance.json", provenance, indent=2)
    return provenance, False


def load_prepared(directory: Path) -> Prepared:
    """Read prepared data.

    Raises:
        DataError: there are none, or they have another format or are damaged.
    """
    provenance = _provenance(directory)
    if provenance is None or provenance["parameters"].get("format") != FORMAT:
        raise DataError(
            f"{directory} has no prepared data of this version; run: python -m training prepare {directory.name} "
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


def _check(raw: Interactions) -> None:
    """Refuse interactions of any source that the service would refuse to store."""
    for name, ids in (("user", raw.users), ("item", raw.items)):
        distinct = list(dict.fromkeys(ids))
        if not are_ids(distinct):
            problem = next(filter(None, map(id_problem, distinct)), "")
            if problem:
                raise DataError(f"{raw.source}: {name}: {problem}")
    latest = time.time_ns() // 1_000_000 + MAX_FUTURE_MS
    outside = np.flatnonzero((raw.times_ms < MIN_TIME_MS) | (raw.times_ms > latest))
    if len(outside):
        row = int(outside[0])
        raise DataError(
            f"{raw.source}: user {raw.users[row]}, item {raw.items[row]}: the time {raw.times_ms[row]} (milliseconds "
            f"since the epoch) is before 1971 or in the future"
        )


@dataclass(frozen=True)
class _Kept:
    """The remaining interactions, in the order of user and time.

    Attributes:
        columns: by name, (R,).
        users: (R,) places in `user_ids`.
        user_ids, item_ids: public ids; the item of index k is `item_ids[k - 1]`.
        dropped: how many rows were dropped, by reason.
    """

    columns: dict[str, Column]
    users: Column
    user_ids: list[str]
    item_ids: list[str]
    dropped: Report


def _keep(raw: Interactions, core: int, known: Known) -> _Kept:
    """Drop repeats, then actions that are not trained on, then rows below the core; order the rest."""
    names_of_users, users = _codes(raw.users)
    names_of_items, items = _codes(raw.items)
    first = np.flatnonzero(~_repeats(raw, users, items))
    taken = first[np.isin(raw.actions[first], [ACTION_CODES[action] for action in POSITIVE_ACTIONS])]
    kept = taken[core_filter(users[taken], items[taken], core)]
    if not len(kept):
        raise DataError(f"{raw.source}: no user and item has {core} interactions; try a smaller --core")
    dropped = dropped_rows(raw.read, len(users) - len(first), len(first) - len(taken), len(taken) - len(kept))
    user_ids, users = _remaining(names_of_users, users[kept])
    item_ids, items = _remaining(names_of_items, items[kept])
    if core <= 1 and raw.impressions is not None:  # without a filter, every user with an impression is a user
        user_ids = list(dict.fromkeys((*user_ids, *raw.impressions.users)))
        item_ids = list(dict.fromkeys((*item_ids, *raw.impressions.items)))
    (user_ids, user_places), (item_ids, item_places) = appended(known.users, user_ids), appended(known.items, item_ids)
    users, items = user_places[users], item_places[items]
    context = np.zeros(len(raw.users), dtype=np.bool_) if raw.context is None else raw.context
    # At equal times context comes first, then the order of the source.
    order = np.lexsort((kept, ~context[kept], raw.times_ms[kept], users))
    kept = kept[order]
    columns = {
        "items": items[order] + 1,
        "times_ms": raw.times_ms[kept],
        "actions": raw.actions[kept],
        "values": raw.values[kept],
        "plays": raw.plays_ms[kept],
        "context": context[kept].astype(np.int64),
    }
    return _Kept(columns, users[order], user_ids, item_ids, dropped)


def _write(raw: Interactions, directory: Path, core: int, known: Known) -> tuple[dict[str, int], Report]:
    kept = _keep(raw, core, known)
    user_counts = np.bincount(kept.users, minlength=len(kept.user_ids))
    starts = np.concatenate(([0], np.cumsum(user_counts))).astype(np.int64)
    np.savez_compressed(directory / "interactions.npz", user_starts=starts, **kept.columns)  # type: ignore[arg-type]
    user_vocabulary, item_vocabulary = Vocabulary(kept.user_ids), Vocabulary(kept.item_ids)
    user_vocabulary.write(directory / "users.json")
    item_vocabulary.write(directory / "items.json")
    _write_features(directory, item_features(kept.item_ids, raw.catalogue, known.features))
    _write_catalogue(directory / "catalogue.json", raw, kept.item_ids)
    _write_behaviours(directory / "behaviours.csv", kept)
    counts = {
        "interactions_before": len(raw.users),
        "users_before": len(set(raw.users)),
        "items_before": len(set(raw.items)),
        "users": len(kept.user_ids),
        "items": len(kept.item_ids),
        "interactions": len(kept.users),
        "context": int(kept.columns["context"].sum()),
        "has_times": raw.has_times,
    }
    if raw.impressions is not None:
        shown = _impressions(raw.impressions, user_vocabulary, item_vocabulary)
        np.savez_compressed(directory / _IMPRESSIONS_FILE, **shown)  # type: ignore[arg-type]
        counts |= {"impressions": len(shown["labels"]), "impressions_positive": int(shown["labels"].sum())}
    return counts, _report(raw, kept)


def _report(raw: Interactions, kept: _Kept) -> Report:
    found = suspects(
        raw.read, kept.users, kept.columns["items"] - 1, kept.columns["times_ms"],
        has_times=raw.has_times, now_ms=time.time_ns() // 1_000_000,
    )  # fmt: skip
    skipped = kept.dropped["bad_lines"] + kept.dropped["outside_time_range"]
    return {"rows": len(raw.users) + skipped, **kept.dropped, **found}


def _repeats(raw: Interactions, users: Column, items: Column) -> NDArray[np.bool_]:
    """Return which rows the store would drop as repeats of an earlier one: the item's code represents its key."""
    records = records_from_columns(
        items.astype(np.uint64), raw.times_ms, raw.actions.astype(np.uint8), raw.plays_ms, raw.values / 10
    )
    return repeats(users, records)


def _impressions(raw: Impressions, users: Vocabulary, items: Vocabulary) -> dict[str, Column]:
    """Return the impressions of users and items that remain, in the order of time, ties by that of the source."""
    places, index = users.indices(raw.users) - 1, items.indices(raw.items)
    kept = np.flatnonzero((places >= 0) & (index > 0))
    kept = kept[np.argsort(raw.times_ms[kept], kind="stable")]
    return {"users": places[kept], "items": index[kept], "times_ms": raw.times_ms[kept], "labels": raw.labels[kept]}


def _codes(ids: Sequence[str]) -> tuple[list[str], Column]:
    """Return the distinct ids by first appearance, so that indices do not depend on how ids sort, and the codes."""
    seen: dict[str, int] = {}
    codes = np.fromiter((seen.setdefault(text, len(seen)) for text in ids), dtype=np.int64, count=len(ids))
    return list(seen), codes


def _remaining(names: list[str], codes: Column) -> tuple[list[str], Column]:
    """Return the names that are still used, and the place of each among them, from 0."""
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
    """Write the facts item by item: one document would take as much memory as the interactions."""
    with path.open("w", encoding="utf-8") as file:
        separator = '{"items": {'
        for item in item_ids:
            facts = raw.catalogue.get(item)
            if facts is not None:
                entry = {"title": facts.title or item, "year": facts.year, "genres": list(facts.genres)}
                told = json.dumps(entry, ensure_ascii=False)
                file.write(f"{separator}{json.dumps(item, ensure_ascii=False)}: {told}")
                separator = ", "
        file.write('{"items": {}}\n' if separator != ", " else "}}\n")


def _write_behaviours(path: Path, kept: _Kept) -> None:
    names = ("items", "times_ms", "actions", "plays", "values")
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("user_id", "item_id", "ts", "action", "play_ms", "value"))
        for start in range(0, len(kept.users), _CHUNK):  # Python's numbers take several times the memory of a column's
            part = slice(start, start + _CHUNK)
            rows = zip(kept.users[part].tolist(), *(kept.columns[name][part].tolist() for name in names), strict=True)
            writer.writerows(
                (
                    kept.user_ids[user], kept.item_ids[item - 1], time_ms, ACTIONS[action - 1],
                    play or "", value / 10 if value else "",
                )
                for user, item, time_ms, action, play, value in rows
            )  # fmt: skip


def _provenance(directory: Path) -> dict[str, Any] | None:
    try:
        document = json.loads((directory / "provenance.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) and isinstance(document.get("parameters"), dict) else None


def _write_json(path: Path, document: object, indent: int | None = None) -> None:
    path.write_text(json.dumps(document, ensure_ascii=False, indent=indent) + "\n", encoding="utf-8")
