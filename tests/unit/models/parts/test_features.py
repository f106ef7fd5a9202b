"""Side information against a second, slow implementation, and what a model without any must stay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.checks.catalogue import ITEMS, facts, histories, inputs_of, scores_of
from models.parts.features import ItemVectors, SideFields, gap_bins, rating_bins
from models.parts.layers import item_table
from tests.unit.models.cases import LENGTH, build
from tests.unit.models.slow import Array, Weights, linear, weights_of

WIDTH = 16
ALL = SideFields(side=("genres", "year"), rating=True, gap=True, out_side=True)
SIDED = ["sasrec-side", "fmlp-side", "mixer-side"]


def vectors(fields: SideFields) -> ItemVectors:
    torch.manual_seed(4)
    return ItemVectors(facts(), WIDTH, 0.02, fields)


def slow_feature(w: Weights, place: int, name: str, item: int) -> Array:
    table = w[f"side.side.{place}.table.weight"]
    values = [value for value in facts().item_features[name][item] if value > 0]
    return np.asarray(np.mean([table[value] for value in values], axis=0)) if values else np.zeros(table.shape[1])


def slow_gap(times: NDArray[np.int64], place: int) -> int:
    return 1 + int(np.log2(1 + (times[place] - times[place - 1]) // 1000)) if place else 0


def test_without_side_information_the_table_is_the_plain_one() -> None:
    plain = vectors(SideFields())
    torch.manual_seed(4)
    assert torch.equal(plain.weight, item_table(facts(), WIDTH, 0.02).weight)
    assert list(plain.state_dict()) == ["weight"]
    ids = torch.tensor([[0, 3, 30]])
    assert torch.equal(plain.behaviours({"items": ids}), plain.weight[ids])
    assert plain.all() is plain.weight
    assert torch.equal(plain.candidates(ids), plain.weight[ids])


def test_tables_of_side_information_start_as_the_config_tells() -> None:
    small, usual = vectors(replace(ALL, side_start=0.01)), vectors(ALL)
    for name in ("side.side.1.table.weight", "side.rating.weight", "side.gap.weight"):
        weights = {
            key: model.state_dict()[name][1:].std().item() for key, model in (("small", small), ("usual", usual))
        }
        assert weights == pytest.approx({"small": 0.01, "usual": WIDTH**-0.5}, rel=0.4)
    with pytest.raises(ValueError, match="side_start"):
        SideFields(side_start=-1)


def test_behaviours_equal_the_slow_equations() -> None:
    model = vectors(ALL)
    w = weights_of(model)
    row = histories([LENGTH])[0]
    row["values"][2] = 0  # no rating
    inputs = {name: torch.from_numpy(column[None]) for name, column in row.items()}
    fast = model.behaviours(inputs).detach().numpy()[0]
    for t, item in enumerate(row["items"]):
        rating = w["side.rating.weight"][(row["values"][t] + 4) // 5]
        gap = w["side.gap.weight"][slow_gap(row["times"], t)]
        fields = [slow_feature(w, place, name, item) for place, name in enumerate(ALL.side)]
        slow = w["weight"][item] + linear(np.concatenate([*fields, rating, gap]), w, "side.group")
        np.testing.assert_allclose(fast[t], slow, rtol=1e-4, atol=1e-6)


def test_candidates_equal_the_slow_equations_one_by_one_and_all_at_once() -> None:
    model = vectors(ALL)
    w = weights_of(model)
    every = model.all().detach().numpy()
    for item in range(1, ITEMS + 1):
        fields = [slow_feature(w, place, name, item) for place, name in enumerate(ALL.side)]
        slow = w["weight"][item] + linear(np.concatenate(fields), w, "side.out")
        np.testing.assert_allclose(every[item], slow, rtol=1e-4, atol=1e-6)
    ids = torch.tensor([[5, 30], [1, 5]])
    torch.testing.assert_close(model.candidates(ids), model.all()[ids])


@pytest.mark.parametrize("fields", [SideFields(side=("genres",)), SideFields(rating=True, out_side=True)])
def test_candidates_stay_id_rows_unless_features_are_asked_for(fields: SideFields) -> None:
    model = vectors(fields)
    assert model.side is not None
    assert model.all() is model.weight
    assert torch.equal(model.candidates(torch.tensor([7])), model.weight[7:8])


def test_columns_are_those_that_the_fields_read() -> None:
    assert SideFields(side=("genres",)).columns == ("items",)
    assert SideFields(rating=True).columns == ("items", "values")
    assert ALL.columns == ("items", "times", "values")


@pytest.mark.parametrize("case", SIDED)
def test_each_field_of_a_behaviour_reaches_the_scores(case: str) -> None:
    model = build(case)
    inputs = inputs_of(model, histories([4]), [1])
    before = scores_of(model, inputs)
    better = inputs["values"].clone()
    better[:, -1] = 50 - better[:, -1] + 5
    later = inputs["times"].clone()
    later[:, -1] += 10**9
    for changed in ({"values": better}, {"times": later}):
        assert not torch.allclose(scores_of(model, inputs | changed), before, atol=1e-4)


@pytest.mark.parametrize("case", SIDED)
def test_a_candidate_without_a_row_of_its_own_is_scored_by_its_features(case: str) -> None:
    model = build(case)
    assert isinstance(model.items, ItemVectors)
    inputs = inputs_of(model, histories([4]), [1])
    with torch.no_grad():
        model.items.weight.zero_()
    scores = scores_of(model, inputs)[0]
    assert scores.std() > 0.01  # the bias of a model that learns none is zero: only features tell items apart


def test_ratings_are_half_units_and_gaps_powers_of_two_seconds() -> None:
    assert rating_bins(torch.tensor([0, 1, 5, 6, 50, 255, 999])).tolist() == [0, 1, 1, 2, 10, 51, 51]
    times = torch.tensor([[0, 5_000, 5_999, 6_999, 9_999]])
    assert gap_bins(torch.tensor([[0, 3, 3, 3, 3]]), times).tolist() == [[0, 0, 1, 2, 3]]
