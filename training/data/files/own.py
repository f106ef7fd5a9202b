"""Your own files, of any format, as interactions (docs/own-data.md)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np

from contract.behaviours.csv_rows import FileError, Problem
from contract.behaviours.grammar import MAX_FUTURE_MS
from training.data.datasets.interactions import DataError, Interactions, ItemFacts
from training.data.datasets.text import digest_of_digests
from training.data.files.coded_ids import CodedIds
from training.data.files.events import Events
from training.data.files.facts import FieldValues
from training.data.files.log import Log
from training.data.files.mapping import Mapping, load_mapping
from training.data.files.parts import digest_of_files, mapping_of, stem

_NO_FACTS = ItemFacts()


def open_log(
    path: Path,
    mapping_file: Path | None = None,
    overrides: Sequence[str] = (),
    on_skip: Callable[[Problem], None] | None = None,
) -> tuple[Log, Mapping]:
    """Return a log and its mapping: the named one, or the one beside it, with `overrides` (KEY=VALUE).

    Raises:
        DataError: the mapping is missing or malformed.
    """
    found = mapping_file or mapping_of(path)
    mapping = load_mapping(found, overrides)
    folder = found.parent if found else path.parent
    return Log(path, mapping, folder, time.time_ns() // 1_000_000 + MAX_FUTURE_MS, on_skip), mapping


def load(log: Log, mapping: Mapping, path: Path) -> Interactions:
    """Read a log into memory: 24 bytes a row, and the distinct ids and facts of items.

    Raises:
        DataError: a file cannot be read or lacks a column, a line is bad and bad lines are not skipped, or no line is
            good.
    """
    batches = list(log.events())
    columns = Events(*(np.concatenate(parts) for parts in zip(*batches, strict=True)))
    return interactions(log, mapping, path, columns)


def interactions(log: Log, mapping: Mapping, path: Path, rows: Events) -> Interactions:
    """Return the rows of a log that was read to its end.

    Raises:
        DataError: there are none.
    """
    if not len(rows.users):
        skipped = sum(count for name, count in log.read.items() if name.startswith("skipped_"))
        raise DataError(f"{path}: no interactions in it" + (f": all {skipped:,} were skipped" if skipped else ""))
    item_ids, facts = log.items.names, log.facts
    return Interactions(
        name=stem(path),
        source=f"own files {path.name}",
        digest=_digest(log, mapping, path),
        users=CodedIds(log.users.names, rows.users),
        items=CodedIds(item_ids, rows.items),
        times_ms=rows.times_ms,
        actions=rows.actions.astype(np.int64),
        values=rows.values.astype(np.int64),
        plays_ms=rows.plays_ms.astype(np.int64),
        catalogue={
            item: ItemFacts(title) if title else _NO_FACTS
            for item, title in ((item, facts.titles.get(code)) for code, item in enumerate(item_ids))
        },
        window_ms=round(mapping.impressions.window_s * 1000),
        fields={name: FieldValues(kind, facts.values.get(name, {}), log.items) for name, kind in facts.kinds.items()},
        read=log.read,
    )


def _digest(log: Log, mapping: Mapping, path: Path) -> str:
    try:
        files = digest_of_files(log.files)
    except FileError as error:
        raise DataError(str(error)) from None
    digests = {"files": files, "mapping": sha256(mapping.model_dump_json().encode()).hexdigest()}
    skipped = {name: count for name, count in log.read.items() if name.startswith("skipped_")}
    if skipped:  # whether a time is in the future depends on the clock, not only on the bytes
        digests["skipped"] = str(skipped)
    return digest_of_digests(digests)
