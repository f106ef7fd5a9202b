"""GRU4Rec in the deeprec frame: the last state of a GRU and the candidate, through the scoring network.

Hidasi et al., "Session-based Recommendations with Recurrent Neural Networks", ICLR 2016,
https://arxiv.org/abs/1511.06939, in the form of the deeprec models of
https://github.com/recommenders-team/recommenders; nothing is copied. This is the GRU4Rec of MGNM's table; `gru4rec.py`
is the one of Pyramid Mixer's table.

    h = last state of GRU(e_1 .. e_T),  score = MLP([h; e_candidate])

Departures, next to those of `deeprec.py`:
- a GRU without biases, whose state stays zero over left padding; theirs pads on the right and has biases.

Symbols: B rows, T length, e width of a behaviour vector.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from models.base import DatasetFacts, Encoded, Tensors
from models.baselines.deeprec import FrameConfig, FrameModel, ScoringNetwork


@dataclass(frozen=True)
class GRU4RecDeeprecConfig(FrameConfig):
    """Sizes.

    Attributes:
        hidden: size of the GRU's state.
    """

    hidden: int = 40


class GRU4RecDeeprec(FrameModel):
    """State as of the frame: `user` (B, h)."""

    def __init__(self, config: GRU4RecDeeprecConfig, facts: DatasetFacts) -> None:
        super().__init__(config, facts)
        self.gru = nn.GRU(self.vectors.width, config.hidden, bias=False, batch_first=True)
        self.scoring = ScoringNetwork(config.hidden, self.vectors.width, dropout=config.dropout)

    def encode(self, inputs: Tensors) -> Encoded:
        """Return the user's share of the first layer, from the GRU's state at the newest behaviour."""
        behaviours, _ = self.behaviours(inputs)
        states, _ = self.gru(behaviours)
        return self.encoded(states[:, -1])
