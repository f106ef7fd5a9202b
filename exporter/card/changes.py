"""The part of the model card about what changed since the bundle before."""

from __future__ import annotations

from collections.abc import Iterable

from contract.bundle.manifest import Manifest
from exporter.card.markdown import table
from exporter.card.previous import Previous
from exporter.run.directory import Run, span_of

_UNKNOWN = "unknown"


def changes(run: Run, manifest: Manifest, previous: Previous) -> Iterable[str]:
    """Yield the section: items, data and test metrics of both bundles."""
    before, (first, last) = previous.manifest, span_of(run)
    yield f"## Changes since version {before.version}"
    rows = [
        ("exported", before.created_at, manifest.created_at),
        ("items", before.item_count, f"{manifest.item_count} ({_difference(previous)})"),
        ("first event", previous.first_event or _UNKNOWN, first),
        ("last event", previous.last_event or _UNKNOWN, last),
        ("data set", before.provenance.dataset, manifest.provenance.dataset),
        ("recipe digest", before.provenance.recipe_digest, manifest.provenance.recipe_digest),
    ]
    yield table(("", f"version {before.version}", f"version {manifest.version}"), rows)
    shared = [name for name in manifest.metrics if name in before.metrics]
    if not shared:
        return
    if before.provenance.dataset_digest != manifest.provenance.dataset_digest:
        yield "The data differ, so the test queries differ too: the metrics below are not of the same queries."
    values = [(name, before.metrics[name], manifest.metrics[name]) for name in shared]
    columns = ("test metric", "before", "now", "difference")
    yield table(columns, [(name, f"{old:.4f}", f"{new:.4f}", f"{new - old:+.4f}") for name, old, new in values])


def _difference(previous: Previous) -> str:
    if previous.added is None or previous.removed is None:
        return "items of the version before cannot be read"
    return f"{previous.added} added, {previous.removed} removed"
