"""Losses against numbers worked out by hand, and the shared item bias."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from models.base import log_popularity
from models.parts.objectives import bce, bpr, full_softmax, row_mean, sampled_softmax


def test_full_softmax_leaves_padding_out() -> None:
    scores = torch.tensor([[1e9, 0.0, 0.0, 0.0, 0.0]])
    assert full_softmax(scores, torch.tensor([3])).item() == pytest.approx(math.log(4))


def test_sampled_softmax_is_the_share_of_the_first_entry() -> None:
    assert sampled_softmax(torch.tensor([math.log(3), 0.0, 0.0])).item() == pytest.approx(-math.log(3 / 5))


def test_binary_cross_entropy_is_summed_over_the_list() -> None:
    logits = torch.tensor([2.0, -1.0])
    expected = math.log1p(math.exp(-2)) + math.log1p(math.exp(-1))
    assert bce(logits).item() == pytest.approx(expected)


def test_pairwise_loss_is_a_mean_over_negatives() -> None:
    logits = torch.tensor([1.0, 1.0, 0.0])
    expected = (math.log(2) + math.log1p(math.exp(-1))) / 2
    assert bpr(logits).item() == pytest.approx(expected)


def test_losses_stay_finite_at_extreme_logits() -> None:
    logits = torch.tensor([[-1e4, 1e4], [1e4, -1e4]])
    for loss in (sampled_softmax, bce, bpr):
        assert torch.isfinite(loss(logits)).all()


def test_log_popularity_is_finite_for_items_nobody_chose_and_zero_for_padding() -> None:
    bias = log_popularity(np.array([0, 0, 5, 11], dtype=np.float32))
    torch.testing.assert_close(bias, torch.tensor([0.0, math.log(3 / 19), math.log(18 / 19), math.log(36 / 19)]))


def test_seen_items_leave_the_softmax_except_the_target_and_padding() -> None:
    scores = torch.tensor([[9.0, 0.0, 5.0, 0.0, 0.0], [9.0, 3.0, 0.0, 0.0, 0.0]], requires_grad=True)
    seen = torch.tensor([[0, 2, 2], [0, 1, 4]])
    loss = full_softmax(scores, torch.tensor([1, 4]), seen)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(math.log(3))  # item 2 leaves the first row, item 1 the second; target 4 stays
    assert scores.grad is not None
    expected = torch.tensor([[0, -2 / 3, 0, 1 / 3, 1 / 3], [0, 0, 1 / 3, 1 / 3, -2 / 3]]) / 2
    torch.testing.assert_close(scores.grad, expected)


def test_a_row_of_weight_three_counts_as_three_rows() -> None:
    losses = torch.tensor([[1.0, 3.0], [5.0, 7.0]])
    assert row_mean(losses, None).item() == pytest.approx(4.0)
    assert row_mean(losses, torch.tensor([3.0, 1.0])).item() == pytest.approx((3 * 2 + 6) / 4)
