"""The bundle's description: what the exporter promises and the service checks before it serves."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from contract.command_line import CommandError
from contract.tensors import SequenceSpec

CONTRACT_VERSION: Final = 1
MANIFEST: Final = "manifest.json"
ENCODE: Final = "encode.onnx"
SCORE: Final = "score.onnx"
ITEMS: Final = "items.json"
USERS: Final = "users.json"
POPULARITY: Final = "popularity.npy"
GOLDEN: Final = "golden.npz"
CATALOGUE: Final = "catalogue.json"
MODEL_CARD: Final = "model_card.md"

REQUIRED_FILES: Final = (ENCODE, SCORE, ITEMS, POPULARITY, GOLDEN, MODEL_CARD)
OPTIONAL_FILES: Final = (USERS, CATALOGUE)

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
ModelName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,47}$")]
Version = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$")]


class ManifestError(CommandError, ValueError):
    """The manifest is missing, malformed, or of a contract this code does not know; the message says which."""


class Strict(BaseModel):
    """Unknown keys are errors; values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TensorSpec(Strict):
    """One input or output of a graph. A string in the shape is a symbolic dimension: B rows, M flat candidates."""

    name: str
    dtype: Literal["int64", "float32"]
    shape: tuple[int | str, ...]


class GraphSpec(Strict):
    """Names, dtypes and shapes of a graph, in its own order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class Provenance(Strict):
    """Where the weights came from."""

    run_id: str
    recipe_digest: str
    git_revision: str | None
    dataset: str
    dataset_digest: str
    torch_version: str
    exporter: str


class Manifest(Strict):
    """All a service must know of a bundle.

    `score` takes the state outputs of `encode` (one row per user), then `candidates` (M,) and `rows` (M,), the row that
    each flat candidate belongs to; its first output is `scores` (M,). Outputs named in `explanation` are answers
    to `explain`: for people, never for ranking.
    """

    contract_version: int
    model: ModelName
    version: Version
    serving_class: Literal["A", "B", "C", "D", "E"]
    created_at: str
    files: dict[str, Digest]
    sequence: SequenceSpec
    item_count: Annotated[int, Field(ge=1)]
    user_count: Annotated[int, Field(ge=0)]
    encode: GraphSpec
    score: GraphSpec
    state: tuple[str, ...]
    explanation: tuple[str, ...] = ()
    max_candidates: Annotated[int, Field(ge=1)]
    golden_tolerance: Annotated[float, Field(gt=0, le=1e-2)]
    parameters: int
    metrics: dict[str, float]
    provenance: Provenance


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
    if version != CONTRACT_VERSION:
        raise ManifestError(f"manifest: contract version {version}, this service reads {CONTRACT_VERSION}")
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise ManifestError(f"manifest: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


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


class _ContractVersion(BaseModel):
    contract_version: int
