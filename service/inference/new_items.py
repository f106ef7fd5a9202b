"""The graphs for new items as sessions: they run beside `encode` and `score`, which stay as they are.

Symbols: C new items, M flat candidates, E and S widths of the two rows that describe a new item.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from contract.bundle.manifest import GraphName, GraphSpec
from service.bundles.bundle import Bundle
from service.bundles.new_items import NewItems
from service.inference.faults import EngineError, engine_error
from service.inference.sessions import check_graph, make_session, session_options

MAX_KEPT: Final = 20_000
"""Rows of new items in memory; two rows of 64 numbers take about 1 kB. No batch has as many candidates."""
_KEY_BYTES: Final = 16

Arrays = Mapping[str, NDArray[Any]]  # Any: int64 or float32, by the manifest
_NO_CONTEXT: Final[Arrays] = {}


class NewItem(NamedTuple):
    """A candidate that training never met.

    Attributes:
        key: of its codes; items of one key have one row.
        codes: (values,) of each feature, in the bundle's order.
    """

    key: bytes
    codes: tuple[NDArray[np.int64], ...]

    @classmethod
    def of(cls, codes: Iterable[NDArray[np.int64]]) -> NewItem:
        """Return the item of these codes."""
        listed = tuple(codes)
        return cls(blake2b(b"".join(one.tobytes() for one in listed), digest_size=_KEY_BYTES).digest(), listed)


class Described(NamedTuple):
    """The rows of new items that `encode` and `score` read."""

    history: NDArray[np.float32]  # (C, E)
    candidates: NDArray[np.float32]  # (C, S)


class _Rows(NamedTuple):
    history: NDArray[np.float32]  # (E,)
    candidates: NDArray[np.float32]  # (S,)


class NewItemGraphs:
    """The three graphs of one bundle, on the CPU: a new item is described once, and its rows are kept by the caller.

    Args:
        bundle: verified.
        new: its part for new items.
        threads: of one run.

    Raises:
        EngineError: a graph cannot be loaded, or differs from the manifest.
    """

    def __init__(self, bundle: Bundle, new: NewItems, threads: int) -> None:
        self._bundle = bundle
        self._rows: dict[bytes, _Rows] = {}  # by the key of a new item; of the inference thread
        options, manifest = session_options(threads), bundle.manifest
        specs: dict[GraphName, GraphSpec] = {
            "item": new.spec.item, "encode_new": new.spec.encode, "score_new": new.spec.score,
        }  # fmt: skip
        self._sessions, self._tables = {}, {}
        for name, spec in specs.items():
            self._sessions[name] = make_session(name, new.models[name], options, wants_cuda=False)
            check_graph(name, self._sessions[name], spec, manifest.tables_of(name))
            self._tables[name] = {one.name: bundle.tables.arrays[one.name] for one in manifest.tables_of(name)}

    def vectors(self, items: Sequence[NewItem]) -> NDArray[np.float32]:
        """Return the candidates' rows (C, S) of new items; each is computed once, and the newest are kept.

        Raises:
            EngineError: the run failed.
        """
        return np.stack([row.candidates for row in self._described(items)])

    def behaviours(self, items: Sequence[NewItem]) -> NDArray[np.float32]:
        """Return the histories' rows (C, E) of new items, as `vectors` does.

        Raises:
            EngineError: the run failed.
        """
        return np.stack([row.history for row in self._described(items)])

    def _described(self, items: Sequence[NewItem]) -> list[_Rows]:
        missing = list({item.key: item for item in items if item.key not in self._rows}.values())
        if len(self._rows) + len(missing) > MAX_KEPT:
            self._rows.clear()
            missing = list({item.key: item for item in items}.values())
        if missing:
            columns = zip(*(item.codes for item in missing), strict=True)
            described = self.describe({f"feature_{place}": np.stack(codes) for place, codes in enumerate(columns)})
            for item, *rows in zip(missing, described.history, described.candidates, strict=True):
                self._rows[item.key] = _Rows(*(row.copy() for row in rows))  # or one row would keep the whole run
        return [self._rows[item.key] for item in items]

    def describe(self, codes: Arrays) -> Described:
        """Return the rows of new items from the codes (C, values) of their features.

        Raises:
            EngineError: the run failed.
        """
        found = self._run("item", codes)
        return Described(found["history"], found["candidates"])

    def encode(self, inputs: Arrays, history: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Return states and explanations of rows; item index `item_count` + 1 + c means row c of `history`.

        Raises:
            EngineError: the run failed.
        """
        return self._run("encode_new", {**inputs, "new_items": history})

    def score(
        self, state: Arrays, vectors: NDArray[np.float32], rows: NDArray[np.int64], context: Arrays = _NO_CONTEXT
    ) -> dict[str, NDArray[Any]]:
        """Return scores and explanations of new items (M, S), each under its row of the state, or request with context.

        Raises:
            EngineError: the run failed.
        """
        states = {name: state[name] for name in self._bundle.manifest.state}
        return self._run("score_new", {**states, "vectors": vectors, "rows": rows, **context})

    def verify_golden(self) -> float:
        """Compare scores of the golden rows with new items; return the largest difference.

        Raises:
            EngineError: a score is not finite, or further off than the manifest's tolerance.
        """
        golden, manifest = self._bundle.golden, self._bundle.manifest
        described = self.describe({name[5:]: golden[name] for name in golden if name.startswith("item.")})
        inputs = {name: golden[f"encode.{name}"] for name in manifest.sequence.names} | {"items": golden["new.items"]}
        state = self.encode(inputs, described.history)
        vectors = described.candidates[golden["new.candidates"]]
        context, expected = self._bundle.golden_context(), golden["new.scores"]
        scores = self.score(state, vectors, golden["new.rows"], context)["scores"]
        if scores.shape != expected.shape or not np.isfinite(scores).all():
            raise EngineError("golden scores of new items: as many finite scores as golden rows are needed")
        difference = float(np.abs(scores - expected).max())
        if difference > manifest.golden_tolerance:
            allowed = manifest.golden_tolerance
            raise EngineError(f"golden scores of new items differ by {difference:.2g}, allowed {allowed:.2g}")
        return difference

    def _run(self, graph: GraphName, inputs: Arrays) -> dict[str, NDArray[Any]]:
        session = self._sessions[graph]
        names = [output.name for output in session.get_outputs()]
        try:
            return dict(zip(names, session.run(names, {**inputs, **self._tables[graph]}), strict=True))
        except Exception as error:  # ONNX Runtime's exceptions share no base of their own
            raise engine_error(graph, error) from error
