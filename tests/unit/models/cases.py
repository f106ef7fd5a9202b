"""Every model with its main switches, at a size that a test can afford."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from contract.bundle.context import ContextSpec
from models.base import SequentialRecommender
from models.checks.catalogue import facts
from models.checks.subject import Subject

LENGTH = 8

_PM: dict[str, Any] = {
    "length": LENGTH,
    "width": 16,
    "layers": 1,
    "rank_behaviour": 4,
    "rank_feature": 8,
    "rank_gate": 8,
    "dropout": 0.1,
}
_SIDE: dict[str, Any] = {"side": ["genres", "year"], "rating": True, "gap": True}
_NEW: dict[str, Any] = {"out_side": True, "id_dropout": 0.3}
_SASREC: dict[str, Any] = {"length": LENGTH, "width": 16, "inner": 32}
_FMLP: dict[str, Any] = {"length": LENGTH, "width": 16, "inner": 32, "dropout": 0.1}
_MIXER: dict[str, Any] = {"length": LENGTH, "width": 16, "expand": 2, "dropout": 0.1}
_BERT: dict[str, Any] = {"length": LENGTH, "width": 16, "inner": 32}
_MLP: dict[str, Any] = {"length": LENGTH, "width": 16, "layers": 2, "dropout": 0.1}
_MIMN: dict[str, Any] = {"length": LENGTH, "width": 8, "side_width": 4, "popularity_bias": True}
_SURGE: dict[str, Any] = {
    "length": LENGTH, "width": 8, "side_width": 4, "hidden": 8, "pool": 5, "popularity_bias": True,
}  # fmt: skip
_TGSREC: dict[str, Any] = {"length": LENGTH, "width": 8, "time_width": 8, "neighbours": [3, 2], "dropout": 0.1}
_MGNM: dict[str, Any] = {"length": LENGTH, "width": 8, "interests": 3, "rnn_width": 5}
_INTERESTS: dict[str, Any] = {"length": LENGTH, "width": 8, "interests": 3}
_DEEPREC: dict[str, Any] = {"length": LENGTH, "width": 12}
_CATEGORIES: dict[str, Any] = _DEEPREC | {"side": ["genres", "year"], "side_width": 4}

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "popularity": ("popularity", {"length": LENGTH}),
    "bpr-bias": ("bpr", {"length": LENGTH, "width": 16}),
    "bpr-plain": ("bpr", {"length": LENGTH, "width": 16, "popularity_bias": False, "dropout": 0.1}),
    "fpmc-bias": ("fpmc", {"length": LENGTH, "width": 16}),
    "fpmc-full": ("fpmc", {"length": LENGTH, "width": 16, "popularity_bias": False, "objective": "full"}),
    "gru4rec": ("gru4rec", {"length": LENGTH, "width": 16, "hidden": 24}),
    "gru4rec-bias": ("gru4rec", {"length": LENGTH, "width": 16, "hidden": 24, "popularity_bias": True}),
    "fmlp": ("fmlp", _FMLP),
    "fmlp-bias": ("fmlp", _FMLP | {"popularity_bias": True, "blocks": 1, "activation": "silu"}),
    "fmlp-odd-length": ("fmlp", _FMLP | {"length": LENGTH - 1}),
    "fmlp-side": ("fmlp", _FMLP | _SIDE | {"out_side": True}),
    "fmlp-bce": ("fmlp", _FMLP | {"objective": "bce"}),
    "fmlp-new-items": ("fmlp", _FMLP | _SIDE | _NEW | {"popularity_bias": True}),
    "mixer": ("mlp_mixer", _MIXER),
    "mixer-bias": ("mlp_mixer", _MIXER | {"popularity_bias": True, "layers": 1, "activation": "silu"}),
    "mixer-side": ("mlp_mixer", _MIXER | _SIDE | {"out_side": True}),
    "mixer-sampled": ("mlp_mixer", _MIXER | {"objective": "bpr"}),
    "sasrec": ("sasrec", _SASREC),
    "sasrec-bias": ("sasrec", _SASREC | {"popularity_bias": True}),
    "sasrec-side": ("sasrec", _SASREC | _SIDE | {"out_side": True}),
    "sasrec-new-items": ("sasrec", _SASREC | _SIDE | _NEW | {"objective": "bce"}),
    "sasrec-side-history": ("sasrec", _SASREC | {"side": ["genres"], "gap": True}),
    "sasrec-sampled": ("sasrec", _SASREC | {"objective": "softmax"}),
    "bert4rec": ("bert4rec", _BERT),
    "bert4rec-bias": ("bert4rec", _BERT | {"mask_share": 0.6, "last_share": 0.1, "popularity_bias": True}),
    "mlp4rec": ("mlp4rec", _MLP),
    "mlp4rec-bias": ("mlp4rec", _MLP | {"popularity_bias": True, "activation": "silu"}),
    "mlp4rec-side": ("mlp4rec", _MLP | _SIDE),
    "mlp4rec-own": ("mlp4rec", _MLP | _SIDE | {"share": False, "objective": "softmax"}),
    "mimn-bias": ("mimn", _MIMN),
    "mimn-side": ("mimn", _MIMN | {"side": ["genres", "year"], "slots": 3, "objective": "bpr"}),
    "mimn-no-induction": ("mimn", _MIMN | {"induction": False, "popularity_bias": False}),
    "mimn-no-utilisation": ("mimn", _MIMN | {"utilisation": 0.0}),
    "surge-bias": ("surge", _SURGE),
    "surge-side": ("surge", _SURGE | {"side": ["genres", "year"], "objective": "bce"}),
    "surge-binary-graph": ("surge", _SURGE | {"learn_graph": False, "popularity_bias": False}),
    "surge-no-pooling": ("surge", _SURGE | {"pool": 30}),
    "pm": ("pyramid_mixer", _PM),
    "pm-bias": ("pyramid_mixer", _PM | {"popularity_bias": True}),
    "pm-two-layers": ("pyramid_mixer", _PM | {"layers": 2}),
    "pm-side": ("pyramid_mixer", _PM | _SIDE),
    "pm-side-grouped": ("pyramid_mixer", _PM | _SIDE | {"side_group": True, "out_side": True, "activation": "silu"}),
    "pm-window-concat": ("pyramid_mixer", _PM | {"pyramid": "window", "readout": "concat"}),
    "pm-causal": ("pyramid_mixer", _PM | {"causal": True}),
    "pm-full-rank": ("pyramid_mixer", _PM | {"low_rank": False}),
    "pm-no-behaviour": ("pyramid_mixer", _PM | {"cross_behaviour": False}),
    "pm-no-feature": ("pyramid_mixer", _PM | {"cross_feature": False}),
    "pm-mean-fusion": ("pyramid_mixer", _PM | {"fusion": "mean"}),
    "pm-no-pyramid": ("pyramid_mixer", _PM | {"scales": 1, "layers": 3}),
    "pm-no-period": ("pyramid_mixer", _PM | {"cross_period": False}),
    "pm-new-items": ("pyramid_mixer", _PM | _SIDE | _NEW | {"side_group": True, "popularity_bias": True}),
    "pm-ranking-new-items": ("pyramid_mixer", _PM | {"side": ["genres"], "head": "ranking", "id_dropout": 0.3}),
    "pm-ranking": ("pyramid_mixer", _PM | _SIDE | {"head": "ranking"}),
    "pm-ranking-no-period": ("pyramid_mixer", _PM | {"head": "ranking", "cross_period": False}),
    "pm-targets": (
        "pyramid_mixer",
        _PM | _SIDE | {"head": "ranking", "targets": {"click": {}, "like": {"loss": 2.0, "score": 0.5}}},
    ),
    "mgnm": ("mgnm", _MGNM),
    "mgnm-deep": ("mgnm", _MGNM | {"levels": 3}),
    "mgnm-raw-level": ("mgnm", _MGNM | {"levels": 0}),
    "mgnm-relu-bce": ("mgnm", _MGNM | {"projection": "relu", "objective": "bce", "negatives": 5}),
    "mgnm-no-projection-bpr": ("mgnm", _MGNM | {"projection": "none", "objective": "bpr"}),
    "mgnm-no-rnn": ("mgnm", _MGNM | {"rnn_width": 0}),
    "mgnm-positional": ("mgnm", _MGNM | {"positional": True}),
    "mgnm-plain-graph": ("mgnm", _MGNM | {"norm": "none", "user_aware": False}),
    "mgnm-as-published": (
        "mgnm",
        _MGNM | {"projection": "relu", "objective": "bce", "popularity_bias": False, "aligned_start": False}
        | {"l1": 1e-5, "l2": 1e-5, "negatives": 5},
    ),
    "mind": ("mind", _INTERESTS),
    "mind-relu-soft": ("mind", _INTERESTS | {"relu_proj": True, "readout": "soft", "popularity_bias": False}),
    "comirec-dr": ("comirec_dr", _INTERESTS),
    "mind-max": ("mind", _INTERESTS | {"readout": "max"}),
    "comirec-dr-max": ("comirec_dr", _INTERESTS | {"readout": "max"}),
    "comirec-sa-max": ("comirec_sa", _INTERESTS | {"readout": "max"}),
    "comirec-dr-published": ("comirec_dr", _INTERESTS | {"positional": True, "aligned_start": False}),
    "comirec-sa": ("comirec_sa", _INTERESTS),
    "comirec-sa-positions": ("comirec_sa", _INTERESTS | {"positions": True, "readout": "max", "objective": "bce"}),
    "tgsrec": ("tgsrec", _TGSREC),
    "tgsrec-one-layer": ("tgsrec", _TGSREC | {"neighbours": [3], "objective": "softmax"}),
    "tgsrec-softmax-bias": (
        "tgsrec", _TGSREC | {"objective": "softmax", "popularity_bias": True, "neighbours": [LENGTH + 3, 4]}
    ),
    "a2svd": ("a2svd", _DEEPREC),
    "a2svd-bias-side": ("a2svd", _CATEGORIES | {"objective": "full"}),
    "gru4rec-deeprec": ("gru4rec_deeprec", _DEEPREC | {"hidden": 10}),
    "gru4rec-deeprec-bias-side": ("gru4rec_deeprec", _CATEGORIES),
    "caser": ("caser", _DEEPREC | {"vertical": 6, "horizontal": 7}),
    "caser-bias-side": ("caser", _CATEGORIES | {"vertical": 6, "horizontal": 7, "windows": 2}),
    "sli-rec": ("sli_rec", _DEEPREC),
    "sli-rec-bias-side": ("sli_rec", _CATEGORIES),
}  # fmt: skip
LEARNING = [case for case in VARIANTS if case not in {"popularity", "pm-targets"}]  # one learns what was shown only

FIRST = {name: case for case, (name, _) in reversed(VARIANTS.items())}
"""The first variant of each model."""

WIDEST = {
    "bpr-plain", "fmlp-new-items", "mixer-side", "sasrec-side", "sasrec-new-items", "mlp4rec-own", "mimn-side",
    "surge-side", "pm-side-grouped", "pm-window-concat", "pm-causal", "pm-new-items", "pm-ranking", "pm-targets",
    "mgnm-as-published", "mind-relu-soft", "tgsrec-softmax-bias", "a2svd-bias-side",
}  # fmt: skip
"""Variants that differ most from the first one of their model."""

EACH_VARIANT = pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=[] if case in WIDEST | set(FIRST.values()) else pytest.mark.slow)
        for case in VARIANTS
    ],
)  # fmt: skip
"""For a check of every variant: those that differ in one switch only are slow."""

SLOT_BOUND = {"pyramid_mixer", "fmlp", "mlp_mixer", "mlp4rec"}
"""Models whose weights along the sequence are tied to its length: padding is neutral, but a longer one needs others."""

OVERFITTING = [
    "bpr-bias",
    "fpmc-bias",
    "fpmc-full",
    "fmlp-bias",
    "fmlp-side",
    "mixer-bias",
    "mixer-side",
    "gru4rec",
    "sasrec-bias",
    "bert4rec",
    "mlp4rec-side",
    "mlp4rec-own",
    "mimn-bias",
    "mimn-side",
    "surge-bias",
    "pm",
    "pm-side-grouped",
    "pm-window-concat",
    "pm-ranking",
    "mgnm",
    "mgnm-relu-bce",
    "mgnm-no-projection-bpr",
    "mind-max",
    "comirec-dr-max",
    "comirec-sa-max",
    "tgsrec-softmax-bias",
    "tgsrec-one-layer",
    "a2svd",
    "gru4rec-deeprec",
    "caser",
    "sli-rec",
]
"""One variant or more of every model: those that must be able to learn ten users by heart.

Not the published readout of MIND and ComiRec: their loss pushes a negative down under the interest that is nearest only
the target, and a served score is the largest over all interests.
"""


CONTEXT = (
    ContextSpec(kind="hour", name="hour"),
    ContextSpec(kind="gap", name="gap"),
    ContextSpec(kind="category", name="device", values=("ios", "web")),
)


@cache
def subject(case: str) -> Subject:
    """Return a case as the checks take it."""
    return Subject(*VARIANTS[case])


def ready(case: str) -> SequentialRecommender:
    """Return what `build` does, one for all tests that only read it: building takes longer than scoring."""
    return subject(case).ready


def build(case: str, context: tuple[ContextSpec, ...] = (), **changes: Any) -> SequentialRecommender:
    """Return a fresh model in evaluation mode, its start fixed, and moved off any start that hides a mistake."""
    return subject(case).build(replace(facts(), context=context), **changes)
