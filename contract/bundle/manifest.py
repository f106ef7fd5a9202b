"""The bundle's description, which the exporter writes and the service checks before it serves the bundle."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from contract.bundle.context import MAX_INPUTS, ContextSpec
from contract.bundle.item_features import MAX_FEATURES, FeatureSpec
from contract.bundle.tensors import SequenceSpec
from contract.command_line import CommandError
from contract.experiments.target_weights import MAX_TARGETS, TARGET_PATTERN

CONTRACT_VERSION: Final = 5  # the newest version that is read and written
OLDEST_CONTRACT_VERSION: Final = 1  # each bundle gets the lowest version that can describe it
MANIFEST: Final = "manifest.json"
ENCODE: Final = "encode.onnx"
SCORE: Final = "score.onnx"
ITEMS: Final = "items.json"
USERS: Final = "users.json"
POPULARITY: Final = "popularity.npy"
GOLDEN: Final = "golden.npz"
CATALOGUE: Final = "catalogue.json"
MODEL_CARD: Final = "model_card.md"
ITEM: Final = "item.onnx"
ENCODE_NEW: Final = "encode_new.onnx"
SCORE_NEW: Final = "score_new.onnx"
FEATURES: Final = "features.json"
REFERENCE: Final = "reference.json"

REQUIRED_FILES: Final = (ENCODE, SCORE, ITEMS, POPULARITY, GOLDEN, MODEL_CARD)
OPTIONAL_FILES: Final = (USERS, CATALOGUE, REFERENCE)
NEW_ITEM_FILES: Final = (ITEM, ENCODE_NEW, SCORE_NEW, FEATURES)
MAX_TABLES: Final = 16
_MAX_SHOWN: Final = 100

GraphName = Literal["encode", "score", "item", "encode_new", "score_new"]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,48}(\.[a-z0-9_]{1,16}){1,3}$")]
"""A name in the bundle's own directory: no path, and nothing that a file system or a shell reads otherwise."""
ModelName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,47}$")]
TargetName = Annotated[str, Field(pattern=TARGET_PATTERN)]
TargetWeight = Annotated[float, Field(allow_inf_nan=False)]
Version = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$")]


class ManifestError(CommandError, ValueError):
    """The manifest is missing, malformed, or of an unknown contract version; the message names the reason."""


class Strict(BaseModel):
    """Unknown keys are errors; values are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TensorSpec(Strict):
    """One input or output of a graph. A string in the shape is a symbolic dimension: B rows, M flat candidates."""

    name: str
    dtype: Literal["int64", "float32"]
    shape: tuple[int | str, ...]


class GraphSpec(Strict):
    """Names, dtypes and shapes of a graph, in the graph's order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class TableSpec(Strict):
    """A table that the graphs read as an input, in a separate .npy file: one copy serves both graphs.

    The first dimension is indexed by item, by user or by another code, and the graphs only read whole rows.
    """

    name: Annotated[str, Field(pattern=r"^table_[0-9]{1,2}$")]
    dtype: Literal["int64", "float32"]
    shape: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1, max_length=4)]
    graphs: Annotated[tuple[GraphName, ...], Field(min_length=1, max_length=5)]

    @property
    def file(self) -> str:
        """Return the name of its file."""
        return table_file(self.name)


class NewItemSpec(Strict):
    """How a model scores items that its training never met: three graphs beside `encode` and `score`.

    `item` takes the codes of each feature (C, values) and gives `history` (C, E) and `candidates` (C, S).
    `encode_new` is `encode` with the further input `new_items` (C, E): item index `item_count` + 1 + c means its row c.
    `score_new` takes the state, `vectors` (M, S), each a row of `candidates`, and `rows` (M,); its first output is
    `scores` (M,). C is at least 1.
    """

    features: Annotated[tuple[FeatureSpec, ...], Field(min_length=1, max_length=MAX_FEATURES)]
    item: GraphSpec
    encode: GraphSpec
    score: GraphSpec


class NewItemPrior(Strict):
    """How often users click new items, compared with known ones: measured on validation, for items without a score.

    Attributes:
        quantile: of the scores of a request's known candidates, at which a known item is clicked as often as a new one.
        clicks: on new items.
        shown: new items among the candidates of all queries.
    """

    quantile: Annotated[float, Field(ge=0, le=1)]
    clicks: Annotated[int, Field(ge=0)]
    shown: Annotated[int, Field(ge=0)]


class Provenance(Strict):
    """The origin of the weights."""

    run_id: str
    recipe_digest: str
    git_revision: str | None
    dataset: str
    dataset_digest: str
    torch_version: str
    exporter: str


class Manifest(Strict):
    """Everything that a service needs to know about a bundle.

    `score` takes the state outputs of `encode` (one row per user), then `candidates` (M,) and `rows` (M,), the row that
    each flat candidate belongs to; its first output is `scores` (M,). Outputs named in `explanation` are answers
    to `explain`: for people, never for ranking. Each graph takes its tables as inputs after all others.

    `targets` has the weight of each target: the score is the sum over targets of the weight times the explanation of
    that name, an output of `score` (M,), so a service can rank by other weights without another run.

    With `context`, `score` and `score_new` take two more inputs after `rows`: `context` (R, F), the codes of R
    requests, and `context_rows` (R,), the row of the state that each request reads. `rows` are then places among the
    requests.
    """

    contract_version: int
    model: ModelName
    version: Version
    serving_class: Literal["A", "B", "C", "D", "E"]
    created_at: str
    files: dict[FileName, Digest]
    sequence: SequenceSpec
    item_count: Annotated[int, Field(ge=1)]
    user_count: Annotated[int, Field(ge=0)]
    encode: GraphSpec
    score: GraphSpec
    tables: Annotated[tuple[TableSpec, ...], Field(max_length=MAX_TABLES)] = ()
    new_items: NewItemSpec | None = None
    new_item_prior: NewItemPrior | None = None
    targets: Annotated[dict[TargetName, TargetWeight], Field(max_length=MAX_TARGETS)] = Field(default_factory=dict)
    context: Annotated[tuple[ContextSpec, ...], Field(max_length=MAX_INPUTS)] = ()
    state: tuple[str, ...]
    explanation: tuple[str, ...] = ()
    max_candidates: Annotated[int, Field(ge=1)]
    golden_tolerance: Annotated[float, Field(gt=0, le=1e-2)]
    parameters: int
    metrics: dict[str, float]
    provenance: Provenance

    def tables_of(self, graph: GraphName) -> tuple[TableSpec, ...]:
        """Return the tables that a graph reads, in the order of its inputs."""
        return tuple(table for table in self.tables if graph in table.graphs)

    @model_validator(mode="after")
    def _tables_fit(self) -> Manifest:
        names = [table.name for table in self.tables]
        if len(set(names)) < len(names):
            raise ValueError("two tables have the same name")
        if self.contract_version != contract_version_of(
            self.tables, new_items=self._has_new_items, targets=bool(self.targets), context=bool(self.context)
        ):
            raise ValueError(f"contract version {self.contract_version} with {len(names)} tables")
        return self

    @property
    def _has_new_items(self) -> bool:
        return self.new_items is not None or self.new_item_prior is not None

    @model_serializer(mode="wrap")
    def _without_empty_fields(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Leave out empty fields of newer contract versions: older readers refuse fields that they do not know."""
        document: dict[str, object] = handler(self)
        for name in ("tables", "new_items", "new_item_prior", "targets", "context"):
            if not getattr(self, name):
                del document[name]
        return document


def table_name(number: int) -> str:
    """Return the name of a bundle's nth table, as the graphs call their input."""
    return f"table_{number}"


def table_file(name: str) -> str:
    """Return the name of the file that has a table."""
    return f"{name}.npy"


def contract_version_of(
    tables: Sequence[TableSpec], *, new_items: bool = False, targets: bool = False, context: bool = False
) -> int:
    """Return the lowest contract version that can describe a bundle with these parts."""
    if context:
        return CONTRACT_VERSION
    if targets:
        return 4
    if new_items:
        return 3
    return 2 if tables else OLDEST_CONTRACT_VERSION


def digest_of(content: bytes) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def parse_manifest(content: bytes) -> Manifest:
    """Read a manifest from its bytes.

    Raises:
        ManifestError: malformed, incomplete, or of another contract version.
    """
    try:
        version = _ContractVersion.model_validate_json(content).contract_version
    except ValidationError as error:
        raise ManifestError("manifest: not JSON with an integer contract_version") from error
    if not OLDEST_CONTRACT_VERSION <= version <= CONTRACT_VERSION:
        readable = f"{OLDEST_CONTRACT_VERSION} to {CONTRACT_VERSION}"
        raise ManifestError(f"manifest: contract version {version}, this service reads {readable}")
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise ManifestError(f"manifest: {_shown(first['loc'])}: {first['msg']}") from error


def read_manifest(directory: Path) -> Manifest:
    """Read the manifest of a bundle directory.

    Raises:
        ManifestError: missing, malformed, incomplete, or of another contract version.
    """
    try:
        content = (directory / MANIFEST).read_bytes()
    except OSError as error:
        raise ManifestError(f"manifest: cannot be read ({error.strerror})") from error
    return parse_manifest(content)


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write the manifest atomically; written last, its presence means that the bundle is complete."""
    temporary = directory / f".{MANIFEST}.partial"
    temporary.write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    temporary.replace(directory / MANIFEST)


def _shown(place: tuple[int | str, ...]) -> str:
    """Return a place in words, of bounded length: names in a manifest may be any text, and it is printed and logged."""
    text = ".".join(map(str, place))[:_MAX_SHOWN]
    return "".join(one if one.isprintable() else "?" for one in text)


class _ContractVersion(BaseModel):
    contract_version: int
