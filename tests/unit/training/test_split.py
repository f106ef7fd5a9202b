from __future__ import annotations

import numpy as np
import pytest

from training.split import Rows, leave_last_out, training_mask


def _pairs(rows: Rows) -> list[tuple[int, int, int]]:
    return list(zip(rows.users.tolist(), rows.starts.tolist(), rows.targets.tolist(), strict=True))


def test_the_last_is_test_the_one_before_validation_the_rest_training() -> None:
    split = leave_last_out(np.array([0, 5, 8]))
    assert _pairs(split.train) == [(0, 0, 1), (0, 0, 2)]
    assert _pairs(split.valid) == [(0, 0, 3), (1, 5, 6)]
    assert _pairs(split.test) == [(0, 0, 4), (1, 5, 7)]


def test_five_can_be_held_out() -> None:
    split = leave_last_out(np.array([0, 20]), held=5)
    assert [target for _, _, target in _pairs(split.test)] == [15, 16, 17, 18, 19]
    assert [target for _, _, target in _pairs(split.valid)] == [10, 11, 12, 13, 14]
    assert [target for _, _, target in _pairs(split.train)] == list(range(1, 10))


@pytest.mark.parametrize("held", [1, 2, 5])
def test_every_interaction_but_a_first_one_is_one_target_however_short_the_user(held: int) -> None:
    starts = np.array([0, 1, 3, 6, 10, 10, 25])
    split = leave_last_out(starts, held)
    targets = np.concatenate([part.targets for part in split])
    assert sorted(targets.tolist()) == sorted(set(range(25)) - {0, 1, 3, 6, 10})
    assert all((part.starts < part.targets).all() for part in split)


def test_training_never_holds_a_held_out_interaction() -> None:
    starts = np.array([0, 1, 3, 6, 10, 10, 25])
    split = leave_last_out(starts, 2)
    mask = training_mask(starts, 2)
    assert not mask[split.test.targets].any()
    assert not mask[split.valid.targets].any()
    assert mask[split.train.targets].all()
    assert mask[[0, 1, 3, 6, 10]].all()
