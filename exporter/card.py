"""The model card: the facts to know before a bundle is promoted."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

from contract.bundle.manifest import Manifest
from exporter.run import Run
from exporter.verify import Parity

_CLASSES: Final = {
    "A": "one vector per user; a candidate costs one dot product",
    "B": "several vectors per user; a candidate costs a few dot products",
    "C": "a vector per user and a small network per candidate",
    "D": "attention over the behaviours for every candidate",
    "E": "most of the network runs for every candidate",
}
_METRIC_COLUMNS: Final = ("split", "metric", "value")
_PARITY_COLUMNS: Final = ("case", "rows", "candidates", "state", "scores", "explanation")


def model_card(run: Run, manifest: Manifest, report: Sequence[Parity]) -> str:
    """Return the card as Markdown."""
    return "\n\n".join([*_what(run, manifest), *_how_good(run), *_how_made(run, manifest, report), ""])


def _what(run: Run, manifest: Manifest) -> Iterable[str]:
    serving = f"{manifest.serving_class}: {_CLASSES[manifest.serving_class]}"
    sequence = manifest.sequence
    reads = ", ".join([*sequence.columns, *sequence.row_inputs])
    yield f"# {manifest.model} {manifest.version}"
    yield (
        f"Scores candidate items for a user from the newest {sequence.length} behaviours. "
        f"Parameters: {manifest.parameters:,}. Serving class {serving}."
    )
    yield "## Intended use"
    yield (
        "Ordering candidates that another system has already chosen for a feed, through `POST /rank`. "
        "A score orders the candidates of one request: it is not a probability, and scores of two bundles or of two "
        "requests are not comparable. Not for decisions about people."
    )
    yield "## Data"
    yield _table(
        ("", ""),
        [
            ("data set", run.facts.get("dataset", "unknown")),
            ("source", run.facts.get("dataset_source", "unknown")),
            ("digest", run.facts.get("dataset_digest", "unknown")),
            ("items", manifest.item_count),
            ("users the model knows by name", manifest.user_count),
            ("reads", reads),
            ("actions that count as behaviour", ", ".join(sequence.actions)),
        ],
    )


def _how_good(run: Run) -> Iterable[str]:
    yield "## Protocol and metrics"
    if run.facts.get("fit") == "all":
        yield _learnt_everything(run)
    yield f"Protocol: {run.protocol or 'not recorded'}."
    if run.queries:
        yield "Queries: " + ", ".join(f"{count:.0f} ({split})" for split, count in run.queries.items()) + "."
    rows = [(split, name, f"{value:.4f}") for split, values in run.metrics.items() for name, value in values.items()]
    yield _table(_METRIC_COLUMNS, rows) if rows else "This run was never evaluated: its quality is unknown."


def _learnt_everything(run: Run) -> str:
    learnt = run.facts.get("learnt_until_ms")
    until = f", until {datetime.fromtimestamp(learnt / 1000, UTC):%Y-%m-%d %H:%M} UTC" if learnt else ""
    return (
        f"**These figures are of the fit before this one**, run `{run.facts.get('validated_by')}`, which held rows out "
        f"to choose the number of epochs. This fit learnt every row{until}, and has no test of its own."
    )


def _how_made(run: Run, manifest: Manifest, report: Sequence[Parity]) -> Iterable[str]:
    source = manifest.provenance
    yield "## Recipe"
    yield _table(
        ("", ""),
        [
            ("run", source.run_id),
            ("recipe digest", source.recipe_digest),
            ("seed", run.facts.get("seed", "unknown")),
            ("learnt", "every row" if run.facts.get("fit") == "all" else "the training part"),
            ("started from", run.facts.get("started_from") or "fresh weights"),
            ("git revision", source.git_revision or "unknown"),
            ("trained with", f"torch {source.torch_version}"),
            ("exported with", source.exporter),
        ],
    )
    yield f"```json\n{json.dumps(run.recipe, indent=2, ensure_ascii=False)}\n```"
    yield "## Limits"
    yield "\n".join(
        [
            f"- Only the newest {manifest.sequence.length} behaviours are read; older ones do not count.",
            "- An item that is not in the vocabulary cannot be scored, and is ignored in a history.",
            "- An empty history gets the model's cold-start scores.",
            f"- At most {manifest.max_candidates} candidates in a request.",
            "- Offline metrics come from one data set and one split; only an experiment shows how users react.",
        ]
    )
    yield "## Parity of torch and ONNX Runtime"
    yield "Largest absolute differences; golden scores match within " + f"{manifest.golden_tolerance:g}."
    yield _table(_PARITY_COLUMNS, parity_rows(report))


def parity_rows(report: Sequence[Parity]) -> list[tuple[object, ...]]:
    """Return the parity report as cells, in the order of its columns."""
    return [
        (one.case, one.rows, one.candidates, *(f"{value:.1e}" for value in (one.state, one.scores, one.explanation)))
        for one in report
    ]


def parity_table(report: Sequence[Parity]) -> str:
    """Return the parity report for a terminal."""
    cells = [_PARITY_COLUMNS, *(tuple(map(str, row)) for row in parity_rows(report))]
    widths = [max(len(row[place]) for row in cells) for place in range(len(_PARITY_COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
    return "\n".join(line.rstrip() for line in lines)


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
