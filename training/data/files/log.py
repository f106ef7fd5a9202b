"""A log in one or several files, with the facts about its items, in one pass.

The rows of a batch are Python objects only while it is read: the caller keeps numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from contract.behaviours.csv_rows import FileError, Problem
from contract.progress import Progress
from training.data.attributes import AttributeValues
from training.data.datasets.interactions import DataError
from training.data.files.coded_ids import IdCodes
from training.data.files.events import EventReader, Events, LogColumns, log_columns
from training.data.files.facts import Facts
from training.data.files.items import read_items
from training.data.files.mapping import Mapping
from training.data.files.part import Batch, Part
from training.data.files.parts import open_part, paths_of
from training.data.files.skips import Skips


class Log:
    """One source.

    Args:
        path: a file or a folder.
        mapping: of its columns.
        folder: that the file of items is relative to.
        latest_ms: a time after this is refused.
        on_skip: called with each bad line; None makes the first one an error.

    Attributes:
        users, items: ids by code.
        facts: about items; complete when `events` is exhausted.
        attributes: values of the attributes of requests, by name; likewise.
        read: the counts of the reader, likewise.
    """

    def __init__(
        self, path: Path, mapping: Mapping, folder: Path, latest_ms: int, on_skip: Callable[[Problem], None] | None
    ) -> None:
        self._path, self._mapping, self._folder = path, mapping, folder
        self._skips = Skips(path, on_skip)
        self.users, self.items, self.facts = IdCodes(), IdCodes(), Facts(mapping)
        self.attributes = {name: AttributeValues() for name in mapping.context}
        self._events = EventReader(mapping, self.users, self.items, latest_ms, self.attributes)
        self._counts: Counter[str] = Counter()

    @property
    def files(self) -> list[Path]:
        """All files, those of the items last."""
        named = self._mapping.items.file
        return [*paths_of(self._path), *(paths_of(self._folder / named) if named else [])]

    def events(self) -> Iterator[Events]:
        """Yield the good rows of all files, batch by batch; the facts about items are read last.

        Raises:
            DataError: a file cannot be read or lacks a column, or a line is bad and bad lines are not skipped.
        """
        try:
            self._check_items()
            paths = paths_of(self._path)
            sizes = [path.stat().st_size if path.exists() else 0 for path in paths]
            with Progress(f"reading {self._path.name}", sum(sizes)) as progress:
                for place, path in enumerate(paths):
                    part = open_part(path)
                    for events in self._part(part):
                        progress.at(sum(sizes[:place]) + min(part.share, 1.0) * sizes[place], f"{self.rows:,} rows")
                        yield events
            if self._mapping.items.file:
                self._counts["items_without_events"] = read_items(
                    self._folder / self._mapping.items.file, self._mapping, self.items, self.facts, self._skips
                )
        except FileError as error:
            raise DataError(str(error)) from None

    def _check_items(self) -> None:
        """Find a file of items that is not there before the log is read, which may take long."""
        named = self._mapping.items.file
        if named and not (self._folder / named).exists():
            raise DataError(f"{self._folder / named}: no such file; items.file of the mapping names it")

    @property
    def rows(self) -> int:
        """Rows read so far."""
        return self._counts["rows"]

    @property
    def read(self) -> dict[str, int]:
        """The counts by name."""
        skipped = {f"skipped_{kind}": count for kind, count in sorted(self._skips.counts.items())}
        left_out = {f"values_of_{name}_left_out": one.left_out for name, one in self.attributes.items() if one.left_out}
        return {**self._counts, "ignored_actions": self._events.ignored, **skipped, **left_out}

    def _part(self, part: Part) -> Iterator[Events]:
        columns = log_columns(part, self._mapping)
        of = {} if self._mapping.items.file else self.facts.columns(part)
        title = None if self._mapping.items.file else self.facts.title(part)
        wanted = dict.fromkeys([*columns.used(), *(one for used in of.values() for one in used)])
        ids = [name for name in (columns.names["user"], columns.names["item"]) if name]
        for batch in part.batches([*wanted, *([title] if title else [])], ids, self._skips):
            events = self._batch(part, batch, columns, of, title)
            self._counts["rows"] += len(events.users)
            yield events
        self._counts.update(lines=part.lines, blank_lines=part.blank, ids_with_outer_blanks=part.padded)

    def _batch(
        self, part: Part, batch: Batch, columns: LogColumns, of: dict[str, tuple[str, ...]], title: str | None
    ) -> Events:
        events, places = self._events.read(part, batch, columns, self._skips)
        items = np.full(len(batch.lines), -1, dtype=np.int32)
        items[places] = events.items
        bad = self.facts.add(batch.columns, of, items, title)
        for place, (column, message) in sorted(bad.items()):
            self._skips(part.problem(int(batch.lines[place]), column, "feature", message))
        if not bad:
            return events
        return events.take(~np.isin(places, list(bad)))
