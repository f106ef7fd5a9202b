"""The candidates of every user: the most popular items of the bundle, or those of a file."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq

from contract.command_line import CommandError
from service.bundles.bundle import Bundle, BundleError, load_bundle
from service.settings.bundles import BundlesSettings


class CandidatesError(CommandError, ValueError):
    """There is nothing to score; the message has the reason."""


class Chosen(NamedTuple):
    """Candidates, each once, and the number of others that the bundle does not know."""

    items: tuple[str, ...]
    unknown: int
    bundle: str


def chosen(bundle: Path, file: Path | None, popular: int, signers: Path | None = None) -> Chosen:
    """Return the candidates.

    Args:
        bundle: `<model>/<version>` directory.
        file: one item id per line, or Parquet with a column `item_id`; None = the most popular ones.
        popular: how many of those; 0 = all items.
        signers: public keys, one of which must have signed the bundle; None accepts every bundle.

    Raises:
        CandidatesError: the bundle is damaged, or knows none of the file's items.
    """
    try:
        loaded = load_bundle(bundle, max_bytes=BundlesSettings().max_bytes, signers=signers)
    except BundleError as error:
        raise CandidatesError(str(error)) from error
    if file is None:
        return Chosen(_popular(loaded, popular), 0, loaded.digest)
    named = list(dict.fromkeys(_read(file)))
    known = loaded.items.indices(named) > 0
    items = tuple(item for item, is_known in zip(named, known.tolist(), strict=True) if is_known)
    if not items:
        raise CandidatesError(f"{file}: {loaded.name} knows none of the {len(named)} items")
    return Chosen(items, len(named) - len(items), loaded.digest)


def _popular(bundle: Bundle, count: int) -> tuple[str, ...]:
    ids = list(bundle.items.ids)
    order = np.argsort(-bundle.popularity[1:], kind="stable")[: count or None]
    return tuple(ids[place] for place in order.tolist())


def _read(file: Path) -> list[str]:
    if file.suffix != ".parquet":
        return [line for line in file.read_text(encoding="utf-8").splitlines() if line]
    try:
        return [str(item) for item in pq.read_table(file, columns=["item_id"])["item_id"].to_pylist()]
    except (KeyError, ValueError) as error:
        raise CandidatesError(f"{file}: {error}") from None
