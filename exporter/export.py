"""The export of a run directory to a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from exporter.bundle.golden import golden_rows
from exporter.bundle.release import NewRelease, Release
from exporter.bundle.write import Seal, check_target, write_bundle
from exporter.graphs.new_items import trace_new
from exporter.graphs.tables import MIN_TABLE_BYTES, TableBook
from exporter.graphs.trace import Traced, trace
from exporter.parity.new_items import new_batch, new_golden, verify_new
from exporter.parity.targets import check_targets
from exporter.parity.verify import Parity, check_weights, golden_scores, verify
from exporter.rows import RowMaker, Rows
from exporter.run.directory import Run, read_run
from exporter.run.quality import check_quality

_SAMPLE_COUNTS: Final = (3, 2, 2)  # candidates of the traced rows: B and M differ, and neither is 1


class Exported(NamedTuple):
    """The result of an export, and its verification."""

    bundle: Path
    run: Run
    traced: Traced
    report: list[Parity]


def export_run(
    directory: Path,
    out: Path,
    version: str | None = None,
    min_table_bytes: int = MIN_TABLE_BYTES,
    *,
    force: bool = False,
    seal: Seal | None = None,
    reference: bool = True,
) -> Exported:
    """Read a run, trace its model, compare both, and write the bundle below `out`.

    Args:
        directory: the run's.
        out: folder of the bundles.
        version: name of the version; None = the next free whole number.
        min_table_bytes: size from which a table is a file.
        force: export a model below popularity or chance.
        seal: signs the complete bundle before it gets its name.
        reference: write the run's reference.json into the bundle.

    Raises:
        ExportError: the run is incomplete, the model is below popularity or chance on its own test, cannot be exported,
            differs or has weights that are not finite, or the version exists.
    """
    run = read_run(directory)
    if not force:
        check_quality(run)
    check_target(out, run.name, version)
    check_weights(run.model)
    length = run.sequence.length
    maker = RowMaker(run.sequence, len(run.items), run.user_count, run.popularity, context=run.model.context_specs)
    book = TableBook(min_table_bytes)
    sample = maker.make([0, min(2, length), length], _SAMPLE_COUNTS)
    traced = trace(run.model, sample, book)
    report = verify(run.model, traced, maker, length)
    golden = golden_rows(run)
    scores, parity = golden_scores(run.model, traced, golden)
    report.append(parity)
    check_targets(run.model, traced, golden)
    new = _new_items(run, traced, sample, golden, maker, book)
    report += new.report if new is not None else []
    bundle = write_bundle(Release(run, traced, report, golden, scores, new, reference), out, version, seal)
    return Exported(bundle, run, traced, report)


def _new_items(
    run: Run, traced: Traced, sample: Rows, golden: Rows, maker: RowMaker, book: TableBook
) -> NewRelease | None:
    """Return the graphs for new items, verified; None if the run's model or data do not allow them."""
    if run.features is None:
        return None
    model, specs = run.model, run.features.specs
    new = trace_new(model, traced.names, new_batch(specs, sample, len(run.items)), book)
    report = verify_new(model, traced, new, specs, maker)
    rows, parity = new_golden(model, traced, new, specs, golden)
    return NewRelease(new, run.features, rows, [*report, parity])
