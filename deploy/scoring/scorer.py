"""One worker's scoring: it loads a bundle once, then turns histories into lists of the best items.

Bundles are verified, inputs made and graphs run by the code of the service, so the scores are those of `POST /rank`.
Symbols: B users, N candidates.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from contract.behaviours.records import Records, unpack
from contract.command_line import CommandError
from service.bundles.bundle import BundleError, load_bundle
from service.inference.engine import EngineError, OnnxEngine, ProviderChoice
from service.inference.inputs import RankRow
from service.inference.scorer import Inference, NothingScored, ScoredRow
from service.inference.state_cache import StateCache
from service.ranking.candidates import best, candidates_of
from service.ranking.seen import seen_places
from service.settings.bundles import BundlesSettings

MAX_RUN: Final = 16_384  # candidates of one run of `score`: 8,000 to 32,000 cost the same each, 65,536 three times that
SCHEMA: Final = pa.schema(
    [("user_id", pa.string()), ("item_ids", pa.list_(pa.string())), ("scores", pa.list_(pa.float32()))]
)


class ScoringError(CommandError, RuntimeError):
    """Users cannot be scored; the message has the reason."""


@dataclass(frozen=True)
class Plan:
    """How to score.

    Attributes:
        bundle: `<model>/<version>` directory.
        items: candidates of every user, each once and known to the bundle.
        top: items of a list.
        seen: whether items of the user's history may be in it.
        request_time_ms: for models that read the time of the request.
        provider: of ONNX Runtime.
        threads: of one run.
        signers: public keys, one of which must have signed the bundle; None accepts every bundle.
    """

    bundle: Path
    items: tuple[str, ...]
    top: int
    seen: Literal["keep", "drop"]
    request_time_ms: int
    provider: ProviderChoice = "cpu"
    threads: int = 1
    signers: Path | None = None


class UserScorer:
    """Scores batches of users.

    Args:
        plan: the same for all workers.

    Raises:
        ScoringError: the bundle is damaged, or does not give its golden scores here.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        try:
            self._bundle = load_bundle(plan.bundle, max_bytes=BundlesSettings().max_bytes, signers=plan.signers)
            engine = OnnxEngine(self._bundle, plan.provider, plan.threads)
            engine.verify_golden()
        except (BundleError, EngineError) as error:
            raise ScoringError(str(error)) from error
        self._inference = Inference(self._bundle, engine, StateCache(0))
        self._candidates = candidates_of(plan.items, self._bundle.items)
        self._ids = pa.array(plan.items, pa.string())
        most = min(self._bundle.manifest.max_candidates, MAX_RUN)
        indices = self._candidates.indices
        self._pieces = [indices[start : start + most] for start in range(0, len(indices), most)]

    def __call__(self, histories: pa.Table) -> pa.Table:
        """Return the best items of users with the columns `user_id` and `records`."""
        users = histories["user_id"].to_pylist()
        read = unpack(histories["records"].to_pylist())
        rows = np.split(read.records, np.cumsum(read.counts)[:-1])
        step = max(1, MAX_RUN // len(self._plan.items))
        lists: list[tuple[NDArray[np.int64], NDArray[np.float32]]] = []
        for start in range(0, len(users), step):
            lists += self._best(users[start : start + step], rows[start : start + step])
        return _table(histories["user_id"], self._ids, lists)

    def _best(self, users: list[str], histories: list[Records]) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Return places among the candidates and scores of the users' best items."""
        time_ms = self._plan.request_time_ms
        pairs = zip(users, histories, strict=True)
        rows = [RankRow(user, records, piece, time_ms) for user, records in pairs for piece in self._pieces]
        results = [self._whole(row, found) for row, found in zip(rows, self._run(rows), strict=True)]
        scores = np.concatenate(results).reshape(len(users), -1)  # (B, N)
        return [self._top(records, own) for records, own in zip(histories, scores, strict=True)]

    def _run(self, rows: list[RankRow]) -> list[ScoredRow | Exception]:
        """Score rows in runs of a bounded size; equal histories in one run are encoded once."""
        step = max(1, MAX_RUN // max(map(len, self._pieces)))
        return [one for start in range(0, len(rows), step) for one in self._inference.run(rows[start : start + step])]

    def _whole(self, row: RankRow, found: ScoredRow | Exception) -> NDArray[np.float32]:
        """Return a score for each candidate of a row; minus infinity for those without one."""
        scores = np.full(len(row.candidates), -np.inf, dtype=np.float32)
        if isinstance(found, ScoredRow):
            scores[slice(None) if found.finite is None else found.finite] = found.scores
        elif not isinstance(found, NothingScored):
            raise ScoringError(f"user {row.user_id[:64]!r}: {found}") from found
        return scores

    def _top(self, records: Records, scores: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        if self._plan.seen == "drop":
            scores[seen_places(self._candidates, self._bundle.items, records)] = -np.inf
        order = best(scores, min(self._plan.top, len(scores)))
        order = order[np.isfinite(scores[order])]
        return order, scores[order]


def _table(users: Any, ids: Any, lists: list[tuple[NDArray[np.int64], NDArray[np.float32]]]) -> pa.Table:
    offsets = pa.array(np.cumsum([0, *(len(order) for order, _ in lists)]), pa.int32())
    items = ids.take(pa.array(np.concatenate([order for order, _ in lists])))
    scores = pa.array(np.concatenate([scores for _, scores in lists]), pa.float32())
    columns = [users, pa.ListArray.from_arrays(offsets, items), pa.ListArray.from_arrays(offsets, scores)]
    return pa.table(columns, schema=SCHEMA)
