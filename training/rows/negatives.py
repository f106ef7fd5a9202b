"""Negatives: of training rows, drawn each time, and of the queries of an evaluation.

Negatives of queries are drawn once per data set and split, stored, and are the same for every system.

| Kind | Drawn | Never |
| --- | --- | --- |
| pop100 | 100 by the item's count in training, with replacement | the target |
| uni100 | 100 uniform over all items, with replacement | the target |
| uni1000 | 1,000 uniform over all items, with replacement | the target, and the newest 100 items of the history |

A file contains the digest of its data and queries; if they differ, the negatives are drawn again.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from contract.bundle.tensors import windows
from contract.command_line import CommandError
from contract.files import BadFileError, read_arrays, write_arrays
from contract.progress import Progress
from training.data.prepare import Prepared
from training.rows.split import Rows, SplitError

Kind = Literal["pop100", "uni100", "uni1000"]
Negatives = NDArray[np.int32]

_SEED: Final = 20_250_717
_HISTORY: Final = 100  # newest behaviours that are excluded from uni1000
_PIECE: Final = 1_000  # queries drawn at once, which bounds the memory


class SamplingError(CommandError, ValueError):
    """There are too few items to draw negatives from; the message has their number."""


def uniform_negatives(
    rng: np.random.Generator, excluded: NDArray[np.int64], item_count: int, count: int
) -> NDArray[np.int64]:
    """Return the items of `draw_outside`."""
    return draw_outside(rng, excluded, item_count, count)[0]


def draw_outside(
    rng: np.random.Generator, excluded: NDArray[np.int64], item_count: int, count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw `count` item indices per row, each uniform over 1 ... I without the row's excluded ones.

    Returns the items (B, count), and how many items each row's are drawn from (B, 1).

    Exact in one pass, without rejection: a number is drawn among the allowed items' ranks, then moved up past the
    excluded items at or below it.

    Args:
        rng: the source of all randomness.
        excluded: (B, T) item indices in any order; 0 and repeats are allowed.
        item_count: I.
        count: draws per row, with replacement.

    Raises:
        SamplingError: a row excludes every item.
    """
    beyond = item_count + 1
    ordered = np.sort(excluded, axis=1)
    ordered[:, 1:][ordered[:, 1:] == ordered[:, :-1]] = 0
    ordered = np.sort(np.where(ordered == 0, beyond, ordered), axis=1) - 1  # from 0; absent ones at the end
    real = ordered < item_count
    allowed = item_count - real.sum(axis=1, keepdims=True)
    if int(allowed.min(initial=1)) < 1:
        raise SamplingError(
            f"no negatives to draw: a history and its target contain all {item_count:,} items; "
            "use a shorter config.length, or a model that draws no negatives (training.negatives = 0)"
        )
    # The j-th excluded item has ordered[j] - j allowed items below it.
    below = np.where(real, ordered - np.arange(ordered.shape[1]), item_count)
    drawn = (rng.random((len(excluded), count)) * allowed).astype(np.int64)
    lanes = np.arange(len(excluded))[:, None] * (2 * beyond)  # keeps the rows apart in one sorted array
    passed = np.searchsorted((below + lanes).ravel(), (drawn + lanes).ravel(), side="right").reshape(drawn.shape)
    items = drawn + passed - np.arange(len(excluded))[:, None] * ordered.shape[1] + 1
    return np.asarray(items, dtype=np.int64), allowed


def stored_negatives(
    prepared: Prepared, name: str, kind: Kind, rows: Rows, popularity: NDArray[np.float32]
) -> Negatives:
    """Return the negatives (N, n) of some queries, from the file or drawn and written.

    Args:
        prepared: the data.
        name: of the queries, such as `leave_last_out-1-test`; the file's name.
        kind: the way they are drawn.
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
    write_arrays(path, {"negatives": drawn, "digest": np.array(digest)})
    return drawn


def _digest(prepared: Prepared, kind: Kind, rows: Rows, popularity: NDArray[np.float32]) -> str:
    queries = b"".join(column.tobytes() for column in (rows.users, rows.stops, rows.items))
    parts = (prepared.digest.encode(), f"{kind} {_SEED} {_HISTORY}".encode(), queries, popularity.tobytes())
    return sha256(b"\0".join(parts)).hexdigest()


def _read(path: Path, digest: str) -> Negatives | None:
    try:
        arrays = read_arrays(path)
        return np.asarray(arrays["negatives"], dtype=np.int32) if str(arrays["digest"]) == digest else None
    except (BadFileError, KeyError):
        return None


def _draw(prepared: Prepared, kind: Kind, rows: Rows, popularity: NDArray[np.float32]) -> Negatives:
    rng = np.random.default_rng((_SEED, len(rows.users)))
    drawn = []
    with Progress("drawing negatives", len(rows.users)) as progress:
        for start in range(0, len(rows.users), _PIECE):
            piece = rows.take(np.arange(start, min(start + _PIECE, len(rows.users))))
            drawn.append(_DRAW[kind](rng, prepared, piece, popularity).astype(np.int32))
            progress.advance(_PIECE)
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
