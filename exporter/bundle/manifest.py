"""The manifest of a release."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import version as version_of
from typing import Final

import onnx
import torch

from contract.bundle.manifest import Manifest, Provenance, TableSpec, contract_version_of
from exporter.bundle.golden import golden_tolerance
from exporter.bundle.release import Release
from exporter.graphs.trace import OPSET
from exporter.run.directory import Run

MAX_CANDIDATES: Final = 2_000


def manifest_of(release: Release, version: str) -> Manifest:
    """Return the manifest of a release, without the digests of its files."""
    run, traced = release.run, release.traced
    explanation = (*traced.names.encode_explanation, *traced.names.score_explanation)
    tables = _table_specs(release)
    new = release.new.spec() if release.new is not None else None
    targets = run.model.target_weights
    has_new = new is not None or run.prior is not None
    return Manifest(
        contract_version=contract_version_of(
            tables, new_items=has_new, targets=bool(targets), context=bool(run.model.context_specs)
        ),
        model=run.name,
        version=version,
        serving_class=run.model.serving_class,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        files={},
        sequence=run.sequence,
        item_count=len(run.items),
        user_count=run.user_count,
        encode=traced.encode.spec,
        score=traced.score.spec,
        tables=tables,
        new_items=new,
        new_item_prior=run.prior,
        targets=targets,
        context=run.model.context_specs,
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
            f"torch {torch.__version__} dynamo, onnxscript {version_of('onnxscript')}, onnx {onnx.__version__}, "
            f"opset {OPSET}"
        ),
    )
