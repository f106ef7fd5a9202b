"""The dropout that all models share."""

from __future__ import annotations

import pytest
import torch

from models.parts.layers import Dropout


def test_dropout_drops_its_share_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    layer = Dropout(0.25).train()
    x = torch.ones(1000, 333)
    y = layer(x)
    assert (y == 0).float().mean().item() == pytest.approx(0.25, abs=0.003)
    assert y.mean().item() == pytest.approx(1.0, abs=0.004)
    torch.testing.assert_close(y.unique(), torch.tensor([0.0, 4 / 3]))


def test_every_byte_of_a_word_drops_alike() -> None:
    torch.manual_seed(0)
    dropped = (Dropout(0.5).train()(torch.ones(40_000, 8)) == 0).float().mean(dim=0)
    torch.testing.assert_close(dropped, torch.full((8,), 0.5), atol=0.012, rtol=0)


def test_the_gradient_passes_where_the_value_passed() -> None:
    torch.manual_seed(0)
    x = torch.ones(64, requires_grad=True)
    y = Dropout(0.5).train()(x)
    y.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, y.detach())


def test_dropout_repeats_by_seed_and_rests_in_evaluation() -> None:
    layer, x = Dropout(0.5).train(), torch.ones(100)
    draws = []
    for _ in range(2):
        torch.manual_seed(4)
        draws.append(layer(x))
    assert torch.equal(*draws)
    assert layer.eval()(x) is x


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5])
def test_a_rate_that_is_no_share_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="dropout"):
        Dropout(rate)
