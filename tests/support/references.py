"""The record of a model's validation, made up."""

from __future__ import annotations

from contract.bundle.reference import BinnedScores, BinnedWhole, Items, Reference


def reference_of(**changed: object) -> Reference:
    """Return a record of 100 queries with 10 candidates each; a fifth of the candidates was unknown."""
    fields = {
        "queries": 100,
        "scores": BinnedScores(edges=(-0.5, 0.1, 0.7), counts=(100, 400, 400, 100)),
        "lengths": BinnedWhole(edges=(0, 5, 20), counts=(10, 20, 30, 40)),
        "ages": BinnedWhole(edges=(3_600, 86_400), counts=(45, 45, 0)),
        "candidates": Items(known=800, unknown=200),
        "behaviours": Items(known=0, unknown=0),
    }
    return Reference.model_validate({**fields, **changed})
