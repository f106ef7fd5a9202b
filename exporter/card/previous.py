"""The bundle before a new one: the newest complete version of the same model in the bundles folder."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from contract.bundle import manifest as names
from contract.bundle.manifest import Manifest, ManifestError, read_manifest
from contract.bundle.vocabulary import Vocabulary
from exporter.run.directory import Run

FIRST_EVENT: Final = "first event"
LAST_EVENT: Final = "last event"
"""Labels of a model card's rows; the next card reads them, because a manifest has no data span."""


class Previous(NamedTuple):
    """The bundle before.

    Attributes:
        manifest: its manifest.
        added, removed: items that only the new run, or only the bundle before knows; None if its file is unreadable.
        first_event, last_event: of its data, as its card tells; empty if it does not.
    """

    manifest: Manifest
    added: int | None
    removed: int | None
    first_event: str
    last_event: str


def previous_bundle(home: Path, run: Run) -> Previous | None:
    """Return the newest version below the model's folder, by time of export; None if there is none."""
    manifests = sorted(_manifests(home), key=lambda found: (found[0].created_at, found[0].version))
    if not manifests:
        return None
    manifest, directory = manifests[-1]
    before = _items(directory)
    now = set(run.items.ids)
    added, removed = (None, None) if before is None else (len(now - before), len(before - now))
    card = _text(directory / names.MODEL_CARD)
    return Previous(manifest, added, removed, _row(card, FIRST_EVENT), _row(card, LAST_EVENT))


def _manifests(home: Path) -> Iterator[tuple[Manifest, Path]]:
    for path in home.glob(f"[!.]*/{names.MANIFEST}"):
        try:
            yield read_manifest(path.parent), path.parent
        except ManifestError:  # a bundle of another contract, or damaged: not one to compare with
            continue


def _items(directory: Path) -> set[str] | None:
    try:
        return set(Vocabulary.parse((directory / names.ITEMS).read_bytes()).ids)
    except (OSError, ValueError):
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


def _row(card: str, label: str) -> str:
    found = re.search(rf"^\| {label} \| ([^|\n]+) \|$", card, re.MULTILINE)
    return found[1].strip() if found else ""
