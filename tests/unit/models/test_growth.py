"""Yesterday's weights in a model with rows for today's users, items and feature values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.base import DatasetFacts, InteractionLog, SequentialRecommender
from models.catalog import MODELS
from models.growth import GrowthError, data_buffers, grow
from models.new_items import IdPart
from tests.unit.models.cases import ITEMS, LENGTH, USERS, VARIANTS, build, facts, histories, inputs_of, scores_of

EVERY = pytest.mark.parametrize("case", VARIANTS)
ONE_OF_EACH = pytest.mark.parametrize("case", {name: case for case, (name, _) in VARIANTS.items()}.values())
NEW_ITEMS, NEW_USERS = 7, 4
LENGTHS = [0, 1, 3, LENGTH, LENGTH + 10]


def grown_facts() -> DatasetFacts:
    """Return the facts of the small catalogue a day later: new items, users, genres and years; new users met them."""
    old = facts()
    random = np.random.default_rng(6)
    genres = np.concatenate((old.item_features["genres"], random.integers(1, 9, (NEW_ITEMS, 3))))
    year = np.concatenate((old.item_features["year"], random.integers(1, 12, (NEW_ITEMS, 1))))
    log = InteractionLog(
        np.concatenate(([USERS + 1, USERS + 2], old.log.users)),
        np.concatenate(([ITEMS + 1, ITEMS + 2], old.log.items)),
        np.concatenate(([10**12 - 2, 10**12 - 1], old.log.times_ms)),
    )
    popularity = np.concatenate((old.item_popularity, np.arange(1, NEW_ITEMS + 1, dtype=np.float32)))
    return replace(
        old,
        item_count=ITEMS + NEW_ITEMS,
        user_count=USERS + NEW_USERS,
        item_popularity=popularity,
        item_features={"genres": genres, "year": year},
        cardinalities={"genres": 9, "year": 12},
        log=log,
    )


def grown(case: str) -> tuple[SequentialRecommender, SequentialRecommender]:
    """Return yesterday's model and today's, in evaluation mode."""
    old = build(case).train().eval()  # item vectors of the weights as they are now
    name, config = VARIANTS[case]
    torch.manual_seed(4)
    new = MODELS[name].build(config, grown_facts())
    grow(new, old.state_dict(), ITEMS)
    return old, new


@EVERY
def test_old_items_have_the_scores_of_yesterday_before_the_first_step(case: str) -> None:
    old, new = grown(case)
    rows, users = histories(LENGTHS), [0, 1, 2, 3, USERS]
    assert not new.training
    torch.testing.assert_close(
        scores_of(new, inputs_of(new, rows, users)), scores_of(old, inputs_of(old, rows, users)), rtol=1e-4, atol=1e-5
    )


@ONE_OF_EACH
def test_new_items_and_users_have_rows_and_finite_scores(case: str) -> None:
    _, new = grown(case)
    history = {
        "items": np.array([1, ITEMS + 1, ITEMS + NEW_ITEMS]),
        "times": 10**12 + np.arange(3),
        "values": np.ones(3, dtype=np.int64),
    }
    state = new.encode(inputs_of(new, [history], [USERS + NEW_USERS])).state
    scores = new.score_all(state)
    assert scores.shape == (1, ITEMS + NEW_ITEMS + 1)
    assert torch.isfinite(scores).all()


@ONE_OF_EACH
def test_tables_grow_by_rows_and_keep_those_of_yesterday(case: str) -> None:
    old, new = grown(case)
    computed = data_buffers(new)
    before, after = old.state_dict(), new.state_dict()
    changed = {name for name in after if name not in computed and after[name].shape != before[name].shape}
    growth = {len(after[name]) - len(before[name]) for name in changed}
    assert growth <= {NEW_ITEMS, NEW_USERS, 3}  # items, users, and genres or years
    assert all(torch.equal(after[name][: len(before[name])], before[name]) for name in changed)
    assert changed or VARIANTS[case][0] == "popularity"


def test_a_model_of_another_config_is_refused_by_the_name_of_a_tensor() -> None:
    wider = MODELS["sasrec"].build({"length": LENGTH, "width": 8, "inner": 32}, facts())
    with pytest.raises(GrowthError, match=r"positions: \(8, 16\) does not fit into \(8, 8\)"):
        grow(wider, build("sasrec").state_dict(), ITEMS)
    with pytest.raises(GrowthError, match="only one of both models has it"):
        grow(build("sasrec-side"), build("sasrec").state_dict(), ITEMS)


def test_a_smaller_table_is_refused() -> None:
    old = MODELS["sasrec"].build(VARIANTS["sasrec"][1], grown_facts())
    with pytest.raises(GrowthError, match="does not fit"):
        grow(build("sasrec"), old.state_dict(), ITEMS)


@pytest.mark.parametrize("case", [case for case, (_, config) in VARIANTS.items() if config.get("id_dropout")])
def test_a_new_item_starts_as_the_learnt_substitute_for_an_id(case: str) -> None:
    _, new = grown(case)
    parts = [part for part in new.modules() if isinstance(part, IdPart)]
    assert len(parts) == 1
    tables = [weight for weight in new.parameters() if weight.dim() > 1 and len(weight) == ITEMS + NEW_ITEMS + 1]
    assert len(tables) == 1
    assert torch.equal(tables[0][ITEMS + 1 :], parts[0].vector.expand(NEW_ITEMS, -1))
    bias = new.get_parameter("bias")
    assert torch.equal(bias[ITEMS + 1 :], parts[0].bias.expand(NEW_ITEMS))
    is_new = torch.from_numpy(grown_facts().item_popularity == 0) | (parts[0].share >= 1.0)
    assert torch.equal(parts[0].is_new[1:], is_new[1:])
