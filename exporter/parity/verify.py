"""Parity: the torch model against its two graphs in ONNX Runtime, over shapes that were not traced.

Symbols: B rows, T sequence length, M flat candidates.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from contract.progress import Progress
from exporter.errors import ExportError
from exporter.graphs.modules import SCORES, in_context
from exporter.graphs.trace import Traced, tensors_of
from exporter.rows import RowMaker, Rows
from models.base import SequentialRecommender

TOLERANCE: Final = 1e-4
BATCH_SIZES: Final = (1, 2, 7, 64)
_COUNTS: Final = (1, 3, 200, 17)
_TOP: Final = 10
_SPLIT_DECISIONS: Final = 0.01  # share of whole-number explanations that may differ: the winner of a near-tie
_SILENT: Final = 4

Outputs = dict[str, NDArray[Any]]  # Any: float32 or int64


class Parity(NamedTuple):
    """The largest differences between torch and ONNX Runtime in one case."""

    case: str
    rows: int
    candidates: int
    state: float
    scores: float
    explanation: float

    @property
    def worst(self) -> float:
        """Return the largest difference of all."""
        return max(self.state, self.scores, self.explanation)


class OnnxPair:
    """The two graphs in ONNX Runtime on the CPU, run one after the other as the service does."""

    def __init__(self, traced: Traced) -> None:
        self._names = traced.names
        self._tables = [{name: traced.tables[name] for name in one.tables} for one in (traced.encode, traced.score)]
        self._encode, self._score = (make_session(graph.content) for graph in (traced.encode, traced.score))

    def run(self, batch: Rows) -> Outputs:
        """Return every output of both graphs by name."""
        encode_tables, score_tables = self._tables
        encoded = run_session(self._encode, {**batch.inputs, **encode_tables})
        state = {name: encoded[name] for name in self._names.state}
        return encoded | run_session(self._score, {**state, **batch.flat, **score_tables})


def torch_outputs(model: SequentialRecommender, traced: Traced, batch: Rows) -> Outputs:
    """Return every output of the model by the names of the graphs."""
    names = traced.names
    with torch.no_grad():
        encoded = model.encode(tensors_of(batch))
        context = () if batch.requests is None else batch.requests.tensors
        states = in_context(model, encoded.state, *context)
        scored = model.score(states, torch.from_numpy(batch.candidates), torch.from_numpy(batch.rows))
    state = {name: encoded.state[key] for name, key in zip(names.state, names.state_keys, strict=True)}
    tensors = {**state, **encoded.explanation, SCORES: scored.scores, **scored.explanation}
    # Detached: a state may be a parameter of the model itself, as MIMN's first memory is.
    return {name: tensor.detach().numpy() for name, tensor in tensors.items()}


def verify(model: SequentialRecommender, traced: Traced, maker: RowMaker, length: int) -> list[Parity]:
    """Compare both graphs with the model; one line per case.

    Raises:
        ExportError: a difference over the tolerance, another top ten, a score that is not finite, or a score that
            depends on the other rows of the batch or on the content of padded slots.
    """
    pair = OnnxPair(traced)
    lengths = sorted({0, 1, 2, length - 1, length, length + 10})
    report = []
    cases = list(_cases(maker, lengths))
    with Progress("comparing torch and ONNX Runtime", sum(map(_size, cases))) as progress:
        for case, batch in cases:
            expected, found = torch_outputs(model, traced, batch), pair.run(batch)
            report.append(compare(case, traced, batch, expected, found))
            progress.advance(_size((case, batch)), case)
    batch = maker.make(lengths, [3] * len(lengths))
    together = pair.run(batch)
    report.append(_alone(traced, pair, batch, together))
    report.append(compare("junk in padding", traced, batch, together, pair.run(maker.spoil_padding(batch))))
    return report


def check_weights(model: SequentialRecommender) -> None:
    """Check that every weight is finite: a NaN row passes all parity checks that do not draw its item.

    Raises:
        ExportError: a weight is not finite; the message names the parameter and its first bad row.
    """
    for name, weight in model.named_parameters():
        bad = ~torch.isfinite(weight.detach())
        if bool(bad.any()):
            row = int(bad.nonzero()[0][0]) if bad.dim() else 0
            raise ExportError(f"{name}: {int(bad.sum())} weights are not finite, the first in row {row}")


def golden_scores(model: SequentialRecommender, traced: Traced, golden: Rows) -> tuple[NDArray[np.float32], Parity]:
    """Return the model's scores (M,) of the golden rows, and ONNX Runtime's largest difference from them.

    Raises:
        ExportError: as `verify`.
    """
    expected = torch_outputs(model, traced, golden)
    parity = compare("golden", traced, golden, expected, OnnxPair(traced).run(golden))
    return expected[SCORES].astype(np.float32), parity


def _size(case: tuple[str, Rows]) -> int:
    return len(case[1].rows)


def _cases(maker: RowMaker, lengths: list[int]) -> Iterator[tuple[str, Rows]]:
    for length in lengths:
        yield f"length {length}", maker.make([length] * 2, [200, 1])
    for size in BATCH_SIZES:
        mixed = [lengths[(row + size) % len(lengths)] for row in range(size)]
        yield f"batch {size}", maker.make(mixed, [_COUNTS[row % len(_COUNTS)] for row in range(size)])


def _alone(traced: Traced, pair: OnnxPair, batch: Rows, together: Outputs) -> Parity:
    """Compare each row in a batch with the same row by itself."""
    per_candidate = {spec.name for spec in traced.score.spec.outputs}
    found = []
    for row in range(int(batch.rows.max()) + 1):
        single, mine, state = batch.only(row), batch.rows == row, batch.row_of(row)
        expected = {
            name: values[mine] if name in per_candidate else values[state : state + 1]
            for name, values in together.items()
        }
        found.append(compare("row by itself", traced, single, expected, pair.run(single)))
    return max(found, key=lambda parity: parity.worst)


def compare(case: str, traced: Traced, batch: Rows, expected: Outputs, found: Outputs) -> Parity:
    """Compare two results of a batch by name.

    Raises:
        ExportError: they differ in shape, dtype, values or order, or one is not finite.
    """
    differences = {}
    for name, values in expected.items():
        if values.shape != found[name].shape or values.dtype != found[name].dtype:
            raise ExportError(f"{case}: {name} is {found[name].dtype} {found[name].shape}, expected {values.shape}")
        if not np.isfinite(found[name]).all():
            raise ExportError(f"{case}: {name} is not finite in ONNX Runtime")
        differences[name] = _difference(case, name, values, found[name], exact=name in traced.names.state)
    _same_top(case, batch, expected[SCORES], found[SCORES])
    state = max(differences[name] for name in traced.names.state)
    shown = [differences[name] for name in differences if name != SCORES and name not in traced.names.state]
    rows = len(next(iter(batch.inputs.values())))
    return Parity(case, rows, len(batch.candidates), state, differences[SCORES], max(shown, default=0.0))


def _difference(
    case: str, name: str, expected: NDArray[Any], found: NDArray[Any], *, exact: bool
) -> float:  # Any: float32 or int64
    if not expected.size:
        return 0.0
    if expected.dtype == np.int64:
        share = float((expected != found).mean())
        if share > (0.0 if exact else _SPLIT_DECISIONS):
            raise ExportError(f"{case}: {share:.0%} of {name} differ between torch and ONNX Runtime")
        return 0.0
    worst = float(np.abs(expected.astype(np.float64) - found).max())
    if worst >= TOLERANCE:
        raise ExportError(f"{case}: {name} differs by {worst:.2g} between torch and ONNX Runtime, allowed {TOLERANCE}")
    return worst


def _same_top(case: str, batch: Rows, expected: NDArray[np.float32], found: NDArray[np.float32]) -> None:
    """Check that the best ten of every row are the same, except for ties."""
    for row in np.unique(batch.rows):
        mine = batch.rows == row
        theirs, ours = expected[mine], found[mine]
        wanted = np.sort(theirs)[::-1][:_TOP]
        chosen = theirs[np.argsort(-ours, kind="stable")[:_TOP]]
        if np.abs(wanted - chosen).max() >= 2 * TOLERANCE:
            raise ExportError(f"{case}: ONNX Runtime ranks row {row} in another order than torch")


def make_session(content: bytes) -> Any:  # Any: the package has no types
    """Return a session of a graph on one thread of the CPU."""
    onnxruntime.set_default_logger_severity(_SILENT)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def run_session(session: Any, inputs: Outputs) -> Outputs:  # Any: the package has no types
    """Return the outputs of a graph by name."""
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))
