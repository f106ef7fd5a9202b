"""Whether a candidate goes into force: judged on the newest hours, which neither of the two bundles has learnt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

Document = Mapping[str, Any]  # see training/judging/document.py
VIEWS: Final = ("unseen", "warm", "cold")


class Verdict(NamedTuple):
    """The decision, its reason in one line, and the figures that it rests on."""

    promote: bool
    reason: str
    figures: dict[str, Any]


def verdict(candidate: Document, before: Document | None, tolerance: float) -> Verdict:
    """Decide.

    Args:
        candidate: the candidate's document.
        before: that of the bundle in force, on the same queries; None on the first day.
        tolerance: share by which the candidate may be below it.
    """
    metric = candidate["first_metric"]
    reached = float(candidate["test"][metric])
    old = None if before is None else float(before["test"][metric])
    baselines = {name: float(values[metric]) for name, values in candidate["baselines"].items()}
    figures = {"metric": metric, "candidate": reached, "in_force": old, **baselines}
    figures["queries"] = int(candidate["queries"]["test"])
    figures["views"] = _views(candidate, before)
    if candidate["below"]:
        name = candidate["below"][0]
        return Verdict(False, f"{metric} {reached:.4f} is below {name}, {baselines[name]:.4f}", figures)
    if old is not None and reached < (1 - tolerance) * old:
        return Verdict(False, f"{metric} {reached:.4f} is below the bundle in force, {old:.4f}", figures)
    other = "no bundle before" if old is None else f"in force {old:.4f}"
    return Verdict(True, f"{metric} {reached:.4f}, {other}, popularity {baselines['popularity']:.4f}", figures)


def _views(candidate: Document, before: Document | None) -> dict[str, dict[str, Any]]:
    """Return the figures of the rankings without seen items, of warm and of cold items, by the name of the view."""
    metric = candidate["first_metric"].rpartition(".")[2]
    named = {view: f"{view}.{metric}" for view in VIEWS if f"{view}.{metric}" in candidate["test"]}
    found = {}
    for view, name in named.items():
        values = {
            "candidate": candidate["test"][name],
            "in_force": None if before is None else before["test"].get(name),
        }
        values |= {baseline: metrics[name] for baseline, metrics in candidate["baselines"].items()}
        found[view] = {**values, "queries": int(candidate["view_queries"]["test"][view])}
    return found
