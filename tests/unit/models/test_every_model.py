"""Every model of the catalogue, with every main switch, passes the checks that a model of one's own must pass."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.baselines import deeprec
from models.catalog import MODELS
from models.checks import learning, scoring
from models.checks.catalogue import ITEMS, facts, histories, inputs_of, scores_of, seed
from models.checks.every import CHECKS, Check
from models.checks.growing import __name__ as GROWING
from models.checks.subject import NotApplicableError
from tests.unit.models.cases import EACH_VARIANT, LENGTH, OVERFITTING, SLOT_BOUND, VARIANTS, ready, subject

BY_HEART = learning.ten_users_can_be_learnt_by_heart
QUICK = [check for check in CHECKS if check.__module__ != GROWING and check is not BY_HEART]  # others: test_growth.py
NAMES = {case: name for case, (name, _) in VARIANTS.items()}

NOT_APPLICABLE = {
    scoring.more_padding_does_not_change_scores: {case for case, name in NAMES.items() if name in SLOT_BOUND},
    learning.training_does_not_see_events_after_the_request: {case for case, name in NAMES.items() if name != "tgsrec"},
    learning.every_weight_that_learns_gets_a_gradient: {"popularity"},
    learning.impressions_can_be_learnt_too: {"popularity"},
    learning.the_loss_counts_each_row_by_its_weight: {"popularity"},
}
"""A mixing matrix along the sequence is indexed by place and by length, a pair of slots by parity."""


def test_every_model_of_the_catalogue_is_tested() -> None:
    assert {name for name, _ in VARIANTS.values()} == set(MODELS)
    assert {VARIANTS[case][0] for case in OVERFITTING} == set(MODELS) - {"popularity"}


@EACH_VARIANT
@pytest.mark.parametrize("check", QUICK, ids=lambda check: check.__name__)
def test_a_model_passes_the_check(check: Check, case: str) -> None:
    try:
        check(subject(case))
    except NotApplicableError:
        assert case in NOT_APPLICABLE[check]
    else:
        assert case not in NOT_APPLICABLE.get(check, ())


BIASED = [
    case
    for case in VARIANTS
    if "bias" in case or case in {"popularity", "mgnm", "mgnm-relu-bce", "mind", "comirec-dr", "comirec-sa"}
]


@pytest.mark.parametrize("case", BIASED)
def test_an_empty_history_ranks_by_popularity_before_training(case: str) -> None:
    name, config = VARIANTS[case]
    seed(0)
    known = facts()
    model = MODELS[name].build(config, known).eval()
    scores = scores_of(model, inputs_of(model, histories([0]), [0]))[0].numpy()
    assert np.corrcoef(np.log1p(known.item_popularity[1:]), scores)[0, 1] > 0.8


@pytest.mark.parametrize("case", [case for case, (name, _) in VARIANTS.items() if name in ("sli_rec", "surge")])
@pytest.mark.parametrize("candidates", [6, 7, 15])
def test_rows_in_groups_of_like_length_score_the_same(
    case: str, candidates: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ready(case)
    lists = torch.randint(1, ITEMS + 1, (5, 7), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        state = model.encode(inputs_of(model, histories([4, LENGTH, 0, 1, 3]), [1, 2, 0, 3, 1])).state
        whole = model.score_lists(state, lists)
        monkeypatch.setattr(deeprec, "_CANDIDATES", candidates)
        torch.testing.assert_close(model.score_lists(state, lists), whole, rtol=1e-4, atol=1e-5)


SECOND_VARIANTS = {
    "mgnm-no-projection-bpr", "mgnm-relu-bce", "mimn-side", "mlp4rec-own", "pm-ranking", "pm-side-grouped",
    "tgsrec-softmax-bias",
}  # fmt: skip
"""Dear ones, of models that have a cheaper variant in the list."""

SLOWER = {"pm-ranking", "bert4rec"}
"""One logit per pair, and masks anywhere, teach less in a step."""


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[pytest.mark.slow] * (case in SECOND_VARIANTS)) for case in OVERFITTING]
)
def test_ten_users_can_be_learnt_by_heart(case: str) -> None:
    BY_HEART(subject(case), learning.RATES[1:] if case in SLOWER else learning.RATES[:1])
