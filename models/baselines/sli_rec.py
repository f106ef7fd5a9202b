"""SLi-Rec: an LSTM with two time gates for the short term, attention for the long term, mixed per candidate.

Yu et al., "Adaptive User Modeling with Long and Short-Term Preferences for Personalized Recommendation", IJCAI 2019,
https://www.ijcai.org/proceedings/2019/585, in the form of the deeprec models of
https://github.com/recommenders-team/recommenders; nothing is copied.

| Part | Here |
| --- | --- |
| tn = log days to now, tf = log days from the first behaviour to the next | `log_days`, `SLiRec._times` |
| a_n = tanh(tn w1 + b1), a_l = tanh(tf w2 + b2) | `Time4LSTM.near`, `far` |
| T_n = s(x K1 + a_n J1 + c1), T_l = s(x K2 + a_l J2 + c2) | `Time4LSTM.near_gate`, `far_gate` |
| i, j, f, o = [x; h] W + b, o += a_n O1 + a_l O2 | `Time4LSTM.gates`, `recurrent`, `output` |
| c' = s(f+1) T_l c + s(i) T_n tanh(j), h' = s(o) tanh(c') | `Time4LSTM.forward` |
| long = attention of A2SVD, short = attention of the candidate over h_t | `QueryAttention`, `PairAttention` |
| alpha = s(FCN([t; long; short; tn_last])), u = alpha long + (1 - alpha) short | `SLiRec._logits` |

Departures, next to those of `deeprec.py`:
- tn_last is that of the newest behaviour; theirs reads the last column, which is padding for short histories;
- the attention networks have no batch normalisation (theirs averages over padding too);
- the 1 of s(f+1) is where the bias of f starts;
- the state has as many units as e is wide, since long and short are mixed.

"Now" is the time of the request and enters the LSTM, so a state is valid only for its request.

Symbols: B rows, T length, N candidates of a row, d width of an item, e width of a behaviour vector and of the state.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contract.bundle.tensors import RowInput, SequenceColumn
from models.base import DatasetFacts, Encoded, Scored, ServingClass, Tensors
from models.baselines.a2svd import QueryAttention
from models.baselines.deeprec import (
    FrameConfig,
    FrameModel,
    PairAttention,
    ScoringNetwork,
    by_length,
    masked_softmax,
)

DAY_MS = 86_400_000
PAIRS = 1 << 16  # positions times candidates at once: their hidden layers stay within a few megabytes


def log_days(milliseconds: Tensor) -> Tensor:
    """Return the logarithm of days, at least half of one, of differences int64."""
    return torch.log((milliseconds.to(torch.float32) / DAY_MS).clamp_min(0.5))


class Time4LSTM(nn.Module):
    """The cell over a whole sequence; all that does not read the state before is computed ahead of the loop."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.near, self.far = nn.Linear(1, hidden), nn.Linear(1, hidden)
        self.near_gate, self.far_gate = (nn.Linear(width + hidden, hidden) for _ in range(2))
        self.gates = nn.Linear(width, 4 * hidden)  # i, f, o, j
        self.output = nn.Linear(2 * hidden, hidden, bias=False)
        self.recurrent = nn.Linear(hidden, 4 * hidden, bias=False)
        with torch.no_grad():
            self.gates.bias[hidden : 2 * hidden] += 1.0
        self.hidden = hidden

    def forward(self, x: Tensor, near: Tensor, far: Tensor, mask: Tensor) -> Tensor:
        """Return all states (B, T, n) of items (B, T, d) with times (B, T); padding on the left leaves zeros."""
        n = self.hidden
        a_near, a_far = torch.tanh(self.near(near[..., None])), torch.tanh(self.far(far[..., None]))
        real = mask[..., None]  # both gates shut: c stays zero, and so does h
        take = torch.sigmoid(self.near_gate(torch.cat((x, a_near), dim=-1))) * real
        keep = torch.sigmoid(self.far_gate(torch.cat((x, a_far), dim=-1))) * real
        timed = self.output(torch.cat((a_near, a_far), dim=-1))
        inputs = self.gates(x) + F.pad(timed, (2 * n, n))
        h = c = torch.zeros_like(x[:, 0, :1]).expand(-1, n)
        states = []
        for step, kept, taken in zip(inputs.unbind(1), keep.unbind(1), take.unbind(1), strict=True):
            gates = step + self.recurrent(h)
            i, f, o = torch.sigmoid(gates[:, : 3 * n]).chunk(3, dim=1)
            c = f * kept * c + i * taken * torch.tanh(gates[:, 3 * n :])
            h = o * torch.tanh(c)
            states.append(h)
        return torch.stack(states, dim=1)


class SLiRec(FrameModel):
    """State: what attention reads of each position, and `long`, `mix` of the user.

    Explanation of a score: `long_weight` (M,), alpha.
    """

    serving_class: ClassVar[ServingClass] = "D"
    context_state: ClassVar[str | None] = "long"
    columns: tuple[SequenceColumn, ...] = ("items", "times")
    row_inputs: tuple[RowInput, ...] = ("request_time",)

    def __init__(self, config: FrameConfig, facts: DatasetFacts) -> None:
        super().__init__(config, facts)
        self.item_width, e = config.width, self.vectors.width
        self.lstm = Time4LSTM(config.width, e)
        self.long, self.short = QueryAttention(e), PairAttention(e, e)
        self.mix_user, self.mix_pair = nn.Linear(e + 1, 80), nn.Linear(2 * e, 80, bias=False)
        self.mix = nn.Sequential(nn.ReLU(), nn.Linear(80, 40), nn.ReLU(), nn.Linear(40, 1), nn.Sigmoid())
        self.scoring = ScoringNetwork(e, e, dropout=config.dropout)

    def _times(self, inputs: Tensors, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return tn and tf (B, T), zeros on padding; differences are taken as whole numbers."""
        times, now = inputs["times"], inputs["request_time"][:, None]
        # Gathered: with a minimum of whole numbers, ONNX Runtime's states were off by .018 on batches of 64 rows.
        padded = (inputs["items"] == 0).to(torch.int64).sum(dim=1, keepdim=True)
        first = times.gather(1, padded.clamp_max(times.shape[1] - 1))  # the oldest behaviour is after all padding
        following = torch.cat((times[:, 1:], now), dim=1)
        return log_days(now - times) * mask, log_days(following - first) * mask

    def encode(self, inputs: Tensors) -> Encoded:
        """Return the states of the LSTM, their share of the attention, and the long-term part."""
        e, mask = self.behaviours(inputs)
        near, far = self._times(inputs, mask)
        states = self.lstm(e[..., : self.item_width], near, far, mask)
        keys, shares = self.short.keys(states)
        long, weights = self.long(e, mask)
        mix = self.mix_user(torch.cat((long, near[:, -1:]), dim=-1))
        state = {"states": states, "keys": keys, "shares": shares, "mask": mask, "long": long, "mix": mix}
        return Encoded(state, {"attention": weights})

    def _user(self, state: Tensors, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return u (..., e) and alpha (..., 1) for candidates t (..., e), under states that broadcast against them."""
        weights = masked_softmax(self.short.logits(state["keys"], state["shares"], t), state["mask"])
        short = (weights[..., None, :] @ state["states"]).squeeze(-2)
        alpha = self.mix(state["mix"] + self.mix_pair(torch.cat((t, short), dim=-1)))
        return alpha * state["long"] + (1 - alpha) * short, alpha

    def score(self, state: Tensors, candidates: Tensor, rows: Tensor) -> Scored:
        """Return the logit of each candidate with the user as it sees them, plus the item's bias."""
        t = F.embedding(candidates, self.vectors.all())
        u, alpha = self._user({name: tensor[rows] for name, tensor in state.items()}, t)
        logits = self.scoring(self.scoring.user(u), t)
        return Scored(logits + self.bias[candidates], {"long_weight": alpha.squeeze(-1)})

    def score_lists(self, state: Tensors, candidates: Tensor) -> Tensor:
        """Score one list of candidates (B, N) per row, some at a time; no state is copied per candidate."""
        vectors = self.vectors.all()

        def users(state: Tensors, lists: Tensor) -> Tensor:
            wide = {name: tensor[:, None] for name, tensor in state.items()}
            some = max(1, PAIRS // state["mask"].numel())
            parts = torch.split(F.embedding(lists, vectors), some, dim=1)
            return torch.cat([self._user(wide, part)[0] for part in parts], dim=1)

        u = by_length(state, candidates, users, whole=frozenset(("long", "mix")))
        logits: Tensor = self.scoring(
            self.scoring.user(u.flatten(0, 1)), F.embedding(candidates, vectors).flatten(0, 1)
        )
        return logits.view_as(candidates) + self.bias[candidates]

    def score_all(self, state: Tensors) -> Tensor:
        """Score every item for every row, (B, I+1)."""
        items = torch.arange(self.item_count + 1, device=state["mask"].device)
        return self.score_lists(state, items.expand(len(state["mask"]), -1))
