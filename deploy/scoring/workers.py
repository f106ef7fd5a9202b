"""Who scores: this process, or workers of Ray Data, each with a bundle of its own.

Ray is imported here only, and only if workers are asked for: it is the extra `ray`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from contract.command_line import CommandError, one_line
from contract.progress import Progress
from deploy.scoring.scorer import Plan, UserScorer

BATCH: Final = 1_000  # users that a worker takes at once
_MISSING: Final = 'ray is not installed: pip install -r locks/ray.txt (the extra "ray"), or use --workers 0'


class WorkersError(CommandError, RuntimeError):
    """The workers cannot start, or one of them failed; the message has the reason."""


def score_here(histories: Path, out: Path, plan: Plan) -> None:
    """Score all users in this process, one part of histories after another."""
    scorer, parts = UserScorer(plan), sorted(histories.glob("*.parquet"))
    with Progress("scoring", sum(pq.read_metadata(part).num_rows for part in parts)) as progress:
        for part in parts:
            pq.write_table(pa.concat_tables(_scored(scorer, part, progress)), out / part.name)


def _scored(scorer: UserScorer, part: Path, progress: Progress) -> Iterator[pa.Table]:
    for batch in pq.ParquetFile(part).iter_batches(BATCH):
        yield scorer(pa.Table.from_batches([batch]))
        progress.advance(len(batch))


def score_with_ray(histories: Path, out: Path, plan: Plan, workers: int, address: str | None) -> None:
    """Score all users with workers of Ray Data.

    Args:
        histories: parts; every machine of the cluster must see the folder, as `out` and the bundle.
        out: an existing folder.
        plan: how to score.
        workers: actors; each loads the bundle once, and has as many processors as a run has threads.
        address: of a running cluster; None = this machine.

    Raises:
        WorkersError: Ray is not installed, or a worker failed.
    """
    ray = _ray()
    resources = {} if address else {"num_cpus": workers * plan.threads + 1, "include_dashboard": False}
    ray.init(address=address, log_to_driver=False, logging_level="WARNING", **resources)
    ray.data.DataContext.get_current().enable_progress_bars = sys.stderr is not None and sys.stderr.isatty()
    try:
        users = ray.data.read_parquet(str(histories.absolute()))
        scored = users.map_batches(
            UserScorer,
            fn_constructor_args=(plan,),
            batch_size=BATCH,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=workers),
            num_cpus=plan.threads,
        )
        scored.write_parquet(str(out.absolute()))
    except ray.exceptions.RayError as error:
        raise WorkersError(f"a worker failed: {one_line(str(error).strip().splitlines()[-1])[:300]}") from error
    finally:
        ray.shutdown()


def _ray() -> Any:  # Any: the extra may be missing
    try:
        import ray
        import ray.data
    except ImportError:
        raise WorkersError(_MISSING) from None
    return ray
