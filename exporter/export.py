"""The export of a run directory to a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from exporter.bundle import Release, check_target, golden_rows, write_bundle
from exporter.quality import check_quality
from exporter.rows import RowMaker
from exporter.run import Run, read_run
from exporter.tables import MIN_TABLE_BYTES
from exporter.trace import Traced, trace
from exporter.verify import Parity, check_weights, golden_scores, verify

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
) -> Exported:
    """Read a run, trace its model, compare both, and write the bundle below `out`.

    Args:
        directory: the run's.
        out: folder of the bundles.
        version: name of the version; None = the next free whole number.
        min_table_bytes: size from which a table is a file.
        force: export a model below popularity or chance.

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
    maker = RowMaker(run.sequence, len(run.items), run.user_count, run.popularity)
    traced = trace(run.model, maker.make([0, min(2, length), length], _SAMPLE_COUNTS), min_table_bytes)
    report = verify(run.model, traced, maker, length)
    golden = golden_rows(run)
    scores, parity = golden_scores(run.model, traced, golden)
    report.append(parity)
    bundle = write_bundle(Release(run, traced, report, golden, scores), out, version)
    return Exported(bundle, run, traced, report)
