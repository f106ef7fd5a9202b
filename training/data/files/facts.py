"""Facts about items, collected row by row: the first row of an item with a value counts.

Symbols: N rows of a batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from contract.behaviours.csv_rows import FileError
from training.data.files.coded_ids import Codes, IdCodes
from training.data.files.kinds.base import Kind, text_of
from training.data.files.mapping import Mapping as FileMapping
from training.data.files.mapping import default_features
from training.data.files.part import Part
from training.data.item_field import NOTHING, ItemField, Names


@dataclass(frozen=True)
class FieldValues:
    """One feature of the items of a log.

    Attributes:
        kind: of the feature.
        values: by the code of the item.
        items: the codes.
    """

    kind: Kind
    values: Mapping[int, Any]
    items: IdCodes

    def code(self, item_ids: Sequence[str], known: Names = NOTHING) -> ItemField:
        """Return the feature of these items; the names and edges of an earlier preparation stay."""
        values = [self.values.get(code) for code in self.items.find(item_ids).tolist()]
        return replace(self.kind.code(values, known), kind=self.kind.kind)


class Facts:
    """The facts of all items by their code.

    Attributes:
        kinds: of the features, by name.
        values: by feature, then by item.
        titles: for people, by item.
    """

    def __init__(self, mapping: FileMapping) -> None:
        self._mapping = mapping
        self.kinds: Mapping[str, Kind] = mapping.features
        self.values: dict[str, dict[int, Any]] = {}
        self.titles: dict[int, str] = {}

    def columns(self, part: Part) -> dict[str, tuple[str, ...]]:
        """Return the columns of each feature in a file.

        Raises:
            FileError: the file lacks one.
        """
        if not self._mapping.features:
            self.kinds = default_features(part.columns)
        found = {name: kind.columns(name, part.columns) for name, kind in self.kinds.items()}
        for name, columns in found.items():
            missing = next((column for column in columns if column not in part.columns), None)
            if missing and part.whole:
                raise FileError(
                    f"{part.path}: column {missing} of feature {name} is missing; the file has: "
                    f"{', '.join(part.columns)}"
                )
        return found

    def title(self, part: Part) -> str | None:
        """Return the column of titles.

        Raises:
            FileError: the mapping names one that the file lacks.
        """
        named = self._mapping.items.title
        if named and part.whole and named not in part.columns:
            raise FileError(f"{part.path}: column {named} of items.title is missing")
        return named or ("title" if "title" in part.columns else None)

    def add(
        self,
        columns: Mapping[str, Sequence[Any]],
        of: Mapping[str, tuple[str, ...]],
        items: Codes,
        title: str | None = None,
    ) -> dict[int, tuple[str, str]]:
        """Add the facts of a batch; returns the column and the problem of each row with a malformed one.

        Args:
            columns: cells by column, N each.
            of: the columns of each feature.
            items: (N,) codes; rows of -1 are left out.
            title: the column of titles.
        """
        bad: dict[int, tuple[str, str]] = {}
        codes = items.tolist()
        for name, used in of.items():
            self._add_feature(name, used, codes, zip(*(columns[one] for one in used), strict=True), bad)
        if title is not None:
            self._add_titles(title, codes, columns[title], bad)
        return bad

    def _add_feature(
        self,
        name: str,
        used: tuple[str, ...],
        codes: list[int],
        rows: Iterable[tuple[Any, ...]],
        bad: dict[int, tuple[str, str]],
    ) -> None:
        known, kind = self.values.setdefault(name, {}), self.kinds[name]
        for place, (code, cells) in enumerate(zip(codes, rows, strict=True)):
            if code < 0 or code in known:
                continue
            try:
                value = kind.read(cells)
                if value is not None and known:
                    kind.check(value, next(iter(known.values())))
            except ValueError as error:
                bad.setdefault(place, (used[0], str(error)))
                continue
            if value is not None:
                known[code] = value

    def _add_titles(self, column: str, codes: list[int], cells: Sequence[Any], bad: dict[int, tuple[str, str]]) -> None:
        for place, (code, cell) in enumerate(zip(codes, cells, strict=True)):
            if code < 0 or code in self.titles or not cell:
                continue
            try:
                text = " ".join(map(text_of, cell)) if isinstance(cell, list) else text_of(cell)
            except ValueError as error:
                bad.setdefault(place, (column, str(error)))
                continue
            if text:
                self.titles[code] = text
