"""The model card: the facts to know before a bundle is promoted."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

from contract.bundle.manifest import Manifest
from exporter.card.changes import changes
from exporter.card.markdown import table
from exporter.card.previous import FIRST_EVENT, LAST_EVENT, Previous
from exporter.parity.table import PARITY_COLUMNS, parity_rows
from exporter.parity.verify import Parity
from exporter.run.directory import Run, span_of
from exporter.run.quality import below

_CLASSES: Final = {
    "A": "one vector per user; a candidate costs one dot product",
    "B": "several vectors per user; a candidate costs a few dot products",
    "C": "a vector per user and a small network per candidate",
    "D": "attention over the behaviours for every candidate",
    "E": "most of the network runs for every candidate",
}

_UNKNOWN_ITEMS: Final = {
    False: "An item that is not in the vocabulary cannot be scored, and is ignored in a history.",
    True: "An item that is not in the vocabulary is scored and read by its features, if a caller sent or stored them; "
    "without features it has no score and is ignored in a history.",
}
"""By whether the bundle has graphs for new items."""


def model_card(run: Run, manifest: Manifest, report: Sequence[Parity], previous: Previous | None = None) -> str:
    """Return the card as Markdown; `previous` is the bundle of the same model before this one."""
    changed = changes(run, manifest, previous) if previous is not None else ()
    parts = [*_what(run, manifest), *_how_good(run), *changed, *_how_made(run, manifest, report)]
    return "\n\n".join([*parts, ""])


def _what(run: Run, manifest: Manifest) -> Iterable[str]:
    serving = f"{manifest.serving_class}: {_CLASSES[manifest.serving_class]}"
    sequence = manifest.sequence
    reads = ", ".join([*sequence.columns, *sequence.row_inputs])
    first, last = span_of(run)
    yield f"# {manifest.model} {manifest.version}"
    if run.judgement.below:
        yield f"**Not fit to serve: {below(run)}.** It was exported with `--force`."
    yield (
        f"Scores candidate items for a user from the newest {sequence.length} behaviours. "
        f"Parameters: {manifest.parameters:,}. Serving class {serving}."
    )
    yield from _of_the_model(run, manifest)
    yield "## Intended use"
    yield (
        "Ordering candidates that another system has already chosen for a feed, through `POST /rank`. "
        "A score orders the candidates of one request: it is not a probability, and scores of two bundles or of two "
        "requests are not comparable. Not for decisions about people."
    )
    yield "## Data"
    yield table(
        ("", ""),
        [
            ("data set", run.facts.get("dataset", "unknown")),
            ("source", run.facts.get("dataset_source", "unknown")),
            ("digest", run.facts.get("dataset_digest", "unknown")),
            (FIRST_EVENT, first),
            (LAST_EVENT, last),
            ("items", manifest.item_count),
            ("items without a training event", int((run.popularity[1:] == 0).sum())),
            ("users the model knows by name", manifest.user_count),
            ("reads", reads),
            ("actions that count as behaviour", ", ".join(sequence.actions)),
            *(
                [("context of a request", ", ".join(spec.name for spec in manifest.context))]
                if manifest.context
                else []
            ),
        ],
    )


def _of_the_model(run: Run, manifest: Manifest) -> Iterable[str]:
    """Tell what most models do not have: a class outside the catalogue, several targets."""
    named = run.recipe.get("model", run.name)
    if named != run.name:
        yield f"The model is the class `{named}`."
    if manifest.targets:
        weights = ", ".join(f"{weight:g} {name}" for name, weight in manifest.targets.items())
        yield f"A score is the weighted sum of the targets' probabilities, unless an arm sets other weights: {weights}."


def _how_good(run: Run) -> Iterable[str]:
    yield "## Protocol and metrics"
    if run.facts.get("fit") == "all":
        yield _learnt_everything(run)
    yield f"Protocol: {run.protocol or 'not recorded'}."
    if run.queries:
        yield "Queries: " + ", ".join(f"{count:.0f} ({split})" for split, count in run.queries.items()) + "."
    if not run.metrics:
        yield "This run was never evaluated: its quality is unknown."
        return
    yield from _about_queries(run)
    baselines = run.judgement.baselines
    columns = ("split", "metric", "value", *(name.replace("_", " ") for name in baselines))
    yield table(columns, [row for split in run.metrics for row in _metric_rows(run, split)])
    if not baselines:
        yield "Popularity and chance are not recorded: an older version evaluated this run. Evaluate it again."


def _about_queries(run: Run) -> Iterable[str]:
    judgement = run.judgement
    if judgement.repeat_share is not None:
        yield (
            f"`unseen` ranks without the items that the user has seen; {judgement.repeat_share:.1%} of the targets are "
            f"repeats. `{judgement.first_metric}` comes first."
        )
    counts = {name: f"{judgement.view_queries.get(name, 0):.0f}" for name in ("warm", "cold")}
    if any(name in judgement.view_queries for name in counts):
        yield f"Test targets known in training (warm): {counts['warm']}; born later (cold): {counts['cold']}."


def _metric_rows(run: Run, split: str) -> Iterable[tuple[str, ...]]:
    """Yield the metrics of a split, the view that comes first at the top; baselines are of test."""
    judgement, values = run.judgement, run.metrics[split]
    first = judgement.first_metric.rpartition(".")[0]
    for name in sorted(values, key=lambda name: name.rpartition(".")[0] != first):
        beside = [f"{known[name]:.4f}" if split == "test" else "" for known in judgement.baselines.values()]
        yield (split, name, f"{values[name]:.4f}", *beside)


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
    yield table(
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
            f"- {_UNKNOWN_ITEMS[manifest.new_items is not None]}",
            "- An empty history gets the model's cold-start scores.",
            f"- At most {manifest.max_candidates} candidates in a request.",
            "- Offline metrics come from one data set and one split; only an experiment shows how users react.",
        ]
    )
    yield "## Parity of torch and ONNX Runtime"
    yield "Largest absolute differences; golden scores match within " + f"{manifest.golden_tolerance:g}."
    yield table(PARITY_COLUMNS, parity_rows(report))
