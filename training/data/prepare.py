"""From raw interactions to prepared data: filter, order, index, and write with provenance.

| File | Contains |
| --- | --- |
| interactions.npz | items, times_ms, actions, values (tenths), plays, context: int64 (R,) by (user, time); |
| | user_starts (U+1,) |
| impressions.npz | users (place in user_starts), items, times_ms, labels, outcome.NAME: int64 (N,), by time |
| items.json, users.json | vocabularies; the k-th user of user_starts has index k+1 |
| features.npz, features.json | item features (I+1, width), 0 = unknown; cardinalities, names of the codes, edges |
| attributes.json | by attribute of the request, the texts of its codes from 1; codes are in `request.NAME` of both |
| item_numbers.npz | float32 by feature: numbers (I+1,), NaN = unknown; embeddings (I+1, d), zeros = unknown; if any |
| catalogue.json | titles, years and genres by item id, for people |
| behaviours.csv | the same interactions with public ids, to load into the service |
| provenance.json | source, digest, parameters, counts, plausibility report; written last |
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from contract.behaviours.grammar import MAX_FUTURE_MS, MIN_TIME_MS, are_ids, id_problem
from contract.bundle.tensors import POSITIVE_ACTIONS
from contract.bundle.vocabulary import Vocabulary
from contract.files import BadFileError, read_arrays, read_object, whole_folder
from training.data.attributes import read_attributes
from training.data.datasets.interactions import DataError, Interactions
from training.data.files.large_log import LargeLog
from training.data.keep import keep
from training.data.kept import COLUMNS, IMPRESSIONS, OUTCOME, REQUEST, Kept, distinct
from training.data.known import NOTHING_KNOWN, Known
from training.data.life import count_repeats
from training.data.write import (
    IMPRESSIONS_FILE,
    NUMBERS_FILE,
    write_features,
    write_json,
    write_rows,
)
from training.data.write_catalogue import first_seen, write_catalogue

FORMAT: Final = 3
"""The format version of the files; raise it when they change, so that older prepared data are rebuilt."""

_FILES: Final = (
    "interactions.npz", "items.json", "users.json", "features.npz", "features.json", "catalogue.json", "behaviours.csv"
)  # fmt: skip

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
        numbers: of items, by name, float32: numbers (I+1,), NaN = unknown; embeddings (I+1, d), zeros = unknown.
        targets: (R,) the interactions that a recipe counts as positive; None = all (training/rows/positives.py).
        weights: float32 (R,) of them; None = equal.
        attributes: of the request at each interaction and impression, by name: the texts of their codes from 1. Their
            codes are columns of interactions and impressions (`kept.REQUEST`).
        shown_weights: float32 (N,) of the impressions; None = equal.
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
    numbers: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    targets: NDArray[np.bool_] | None = None
    weights: NDArray[np.float32] | None = None
    shown_weights: NDArray[np.float32] | None = None
    attributes: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """The digest of source and parameters: the same digest means the same prepared data."""
        return str(self.provenance["digest"])

    @property
    def repeat_share(self) -> float:
        """The share of targets that repeat what their user did before: as `prepare` counted, else counted here."""
        if "repeat_share" in self.provenance:
            return float(self.provenance["repeat_share"])
        users = np.repeat(np.arange(len(self.user_starts) - 1), np.diff(self.user_starts))
        targets, repeats = count_repeats(users, self.columns)
        return repeats / max(targets, 1)

    @property
    def outcomes(self) -> tuple[str, ...]:
        """Names of what came of impressions; none if the source does not tell."""
        return tuple(name.removeprefix(OUTCOME) for name in self.impressions or () if name.startswith(OUTCOME))

    @property
    def has_times(self) -> bool:
        """False if times are made up and only their order is real."""
        return bool(self.provenance["counts"]["has_times"])


def prepare(
    raw: Interactions | LargeLog, directory: Path, core: int = 5, known: Known = NOTHING_KNOWN
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
    parameters: dict[str, Any] = {"format": FORMAT, "core": core, "actions": list(POSITIVE_ACTIONS)}
    if known.digest:
        parameters["after"] = known.digest
    if raw.has_impressions:
        parameters["window_ms"] = raw.window_ms
    if raw.impressions is not None and raw.impressions.outcomes:
        parameters["outcomes"] = sorted(raw.impressions.outcomes)
    digest = sha256(json.dumps([raw.digest, parameters], sort_keys=True).encode()).hexdigest()
    there = _provenance(directory)
    if there is not None and there.get("digest") == digest and "item_facts" in there and _whole(raw, directory):
        return there, True
    if isinstance(raw, Interactions):  # the rows of a large log were checked when they were read
        _check(raw)
    with whole_folder(directory) as fresh:
        provenance: dict[str, Any] = {
            "dataset": raw.name,
            "source": raw.source,
            "source_digest": raw.digest,
            "digest": digest,
        }
        provenance |= {"parameters": parameters, "read": dict(raw.read), **_write(raw, fresh, core, known)}
        write_json(fresh / "provenance.json", provenance, indent=2)
    return provenance, False


def _whole(raw: Interactions | LargeLog, directory: Path) -> bool:
    files = (*_FILES, IMPRESSIONS_FILE) if raw.has_impressions else _FILES
    return all((directory / file).exists() for file in files)


def _keep(raw: Interactions | LargeLog, core: int, known: Known) -> Kept:
    if isinstance(raw, Interactions):
        return keep(raw, core, known)
    from training.data.keep_large import keep_large  # only here: DuckDB takes a while to load

    return keep_large(raw, core, known)


def _write(raw: Interactions | LargeLog, directory: Path, core: int, known: Known) -> dict[str, Any]:
    """Write all files but the provenance; returns the rest of that."""
    kept = _keep(raw, core, known)
    written, life, last_day = write_rows(kept, directory, raw.size[0], has_times=raw.has_times)
    fields = write_features(raw, kept.item_ids, known, directory)
    born = first_seen(kept, life) if raw.has_times else None
    facts = write_catalogue(raw, kept.item_ids, directory / "catalogue.json", fields, born)
    before = dict(zip(("interactions_before", "users_before", "items_before"), raw.size, strict=True))
    not_read = kept.dropped["bad_lines"] + kept.dropped["outside_time_range"] + raw.read.get("ignored_actions", 0)
    report = {
        "rows": before["interactions_before"] + not_read,
        **kept.dropped,
        "adjacent_repeats": life.adjacent,
        "ids_with_outer_blanks": raw.read.get("ids_with_outer_blanks", 0),
        "times_ahead": life.ahead,
        **({"items_within_a_day": life.within_a_day} if raw.has_times else {}),
        **last_day,
    }
    return {
        "counts": {**before, **written, "has_times": raw.has_times},
        "plausibility": report,
        "repeat_share": round(life.repeat_share, 6),
        "item_facts": facts,
    }


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
    if (directory / IMPRESSIONS_FILE).exists():
        shown = read_arrays(directory / IMPRESSIONS_FILE)
        names = (*IMPRESSIONS, *(name for name in shown if name.startswith((OUTCOME, REQUEST))))
        impressions = {name: shown[name] for name in names}
    numbers = read_arrays(directory / NUMBERS_FILE) if (directory / NUMBERS_FILE).exists() else {}
    described, attributes = read_object(directory / "features.json"), read_attributes(directory)
    read_object(directory / "catalogue.json")
    return Prepared(
        directory,
        {name: interactions[name] for name in (*COLUMNS, *(f"{REQUEST}{name}" for name in attributes))},
        interactions["user_starts"],
        Vocabulary.parse((directory / "items.json").read_bytes()),
        Vocabulary.parse((directory / "users.json").read_bytes()),
        read_arrays(directory / "features.npz"),
        {name: int(facts["cardinality"]) for name, facts in described.items()},
        provenance,
        impressions,
        numbers,
        attributes=attributes,
    )


def _check(raw: Interactions) -> None:
    """Refuse interactions of any source that the service would refuse to store."""
    for name, ids in (("user", raw.users), ("item", raw.items)):
        names = distinct(ids)
        if not are_ids(names):
            problem = next(filter(None, map(id_problem, names)), "")
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


def _provenance(directory: Path) -> dict[str, Any] | None:
    try:
        document = json.loads((directory / "provenance.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) and isinstance(document.get("parameters"), dict) else None
