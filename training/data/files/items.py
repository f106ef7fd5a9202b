"""The file of items: one row per item, with its features."""

from __future__ import annotations

from pathlib import Path

from training.data.files.coded_ids import Codes, IdCodes
from training.data.files.events import column_of
from training.data.files.facts import Facts
from training.data.files.mapping import Mapping
from training.data.files.part import Batch, Part
from training.data.files.parts import open_part, paths_of
from training.data.files.skips import Skips


def read_items(path: Path, mapping: Mapping, items: IdCodes, facts: Facts, skips: Skips) -> int:
    """Add the facts of a file or folder of items; returns the number of rows whose item is not in the log.

    Raises:
        FileError: a file cannot be read, or lacks a column.
        DataError: a row is malformed, and such rows are not skipped.
    """
    return sum(_read(open_part(one), mapping, items, facts, skips) for one in paths_of(path))


def _read(part: Part, mapping: Mapping, items: IdCodes, facts: Facts, skips: Skips) -> int:
    item = column_of(part, "item", mapping.items.id or mapping.columns.item)
    assert item is not None
    of, title = facts.columns(part), facts.title(part)
    wanted = dict.fromkeys([item, *([title] if title else []), *(name for used in of.values() for name in used)])
    unknown = 0
    for batch in part.batches(list(wanted), [item], skips):
        codes = items.find(batch.columns[item])
        unknown += int((codes < 0).sum())
        _add(part, batch, of, title, codes, facts, skips)
    return unknown


def _add(
    part: Part,
    batch: Batch,
    of: dict[str, tuple[str, ...]],
    title: str | None,
    codes: Codes,
    facts: Facts,
    skips: Skips,
) -> None:
    for place, (column, message) in sorted(facts.add(batch.columns, of, codes, title).items()):
        skips(part.problem(int(batch.lines[place]), column, "feature", message))
