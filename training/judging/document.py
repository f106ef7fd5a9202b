"""The parts of metrics.json that tell how to read the metrics: which come first, the baselines, and the verdict.

| Key | Contains |
| --- | --- |
| valid, test | means by metric; `view.metric` for other views than the main one |
| queries, view_queries | number of queries by part; by part and view |
| first, other | the view that comes first, and the one with the other choice of seen items (null if there is none) |
| first_metric, selects | the metric that decides on `below`, and the one that selected the epoch |
| repeat_share | share of targets that their user has met before, in the whole data set |
| baselines | by name, test means by metric |
| below | the baselines that the model must reach and does not, by `first_metric` on test |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.judging.evaluate import Judge
from training.judging.ranking import below, first_metric, other_view, selecting_metric
from training.judging.views import Views, means
from training.recipe import SplitRecipe
from training.rows.split import Part


def judged(recipe: SplitRecipe, judges: Mapping[Part, Judge], parts: Mapping[Part, Views]) -> dict[str, Any]:
    """Return metrics.json without the protocol in words.

    Args:
        recipe: the protocol.
        judges: of the parts.
        parts: the model's views.
    """
    judge = next(iter(judges.values()))
    first = first_metric(recipe, judge.first)
    found: dict[str, Any] = {part: means(views) for part, views in parts.items()}
    found["queries"] = {part: len(judges[part].users) for part in parts}
    found["view_queries"] = {part: {name: len(view.users) for name, view in parts[part].items()} for part in parts}
    found |= {"first": judge.first, "other": other_view(recipe, judge.first), "first_metric": first}
    found |= {"selects": selecting_metric(recipe, judge.first), "repeat_share": judge.repeat_share}
    if "test" in parts:
        found["baselines"] = {name: means(views) for name, views in judges["test"].baselines().items()}
        found["below"] = below(found["test"], found["baselines"], first)
    return found


def about_repeats(document: Mapping[str, Any]) -> str:
    """Return why a view comes first, for people; empty for a protocol without two rankings."""
    if document["other"] is None:
        return ""
    return f"{float(document['repeat_share']):.1%} of the targets are repeats; {document['first'] or 'all'} comes first"
