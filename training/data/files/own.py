"""Your own files, of any format, as interactions (docs/own-data.md)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Final

from contract.behaviours.csv_rows import FileError, Problem
from contract.behaviours.grammar import MAX_FUTURE_MS
from training.data.attributes import Attribute
from training.data.datasets.interactions import DataError, Interactions, ItemFacts
from training.data.datasets.text import digest_of_digests
from training.data.files.coded_ids import CodedIds
from training.data.files.events import Events
from training.data.files.facts import FieldValues
from training.data.files.large_log import LargeLog
from training.data.files.log import Log
from training.data.files.mapping import Mapping, load_mapping
from training.data.files.parts import digest_of_files, mapping_of, stem
from training.data.files.spill import Spilled, joined, spill
from training.data.item_field import FieldSource

IN_MEMORY: Final = 3_000_000
"""Rows that are prepared in memory, at about 200 bytes each; more go through a file."""

_NO_FACTS: Final = ItemFacts()


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


def load(log: Log, mapping: Mapping, path: Path, scratch: Path, most: int | None = None) -> Interactions | LargeLog:
    """Read a log: up to `most` rows (IN_MEMORY) into memory, more to a folder below `scratch`.

    The distinct ids and the facts about items are in memory in both cases.

    Raises:
        DataError: a file cannot be read or lacks a column, a line is bad and bad lines are not skipped, or no line is
            good.
    """
    batches, some, count = log.events(), [], 0
    for batch in batches:
        some.append(batch)
        count += len(batch.users)
        if count > (IN_MEMORY if most is None else most):
            return _large(log, mapping, path, spill(chain(_taken(some), batches), scratch))
    if not count:
        skipped = sum(found for name, found in log.read.items() if name.startswith("skipped_"))
        raise DataError(f"{path}: no interactions in it" + (f": all {skipped:,} were skipped" if skipped else ""))
    return _interactions(log, mapping, path, joined(some))


def _taken(some: list[Events]) -> Iterator[Events]:
    """Yield and forget each batch."""
    while some:
        yield some.pop(0)


def _interactions(log: Log, mapping: Mapping, path: Path, rows: Events) -> Interactions:
    return Interactions(
        name=stem(path),
        source=f"own files {path.name}",
        digest=_digest(log, mapping, path),
        users=CodedIds(log.users.names, rows.users),
        items=CodedIds(log.items.names, rows.items),
        times_ms=rows.times_ms,
        actions=rows.actions,
        values=rows.values,
        plays_ms=rows.plays_ms,
        catalogue=_catalogue(log),
        window_ms=round(mapping.impressions.window_s * 1000),
        fields=_fields(log),
        read=log.read,
        attributes={
            name: Attribute(values, rows.attributes[:, place])
            for place, (name, values) in enumerate(log.attributes.items())
        },
    )


def _large(log: Log, mapping: Mapping, path: Path, rows: Spilled) -> LargeLog:
    return LargeLog(
        name=stem(path),
        source=f"own files {path.name}",
        digest=_digest(log, mapping, path),
        rows=rows,
        users=log.users.names,
        items=log.items.names,
        window_ms=round(mapping.impressions.window_s * 1000),
        catalogue=_catalogue(log),
        fields=_fields(log),
        read=log.read,
        attributes=log.attributes,
    )


def _catalogue(log: Log) -> dict[str, ItemFacts]:
    titles = (log.facts.titles.get(code) for code in range(len(log.items)))
    return {item: ItemFacts(title) if title else _NO_FACTS for item, title in zip(log.items.names, titles, strict=True)}


def _fields(log: Log) -> dict[str, FieldSource]:
    facts = log.facts
    return {name: FieldValues(kind, facts.values.get(name, {}), log.items) for name, kind in facts.kinds.items()}


def _digest(log: Log, mapping: Mapping, path: Path) -> str:
    try:
        files = digest_of_files(log.files)
    except FileError as error:
        raise DataError(str(error)) from None
    digests = {"files": files, "mapping": sha256(_document(mapping).encode()).hexdigest()}
    skipped = {name: count for name, count in log.read.items() if name.startswith("skipped_")}
    if skipped:  # whether a time is in the future depends on the clock, not only on the bytes
        digests["skipped"] = str(skipped)
    return digest_of_digests(digests)


def _document(mapping: Mapping) -> str:
    """Return a mapping as JSON; without attributes as it was before there were any, so that digests stay."""
    return mapping.model_dump_json(exclude=None if mapping.context else {"context"})
