"""SASRec: attention looks back only."""

from __future__ import annotations

import torch

from models.baselines.sasrec import SASRec
from tests.unit.models.cases import LENGTH, build


def test_no_position_sees_a_later_one() -> None:
    model = build("sasrec")
    assert isinstance(model, SASRec)
    x = torch.randn(1, LENGTH, 16, requires_grad=True)
    y = model.blocks[0](x, model.causal[None, None], last=False)
    (gradient,) = torch.autograd.grad(y[0, 3].sum(), x)
    assert (gradient[0].abs().sum(dim=-1) > 0).tolist() == [True] * 4 + [False] * (LENGTH - 4)


def test_the_last_position_alone_equals_the_last_of_all() -> None:
    model = build("sasrec")
    assert isinstance(model, SASRec)
    x, bias = torch.randn(2, LENGTH, 16), model.causal[None, None]
    torch.testing.assert_close(model.blocks[1](x, bias, last=True), model.blocks[1](x, bias, last=False)[:, -1:])
