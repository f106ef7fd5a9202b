"""The test metrics of a run as lines: both rankings, the baselines, and a warning in red."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console


def print_metrics(document: Mapping[str, Any], console: Console) -> None:
    """Print the test metrics of metrics.json, and what the model is below of.

    Args:
        document: see training.judging.document.
        console: the output.
    """
    from training.judging.document import about_repeats  # torch takes a second to import; --help must not wait for it

    for line in filter(None, (about_repeats(document), *_lines(document))):
        console.print(line, soft_wrap=True)
    for name in document["below"]:
        metric = document["first_metric"]
        reached, needed = document["test"][metric], document["baselines"][name][metric]
        console.print(
            f"BELOW {name}: {metric} {reached:.4f}, {name} {needed:.4f}; the exporter refuses this run without --force",
            style="bold red",
            soft_wrap=True,
        )


def _lines(document: Mapping[str, Any]) -> Iterator[str]:
    first, other = document["first"], document["other"]
    apart = [view for view in ("warm", "cold") if view in document["view_queries"]["test"]]
    for view in dict.fromkeys([first, *([] if other is None else [other]), *apart]):
        yield f"test, {view or 'all'}: {_of(document['test'], view)}"
        if view != other:
            yield from (f"  {name}: {_of(values, view)}" for name, values in document["baselines"].items())


def _of(metrics: Mapping[str, float], view: str) -> str:
    """Return the metrics of one view as one line."""
    own = {name: value for name, value in metrics.items() if name.rpartition(".")[0] == view}
    return "  ".join(f"{name.rpartition('.')[2].upper()} {value:.4f}" for name, value in own.items())
