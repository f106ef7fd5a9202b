"""Yesterday's weights in a model with rows for today's users, items and feature values."""

from __future__ import annotations

import pytest
import torch

from models.catalog import MODELS
from models.checks import growing
from models.checks.catalogue import ITEMS, MORE_ITEMS, facts, grown_facts
from models.growth import GrowthError, grow
from models.parts.new_items import IdPart
from tests.unit.models.cases import EACH_VARIANT, LENGTH, VARIANTS, build, subject

ONE_OF_EACH = pytest.mark.parametrize("case", {name: case for case, (name, _) in VARIANTS.items()}.values())


@EACH_VARIANT
def test_old_items_have_the_scores_of_yesterday_before_the_first_step(case: str) -> None:
    growing.old_items_have_the_scores_of_yesterday_after_a_warm_start(subject(case))


@ONE_OF_EACH
def test_new_items_and_users_have_rows_and_finite_scores(case: str) -> None:
    growing.new_items_and_users_have_rows_and_finite_scores_after_a_warm_start(subject(case))


@ONE_OF_EACH
def test_tables_grow_by_rows_and_keep_those_of_yesterday(case: str) -> None:
    growing.tables_grow_by_rows_and_keep_those_of_yesterday(subject(case))
    old, new = growing.grown(subject(case))
    sizes = [[one.shape for one in model.parameters()] for model in (old, new)]
    assert sizes[0] != sizes[1] or VARIANTS[case][0] == "popularity"


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
    _, new = growing.grown(subject(case))
    parts = [part for part in new.modules() if isinstance(part, IdPart)]
    assert len(parts) == 1
    tables = [weight for weight in new.parameters() if weight.dim() > 1 and len(weight) == ITEMS + MORE_ITEMS + 1]
    assert len(tables) == 1
    assert torch.equal(tables[0][ITEMS + 1 :], parts[0].vector.expand(MORE_ITEMS, -1))
    bias = new.get_parameter("bias")
    assert torch.equal(bias[ITEMS + 1 :], parts[0].bias.expand(MORE_ITEMS))
    is_new = torch.from_numpy(grown_facts().item_popularity == 0) | (parts[0].share >= 1.0)
    assert torch.equal(parts[0].is_new[1:], is_new[1:])
