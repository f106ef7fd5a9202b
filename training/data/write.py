"""Writes the files of prepared data from the rows that remain; the table is in `prepare.py`."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path
from typing import IO, Any, Final

import numpy as np

from contract.behaviours.actions import ACTIONS
from contract.bundle.vocabulary import Vocabulary
from contract.progress import Progress
from training.data.attributes import write_attributes
from training.data.column_files import ColumnFiles
from training.data.datasets.interactions import Described
from training.data.features import item_features
from training.data.item_field import ItemField
from training.data.kept import COLUMNS, IMPRESSIONS, Columns, Kept
from training.data.known import Known
from training.data.life import Life
from training.data.plausibility import Report

IMPRESSIONS_FILE: Final = "impressions.npz"
NUMBERS_FILE: Final = "item_numbers.npz"
_CHUNK: Final = 65_536  # rows written at once: Python's numbers take several times the memory of a column's


def write_rows(kept: Kept, directory: Path, rows: int, *, has_times: bool) -> tuple[dict[str, int], Life, Report]:
    """Write interactions, impressions and vocabularies; returns counts, the life of items, and that of the last day.

    Args:
        kept: what to write.
        directory: of the files.
        rows: of the source; at most so many are written.
        has_times: whether the times mean something.
    """
    users, items = Vocabulary(kept.user_ids), Vocabulary(kept.item_ids)
    users.write(directory / "users.json")
    items.write(directory / "items.json")
    write_attributes(directory, kept.attributes)
    life = Life(len(users), len(items), time.time_ns() // 1_000_000)
    columns, context = ColumnFiles(directory / "columns", (*COLUMNS, *kept.attribute_columns)), 0
    target = (directory / "behaviours.csv").open("w", encoding="utf-8", newline="")
    with target as file, Progress("writing rows", rows) as progress:
        file.write("user_id,item_id,ts,action,play_ms,value\n")
        for batch in kept.batches():
            columns.add(batch)
            life.add(batch)
            context += int(batch["context"].sum())
            _write_behaviours(file, batch, kept, progress)
    last_day = life.last_day(columns.chunks(("items", "times_ms"))) if has_times else {}
    starts = np.concatenate(([0], np.cumsum(life.by_user))).astype(np.int64)
    counts = {"users": len(users), "items": len(items), "interactions": columns.rows, "context": context}
    columns.save(directory / "interactions.npz", user_starts=starts)
    return counts | _write_impressions(kept, directory), life, last_day


def _write_impressions(kept: Kept, directory: Path) -> dict[str, int]:
    if kept.shown is None:
        return {}
    shown, positive = ColumnFiles(directory / "shown", (*IMPRESSIONS, *kept.outcomes, *kept.attribute_columns)), 0
    for batch in kept.shown():
        shown.add(batch)
        positive += int(batch["labels"].sum())
    shown.save(directory / IMPRESSIONS_FILE)
    return {"impressions": shown.rows, "impressions_positive": positive}


def write_features(raw: Described, item_ids: list[str], known: Known, directory: Path) -> dict[str, ItemField]:
    """Write the features of items: codes with their names, and numbers; return them."""
    if raw.fields is None:
        found = item_features(item_ids, raw.catalogue, known.features)
        fields = {name: ItemField(one) for name, one in found.items()}
    else:
        fields = {name: field.code(item_ids, known.names(name)) for name, field in raw.fields.items()}
    coded = {name: field.features for name, field in fields.items() if field.features is not None}
    numbers = {name: field.numbers for name, field in fields.items() if field.numbers is not None}
    np.savez_compressed(directory / "features.npz", **{name: one.codes for name, one in coded.items()})  # type: ignore[arg-type]
    if numbers:
        np.savez_compressed(directory / NUMBERS_FILE, **numbers)  # type: ignore[arg-type]
    described: dict[str, Any] = {}
    for name, one in coded.items():
        described[name] = {"cardinality": len(one.names) + 1, "width": one.codes.shape[1], "names": ["", *one.names]}
        if fields[name].kind:
            described[name]["kind"] = fields[name].kind
        if fields[name].edges:
            described[name]["edges"] = list(fields[name].edges)
    write_json(directory / "features.json", described)
    return fields


def write_json(path: Path, document: object, indent: int | None = None) -> None:
    """Write a JSON document."""
    path.write_text(json.dumps(document, ensure_ascii=False, indent=indent) + "\n", encoding="utf-8")


def _write_behaviours(file: IO[str], batch: Columns, kept: Kept, progress: Progress) -> None:
    writer = csv.writer(file, lineterminator="\n")
    names = ("users", "items", "times_ms", "actions", "plays", "values")
    for start in range(0, len(batch["users"]), _CHUNK):
        part = slice(start, start + _CHUNK)
        rows = zip(*(batch[name][part].tolist() for name in names), strict=True)
        writer.writerows(
            (
                kept.user_ids[user], kept.item_ids[item - 1], time_ms, ACTIONS[action - 1],
                play or "", value / 10 if value else "",
            )
            for user, item, time_ms, action, play, value in rows
        )  # fmt: skip
        progress.advance(len(batch["users"][part]))
