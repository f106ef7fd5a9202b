"""Tiny real bundles for tests: graphs written by hand with onnx.helper, no torch, and the numbers they must give.

The model is of class A: the state is the mean of the read items' vectors, a score is
`offset + bias[item] + state . vector[item]`. Test conditions are parameters: two bundles with disjoint score
ranges, a graph that fails on one item, a score that is not finite.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from contract.behaviours.actions import ACTION_CODES
from contract.behaviours.records import Records, item_keys, records_from_columns
from contract.bundle import manifest as names
from contract.bundle.manifest import GraphSpec, Manifest, Provenance, TableSpec, TensorSpec, digest_of, write_manifest
from contract.bundle.tensors import RowInput, SequenceSpec
from contract.bundle.vocabulary import Vocabulary

WIDTH = 4
_FAR = 10_000_000  # an index outside every table: Gather fails on it


def behaviours(
    item_ids: Sequence[str], *, start_ms: int = 1_000, action: str = "click", times_ms: Sequence[int] | None = None
) -> Records:
    """Return checked records of these items, one millisecond apart unless times are given."""
    count = len(item_ids)
    return records_from_columns(
        item_keys(item_ids),
        np.array(times_ms if times_ms is not None else range(start_ms, start_ms + count), dtype=np.int64),
        np.full(count, ACTION_CODES[action], dtype=np.uint8),
        np.zeros(count, dtype=np.int64),
        np.zeros(count, dtype=np.float64),
    )


@dataclass(frozen=True)
class TinyModel:
    """The contents of a tiny bundle; item ids are `i1`, `i2`, ... and user ids `u1`, `u2`, ..."""

    model: str = "tiny"
    version: str = "1"
    items: int = 20
    users: int = 0  # more than 0: the model reads the user, and adds 1000 * its index to every score
    length: int = 5
    offset: float = 0.0  # all scores are within 2 of it, unless the user is read
    slope: float = 1.0  # how much more the last item's score starts from than the first one's; below 0 it is less
    reads_time: bool = False  # adds request_time / 1000 to every score
    poison_candidate: int | None = None  # `score` fails as a whole when this index is a candidate
    poison_item: int | None = None  # `encode` fails as a whole when this index is in a history
    nan_candidate: int | None = None  # the score of this index is not a number, though all weights are
    nan_weight: int | None = None  # the weight of this index is not a number
    nan_item: int | None = None  # with this index in a history, no score is a number
    trips: int = 0  # of a loop that changes nothing and takes time: in `score`, always
    slow_item: int | None = None  # with this: in `encode`, where the index is in a history of the batch
    tabled: bool = False  # the item vectors are a table of their own
    targets: bool = False  # a second target `like`, which falls by item, has weight 0 beside `click`, the score
    hog: int = 0  # numbers that `score` fills for each candidate, for nothing
    spoilt: frozenset[str] = field(default_factory=frozenset)  # "golden": expected scores are wrong

    @property
    def item_ids(self) -> list[str]:
        """Return ids in index order, from index 1."""
        return [f"i{index}" for index in range(1, self.items + 1)]

    @property
    def vectors(self) -> NDArray[np.float32]:
        """Return item vectors (items + 1, WIDTH), zeros at 0."""
        table = np.random.default_rng(7).uniform(-0.5, 0.5, (self.items + 1, WIDTH)).astype(np.float32)
        table[0] = 0
        return table

    @property
    def bias(self) -> NDArray[np.float32]:
        """Return what each item's score starts from, (items + 1,)."""
        bias = np.float32(self.offset) + np.linspace(0, self.slope, self.items + 1, dtype=np.float32)
        if self.nan_weight is not None:
            bias[self.nan_weight] = np.nan
        return bias

    @property
    def tables(self) -> tuple[TableSpec, ...]:
        """Return the tables that are files of their own."""
        if not self.tabled:
            return ()
        shape = (self.items + 1, WIDTH)
        return (TableSpec(name="table_0", dtype="float32", shape=shape, graphs=("encode", "score")),)

    @property
    def popularity(self) -> NDArray[np.float32]:
        """Return counts: the higher the index, the fewer."""
        return np.array([0, *range(self.items, 0, -1)], dtype=np.float32)

    @property
    def sequence(self) -> SequenceSpec:
        """Return what `encode` reads."""
        row_inputs: tuple[RowInput, ...] = ("user",) if self.users else ()
        return SequenceSpec(
            length=self.length, row_inputs=(*row_inputs, *(("request_time",) if self.reads_time else ()))
        )

    def expected(
        self, history: Sequence[int], candidates: Sequence[int], user: int = 0, time_ms: int = 0
    ) -> NDArray[np.float32]:
        """Return the scores that the graphs must give, computed by numpy; `history` oldest first."""
        read = list(history)[-self.length :]
        state = self.vectors[read].sum(axis=0) / max(1, len(read))
        shift = np.float32(1000 * user + (time_ms / 1000 if self.reads_time else 0))
        chosen = np.asarray(candidates, dtype=np.int64)
        return (self.bias[chosen] + self.vectors[chosen] @ state + shift).astype(np.float32)

    def write(self, bundles: Path) -> Path:
        """Write the bundle below `bundles` and return its directory."""
        directory = bundles / self.model / self.version
        directory.mkdir(parents=True)
        (directory / names.ENCODE).write_bytes(self.encode_graph().SerializeToString())
        (directory / names.SCORE).write_bytes(self.score_graph().SerializeToString())
        Vocabulary(self.item_ids).write(directory / names.ITEMS)
        if self.users:
            Vocabulary([f"u{index}" for index in range(1, self.users + 1)]).write(directory / names.USERS)
        np.save(directory / names.POPULARITY, self.popularity)
        for table in self.tables:
            np.save(directory / table.file, self.vectors)
        titles = {item_id: {"title": f"Film {item_id}"} for item_id in self.item_ids}
        (directory / names.CATALOGUE).write_text(json.dumps({"items": titles}))
        np.savez(directory / names.GOLDEN, **self.golden())
        (directory / names.MODEL_CARD).write_text("# A tiny model for tests\n")
        self.seal(directory)
        return directory

    def seal(self, directory: Path) -> None:
        """Write the manifest for the files as they now stand."""
        files = {path.name: digest_of(path.read_bytes()) for path in directory.iterdir() if path.name != names.MANIFEST}
        write_manifest(directory, self.manifest(files))

    def golden(self) -> dict[str, NDArray[np.int64] | NDArray[np.float32]]:
        """Return two golden rows, one of them empty, with three candidates each."""
        history = [1, 2, 3][-self.length :]
        items = np.zeros((2, self.length), dtype=np.int64)
        items[1, self.length - len(history) :] = history
        candidates = np.array([1, 2, 3, 1, 2, 3], dtype=np.int64)
        scores = np.concatenate([self.expected([], [1, 2, 3]), self.expected(history, [1, 2, 3])])
        arrays = {"encode.items": items, "candidates": candidates, "rows": np.array([0, 0, 0, 1, 1, 1], dtype=np.int64)}
        rows = {f"encode.{name}": np.zeros(2, dtype=np.int64) for name in self.sequence.row_inputs}
        return {**arrays, **rows, "scores": scores + np.float32(1 if "golden" in self.spoilt else 0)}

    def manifest(self, files: dict[str, str]) -> Manifest:
        """Return the manifest for files of these digests."""
        inputs = [TensorSpec(name="items", dtype="int64", shape=("B", self.length))]
        inputs += [TensorSpec(name=name, dtype="int64", shape=("B",)) for name in self.sequence.row_inputs]
        state = (
            TensorSpec(name="mean", dtype="float32", shape=("B", WIDTH)),
            TensorSpec(name="shift", dtype="float32", shape=("B", 1)),
        )
        flat = [TensorSpec(name=name, dtype="int64", shape=("M",)) for name in ("candidates", "rows")]
        weights = TensorSpec(name="period_weights", dtype="float32", shape=("B", 3))
        scores = TensorSpec(name="scores", dtype="float32", shape=("M",))
        level = TensorSpec(name="level", dtype="int64", shape=("M",))
        chances = [TensorSpec(name=name, dtype="float32", shape=("M",)) for name in self._chances]
        return Manifest(
            contract_version=names.contract_version_of(self.tables, targets=self.targets), model=self.model,
            version=self.version, serving_class="A", created_at="2000-01-01T00:00:00Z", files=files,
            sequence=self.sequence, item_count=self.items, user_count=self.users,
            encode=GraphSpec(inputs=tuple(inputs), outputs=(*state, weights)),
            score=GraphSpec(inputs=(*state, *flat), outputs=(scores, level, *chances)), tables=self.tables,
            targets={"click": 1.0, "like": 0.0} if self.targets else {},
            state=("mean", "shift"), explanation=("period_weights", "level", *(one.name for one in chances)),
            max_candidates=2_000,
            golden_tolerance=1e-4, parameters=1,
            metrics={"ndcg@10": 0.1},
            provenance=Provenance(
                run_id="test", recipe_digest="", git_revision=None, dataset="made", dataset_digest="",
                torch_version="none", exporter="tests",
            ),
        )  # fmt: skip

    def encode_graph(self) -> ModelProto:
        """Return the graph from histories to `mean` (B, WIDTH), `shift` (B, 1) and `period_weights` (B, 3)."""
        nodes = [
            helper.make_node("Equal", ["items", "zero"], ["padded"]),
            helper.make_node("Not", ["padded"], ["real"]),
            helper.make_node("Cast", ["real"], ["mask"], to=TensorProto.FLOAT),
            helper.make_node("ReduceSum", ["mask", "last"], ["count"], keepdims=1),
            helper.make_node("Max", ["count", "one"], ["divisor"]),
            *_poisoned("items", "safe_items", self.poison_item),
            helper.make_node("Gather", [self._vectors, "safe_items"], ["read"]),
            helper.make_node("ReduceSum", ["read", "last"], ["sum"], keepdims=0),
            helper.make_node("Div", ["sum", "divisor"], ["clean" if self.nan_item else "mean"]),
            *_spoilt("clean", "items", "mean", self.nan_item),
            *self._rounds(),
            *_looped("count", "late_count", "rounds" if self.slow_item else None),
            helper.make_node("Concat", ["late_count", "divisor", "count"], ["thirds"], axis=1),
            helper.make_node("Softmax", ["thirds"], ["period_weights"], axis=1),
            *self._shift(),
        ]
        rows = [_value(name, TensorProto.INT64, ["B"]) for name in self.sequence.row_inputs]
        constants = {"vectors": self.vectors, "zero": np.int64(0), "last": np.array([1]), "one": np.float32(1)}
        constants |= {
            "thousand": np.float32(1000),
            "thousandth": np.float32(0.001),
            "poison": np.int64(self.poison_item or 0),
            "spoilt": np.int64(self.nan_item or 0),
            "slow": np.int64(self.slow_item or 0),
            "trips": np.int64(self.trips),
            "go_on": np.array(True),
            "none": np.float32(0),
        }
        outputs = [("mean", ["B", WIDTH]), ("shift", ["B", 1]), ("period_weights", ["B", 3])]
        return _model(
            nodes,
            [_value("items", TensorProto.INT64, ["B", self.length]), *rows, *self._table_inputs],
            [_value(name, TensorProto.FLOAT, shape) for name, shape in outputs],
            constants,
        )

    def score_graph(self) -> ModelProto:
        """Return the graph from states and flat candidates to `scores` (M,) and `level` (M,)."""
        nodes = [
            *_poisoned("candidates", "safe", self.poison_candidate),
            helper.make_node("Gather", [self._vectors, "safe"], ["item"]),
            helper.make_node("Gather", ["mean", "rows"], ["user"]),
            helper.make_node("Gather", ["shift", "rows"], ["shifts"]),
            helper.make_node("Mul", ["item", "user"], ["product"]),
            helper.make_node("Concat", ["product", "shifts"], ["terms"], axis=1),
            helper.make_node("ReduceSum", ["terms", "last"], ["dot"], keepdims=0),
            helper.make_node("Gather", ["bias", "candidates"], ["start"]),
            helper.make_node("Add", ["dot", "start"], ["plain"]),
            *_spoilt("plain", "candidates", "numbers", self.nan_candidate),
            *_looped("numbers", "counted", "trips" if self.trips and self.slow_item is None else None),
            *_hogged("counted", "click" if self.targets else "scores", self.hog),
            *(_two_targets() if self.targets else ()),
            helper.make_node("Mod", ["candidates", "three"], ["level"]),
        ]
        constants = {"vectors": self.vectors, "bias": self.bias, "last": np.array([1]), "three": np.int64(3)}
        state = [_value("mean", TensorProto.FLOAT, ["B", WIDTH]), _value("shift", TensorProto.FLOAT, ["B", 1])]
        return _model(
            nodes,
            [*state, *(_value(name, TensorProto.INT64, ["M"]) for name in ("candidates", "rows")), *self._table_inputs],
            [
                _value("scores", TensorProto.FLOAT, ["M"]),
                _value("level", TensorProto.INT64, ["M"]),
                *(_value(name, TensorProto.FLOAT, ["M"]) for name in self._chances),
            ],
            {
                **constants,
                "poison": np.int64(self.poison_candidate or 0),
                "spoilt": np.int64(self.nan_candidate or 0),
                "one": np.float32(1),
                "none": np.float32(0),
                "trips": np.int64(self.trips),
                "go_on": np.array(True),
                "hog": np.array([self.hog], dtype=np.int64),
            },
        )

    @property
    def _vectors(self) -> str:
        """Return what the graphs call the item vectors."""
        return "table_0" if self.tabled else "vectors"

    @property
    def _table_inputs(self) -> list[object]:
        return [_value(table.name, TensorProto.FLOAT, table.shape) for table in self.tables]

    @property
    def _chances(self) -> tuple[str, ...]:
        return ("click", "like") if self.targets else ()

    def _rounds(self) -> list[NodeProto]:
        """Return nodes for how often a batch of histories goes round in a loop."""
        if self.slow_item is None:
            return []
        return [
            helper.make_node("Equal", ["items", "slow"], ["is_slow"]),
            helper.make_node("Cast", ["is_slow"], ["slows"], to=TensorProto.INT64),
            helper.make_node("ReduceMax", ["slows"], ["any_slow"], keepdims=0),
            helper.make_node("Mul", ["any_slow", "trips"], ["rounds"]),
        ]

    def _shift(self) -> list[NodeProto]:
        """Return nodes for what is added to every score of a row: 0, or what the user and the time say."""
        nodes = [helper.make_node("Sub", ["count", "count"], ["shift_0"])]
        for place, (name, factor) in enumerate([("user", "thousand"), ("request_time", "thousandth")]):
            before, after = f"shift_{place}", f"shift_{place + 1}"
            if name not in self.sequence.row_inputs:
                nodes.append(helper.make_node("Identity", [before], [after]))
                continue
            nodes += [
                helper.make_node("Cast", [name], [f"{name}_float"], to=TensorProto.FLOAT),
                helper.make_node("Mul", [f"{name}_float", factor], [f"{name}_part"]),
                helper.make_node("Unsqueeze", [f"{name}_part", "last"], [f"{name}_column"]),
                helper.make_node("Add", [before, f"{name}_column"], [after]),
            ]
        return [*nodes, helper.make_node("Identity", ["shift_2"], ["shift"])]


def _poisoned(source: str, target: str, poison: int | None) -> list[NodeProto]:
    """Return nodes that pass indices on, but for the poisoned one, which becomes far out of range."""
    if poison is None:
        return [helper.make_node("Identity", [source], [target])]
    return [
        helper.make_node("Equal", [source, "poison"], [f"{target}_is"]),
        helper.make_node("Cast", [f"{target}_is"], [f"{target}_one"], to=TensorProto.INT64),
        helper.make_node("Constant", [], [f"{target}_far"], value_int=_FAR),
        helper.make_node("Mul", [f"{target}_one", f"{target}_far"], [f"{target}_add"]),
        helper.make_node("Add", [source, f"{target}_add"], [target]),
    ]


def _spoilt(source: str, indices: str, target: str, index: int | None) -> list[NodeProto]:
    """Return nodes that add 0 to each row, or 0/0 if the row's indices have the spoilt one."""
    if index is None:
        return [helper.make_node("Identity", [source], [target])] if source != "clean" else []
    per_row = [helper.make_node("ReduceMax", ["hit", "last"], ["hits"], keepdims=1)] if indices == "items" else []
    return [
        helper.make_node("Equal", [indices, "spoilt"], ["is_spoilt"]),
        helper.make_node("Cast", ["is_spoilt"], ["hit"], to=TensorProto.FLOAT),
        *per_row,
        helper.make_node("Sub", ["one", "hits" if per_row else "hit"], ["sound"]),
        helper.make_node("Div", ["none", "sound"], ["nothing"]),
        helper.make_node("Add", [source, "nothing"], [target]),
    ]


def _looped(source: str, target: str, trips: str | None) -> list[NodeProto]:
    """Return nodes that pass numbers on, after as many rounds of multiplying 0 by 1 as a tensor's value."""
    if trips is None:
        return [helper.make_node("Identity", [source], [target])]
    body = helper.make_graph(
        [helper.make_node("Identity", ["go_in"], ["go_out"]), helper.make_node("Mul", ["in", "by"], ["out"])],
        "body",
        [_value("round", TensorProto.INT64, []), _value("go_in", TensorProto.BOOL, []),
         _value("in", TensorProto.FLOAT, [])],
        [_value("go_out", TensorProto.BOOL, []), _value("out", TensorProto.FLOAT, [])],
        [numpy_helper.from_array(np.float32(1), "by")],
    )  # fmt: skip
    return [
        helper.make_node("ReduceSum", [source], ["summed"], keepdims=0),
        helper.make_node("Mul", ["summed", "none"], ["first"]),
        helper.make_node("Loop", [trips, "go_on", "first"], ["rest"], body=body),
        helper.make_node("Add", [source, "rest"], [target]),
    ]


def _hogged(source: str, target: str, numbers: int) -> list[NodeProto]:
    """Return nodes that pass scores on, after filling a table of (M, numbers)."""
    if not numbers:
        return [helper.make_node("Identity", [source], [target])]
    return [
        helper.make_node("Shape", [source], ["M"]),
        helper.make_node("Concat", ["M", "hog"], ["table_shape"], axis=0),
        helper.make_node("Mul", [source, "none"], ["nil"]),
        helper.make_node("Unsqueeze", ["nil", "last"], ["column"]),
        helper.make_node("Expand", ["column", "table_shape"], ["table"]),
        helper.make_node("ReduceSum", ["table", "last"], ["table_sum"], keepdims=0),
        helper.make_node("Add", [source, "table_sum"], [target]),
    ]


def _two_targets() -> list[NodeProto]:
    """Return nodes for `like`, and for `scores`, in which it has weight 0."""
    return [
        helper.make_node("Neg", ["start"], ["like"]),
        helper.make_node("Mul", ["like", "none"], ["unliked"]),
        helper.make_node("Add", ["click", "unliked"], ["scores"]),
    ]


def _value(name: str, kind: int, shape: Sequence[int | str]) -> object:
    return helper.make_tensor_value_info(name, kind, shape)


def _model(
    nodes: list[NodeProto], inputs: list[object], outputs: list[object], constants: dict[str, object]
) -> ModelProto:
    used = {name for node in nodes for name in node.input}
    initializers = [
        numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items() if name in used
    ]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
