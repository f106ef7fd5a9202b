"""Whether a candidate goes into force: judged on the newest hours, which neither of the two bundles has learnt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

Document = Mapping[str, Any]  # see training/judging/document.py


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
    if candidate["below"]:
        name = candidate["below"][0]
        return Verdict(False, f"{metric} {reached:.4f} is below {name}, {baselines[name]:.4f}", figures)
    if old is not None and reached < (1 - tolerance) * old:
        return Verdict(False, f"{metric} {reached:.4f} is below the bundle in force, {old:.4f}", figures)
    other = "no bundle before" if old is None else f"in force {old:.4f}"
    return Verdict(True, f"{metric} {reached:.4f}, {other}, popularity {baselines['popularity']:.4f}", figures)
