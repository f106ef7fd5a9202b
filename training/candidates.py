"""Negatives that queries are judged against: drawn once per data set and split, stored, the same for every system.

| Kind | Drawn | Never |
| --- | --- | --- |
| pop100 | 100 by how often an item stands in training, with replacement | the target |
| uni100 | 100 uniform over all items, with replacement | the target |
| uni1000 | 1,000 uniform over all items, with replacement | the target, and the newest 100 items of the history |

A file holds the digest of the data and of the queries it belongs to; another one is drawn anew.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Final, Literal
from uuid import uuid4
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from contract.tensors import windows
from training.prepare import Prepared
from training.sampling import uniform_negatives
from training.split import Rows, SplitError

Kind = Literal["pop100", "uni100", "uni1000"]
Negatives = NDArray[np.int32]

_SEED: Final = 20_250_717
_HISTORY: Final = 100  # newest behaviours that are no negatives of uni1000
_PIECE: Final = 1_000  # queries drawn at once, which bounds the memory


def stored_negatives(
    prepared: Prepared, name: str, kind: Kind, rows: Rows, popularity: NDArray[np.float32]
) -> Negatives:
    """Return the negatives (N, n) of some queries, from the file or drawn and written.

    Args:
        prepared: the data.
        name: of the queries, such as `leave_last_out-1-test`; the file's name.
        kind: how they are drawn.
        rows: the queries.
        popularity: (I+1,) training interactions by item index.

    Raises:
        SplitError: there are too few items to draw from.
    """
    path = prepared.directory / "negatives" / f"{name}-{kind}.npz"
    digest = _digest(prepared, kind, rows, popularity)
    known = _read(path, digest)
    if known is not None:
        return known
    drawn = _draw(prepared, kind, rows, popularity)
    path.parent.mkdir(exist_ok=True)
    partial = path.with_suffix(f".{uuid4().hex}.partial.npz")  # two trainings may draw at the same time
    np.savez_compressed(partial, negatives=drawn, digest=np.array(digest))
    partial.replace(path)
    return drawn


def _digest(prepared: Prepared, kind: Kind, rows: Rows, popularity: NDArray[np.float32]) -> str:
    queries = b"".join(column.tobytes() for column in (rows.users, rows.stops, rows.items))
    parts = (prepared.digest.encode(), f"{kind} {_SEED} {_HISTORY}".encode(), queries, popularity.tobytes())
    return sha256(b"\0".join(parts)).hexdigest()


def _read(path: Path, digest: str) -> Negatives | None:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return np.asarray(arrays["negatives"], dtype=np.int32) if str(arrays["digest"]) == digest else None
    except (OSError, ValueError, KeyError, BadZipFile):
        return None


def _draw(prepared: Prepared, kind: Kind, rows: Rows, popularity: NDArray[np.float32]) -> Negatives:
    rng = np.random.default_rng((_SEED, len(rows.users)))
    pieces = [rows.take(np.arange(at, min(at + _PIECE, len(rows.users)))) for at in range(0, len(rows.users), _PIECE)]
    drawn = [_DRAW[kind](rng, prepared, piece, popularity).astype(np.int32) for piece in pieces]
    return np.concatenate(drawn) if drawn else np.zeros((0, 0), dtype=np.int32)


def _by_popularity(
    rng: np.random.Generator, prepared: Prepared, rows: Rows, popularity: NDArray[np.float32]
) -> NDArray[np.int64]:
    """Draw 100 by popularity; the target's own chance goes to the others (a draw that hits it is drawn again)."""
    if np.count_nonzero(popularity) < 2:
        raise SplitError("negatives by popularity need two items in training")
    chances = popularity.astype(np.float64) / popularity.sum(dtype=np.float64)
    drawn = rng.choice(len(chances), size=(len(rows.users), 100), p=chances)
    while (hit := drawn == rows.items[:, None]).any():
        drawn[hit] = rng.choice(len(chances), size=int(hit.sum()), p=chances)
    return drawn


def _uniform(
    rng: np.random.Generator, prepared: Prepared, rows: Rows, popularity: NDArray[np.float32]
) -> NDArray[np.int64]:
    return uniform_negatives(rng, rows.items[:, None], len(prepared.items), 100)


def _outside_history(
    rng: np.random.Generator, prepared: Prepared, rows: Rows, popularity: NDArray[np.float32]
) -> NDArray[np.int64]:
    history = windows({"items": prepared.columns["items"]}, rows.starts, rows.stops, _HISTORY)["items"]
    return uniform_negatives(rng, np.concatenate((history, rows.items[:, None]), axis=1), len(prepared.items), 1000)


_Draw = Callable[[np.random.Generator, Prepared, Rows, NDArray[np.float32]], NDArray[np.int64]]
_DRAW: Final[dict[Kind, _Draw]] = {"pop100": _by_popularity, "uni100": _uniform, "uni1000": _outside_history}
