"""A bundle on disk: built in a temporary folder, completed by its manifest, and moved into place in one step.

Symbols: B golden rows, M their flat candidates.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnxscript
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from contract.bundle import manifest as names
from contract.bundle.manifest import (
    Manifest,
    ModelName,
    Provenance,
    TableSpec,
    Version,
    contract_version_of,
    digest_of,
    table_file,
    write_manifest,
)
from contract.bundle.tracks import FOLDER as TRACKS
from exporter.card import model_card
from exporter.errors import ExportError
from exporter.new_rows import NewRelease
from exporter.previous import Previous, previous_bundle
from exporter.rows import RowMaker, Rows
from exporter.run import Run
from exporter.trace import OPSET, Traced
from exporter.verify import TOLERANCE, Parity

MAX_CANDIDATES: Final = 2_000
_GOLDEN_COUNTS: Final = (1, 3, 10, 40)
_GOLDEN_SEED: Final = 20_260
_MARGIN: Final = 20  # another provider may differ this many times more than this CPU
_RELATIVE: Final = 1e-5  # of the largest golden score: the rounding error of a long float32 sum
_MAX_TOLERANCE: Final = 1e-2
_WHOLE_NUMBER: Final = re.compile(r"[1-9][0-9]*")
_MODEL_NAME: Final = TypeAdapter(ModelName)
_VERSION: Final = TypeAdapter(Version)
_READABLE: Final = 0o755  # a temporary directory is private; the service runs as another user
_READ_ONLY: Final = 0o444  # a served table is mapped: an edit in place would change what is being served

Arrays = Mapping[str, NDArray[Any]]  # Any: int64 or float32


@dataclass(frozen=True, eq=False)
class Release:
    """The contents of a bundle."""

    run: Run
    traced: Traced
    report: list[Parity]
    golden: Rows
    scores: NDArray[np.float32]  # (M,) of the golden rows, by torch
    new: NewRelease | None = None  # for a model that scores new items


def golden_rows(run: Run) -> Rows:
    """Return the rows of golden.npz: empty, short and full histories of frequent items, with ragged candidates."""
    length = run.sequence.length
    maker = RowMaker(run.sequence, len(run.items), run.user_count, run.popularity, _GOLDEN_SEED)
    lengths = [0, 0, 1, 2, length // 2, length - 1, length, length + 10]
    return maker.make(lengths, [_GOLDEN_COUNTS[row % len(_GOLDEN_COUNTS)] for row in range(len(lengths))])


def write_bundle(release: Release, out: Path, version: str | None = None) -> Path:
    """Write `out/<model>/<version>/` and return it; without a version, the next free whole number.

    Raises:
        ExportError: the version exists already or is not a valid name, or the disk refuses.
    """
    check_target(out, release.run.name, version)
    home = out / release.run.name
    try:
        home.mkdir(parents=True, exist_ok=True)
        return _build_and_move(release, home, version or _next_version(home))
    except OSError as error:
        raise ExportError(f"{error.filename or home}: {error.strerror}") from error


def check_target(out: Path, model: str, version: str | None) -> None:
    """Check that a bundle may be written, before any work is done for it.

    Raises:
        ExportError: the version exists already or is not a valid name.
    """
    for kind, adapter, name in (("model", _MODEL_NAME, model), ("version", _VERSION, version)):
        try:
            if name is not None:
                adapter.validate_python(name)
        except ValidationError as error:
            raise ExportError(f"{(name or '')[:64]!r} is not a valid name for a {kind}") from error
    if version == TRACKS:
        raise ExportError(f"{version!r} cannot be a version: the folder of this name has the model's tracks")
    if version is not None and os.path.lexists(out / model / version):
        raise ExportError(f"{out / model / version}: this version exists already; a version is never overwritten")


def _build_and_move(release: Release, home: Path, version: str) -> Path:
    building = Path(tempfile.mkdtemp(prefix=f".{version}.", suffix=".partial", dir=home))
    try:
        _fill(building, release, version, previous_bundle(home, release.run))
        building.chmod(_READABLE)
        building.rename(home / version)  # refuses to replace a bundle that appeared meanwhile
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    return home / version


def _fill(directory: Path, release: Release, version: str, previous: Previous | None) -> None:
    files = _files(release)
    unsealed = _manifest(release, version, {})
    files[names.MODEL_CARD] = model_card(release.run, unsealed, release.report, previous).encode()
    for name, content in files.items():
        (directory / name).write_bytes(content)
    for name in release.traced.tables:
        (directory / table_file(name)).chmod(_READ_ONLY)
    digests = {name: digest_of((directory / name).read_bytes()) for name in sorted(files)}
    write_manifest(directory, unsealed.model_copy(update={"files": digests}))


def _files(release: Release) -> dict[str, bytes]:
    run, golden = release.run, release.golden
    arrays: Arrays = {
        **{f"encode.{name}": values for name, values in golden.inputs.items()},
        "candidates": golden.candidates,
        "rows": golden.rows,
        "scores": release.scores,
        **(release.new.golden.arrays() if release.new is not None else {}),
    }
    files = {
        names.ENCODE: release.traced.encode.content,
        names.SCORE: release.traced.score.content,
        names.ITEMS: (run.directory / names.ITEMS).read_bytes(),
        names.POPULARITY: _npy(run.popularity),
        names.GOLDEN: _npz(arrays),
        **{table_file(name): _npy(table) for name, table in release.traced.tables.items()},
    }
    if release.new is not None:
        files |= release.new.files()
    if run.users is not None:
        files[names.USERS] = (run.directory / names.USERS).read_bytes()
    if run.catalogue is not None:
        files[names.CATALOGUE] = run.catalogue
    return files


def _manifest(release: Release, version: str, files: dict[str, str]) -> Manifest:
    run, traced = release.run, release.traced
    explanation = (*traced.names.encode_explanation, *traced.names.score_explanation)
    tables = _table_specs(release)
    new = release.new.spec() if release.new is not None else None
    return Manifest(
        contract_version=contract_version_of(tables, new_items=new is not None or run.prior is not None),
        model=run.name,
        version=version,
        serving_class=run.model.serving_class,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        files=files,
        sequence=run.sequence,
        item_count=len(run.items),
        user_count=run.user_count,
        encode=traced.encode.spec,
        score=traced.score.spec,
        tables=tables,
        new_items=new,
        new_item_prior=run.prior,
        state=traced.names.state,
        explanation=explanation,
        max_candidates=MAX_CANDIDATES,
        golden_tolerance=golden_tolerance(release.report, release.scores),
        parameters=sum(weight.numel() for weight in run.model.parameters()),
        metrics=run.metrics.get("test", {}),
        provenance=_provenance(run),
    )


def _table_specs(release: Release) -> tuple[TableSpec, ...]:
    traced = release.traced
    readers = {"encode": traced.encode.tables, "score": traced.score.tables}
    readers |= release.new.readers() if release.new is not None else {}
    return tuple(
        TableSpec.model_validate(
            {
                "name": name,
                "dtype": table.dtype.name,
                "shape": table.shape,
                "graphs": tuple(graph for graph, tables in readers.items() if name in tables),
            }
        )
        for name, table in traced.tables.items()
    )


def golden_tolerance(report: list[Parity], scores: NDArray[np.float32]) -> float:
    """Return how far a provider may be from the golden scores: measured parity with a margin for other arithmetic."""
    measured = max(one.scores for one in report)
    wanted = max(TOLERANCE, _MARGIN * measured, _RELATIVE * float(np.abs(scores).max()))
    return min(_MAX_TOLERANCE, wanted)


def _provenance(run: Run) -> Provenance:
    revision = run.facts.get("git_revision")
    return Provenance(
        run_id=str(run.facts.get("run_id", run.directory.name)),
        recipe_digest=run.recipe_digest,
        git_revision=str(revision) if revision else None,
        dataset=str(run.facts.get("dataset", "unknown")),
        dataset_digest=str(run.facts.get("dataset_digest", "unknown")),
        torch_version=str(run.facts.get("torch_version", "unknown")),
        exporter=(
            f"torch {torch.__version__} dynamo, onnxscript {onnxscript.__version__}, onnx {onnx.__version__}, "
            f"opset {OPSET}"
        ),
    )


def _next_version(home: Path) -> str:
    """Return one more than the highest whole number among the versions, in any state."""
    taken = [int(path.name) for path in home.iterdir() if _WHOLE_NUMBER.fullmatch(path.name)]
    return str(max(taken, default=0) + 1)


def _npy(array: NDArray[Any]) -> bytes:  # Any: float32 or int64
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def _npz(arrays: Arrays) -> bytes:
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    return file.getvalue()
