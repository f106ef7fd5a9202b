"""MIMN: a small memory that is read and written at every behaviour, and read once more for each candidate.

Pi et al., "Practice on Long Sequential User Behavior Modeling for Click-Through Rate Prediction", KDD 2019,
https://arxiv.org/abs/1905.09248, in the form of https://github.com/UIC-Paper/MIMN with memory induction and utilisation
regularisation. Written from a description of both; nothing is copied.

| Part of the paper | Here |
| --- | --- |
| controller and addressing (section 3.2) | `_controlled`, `_addressed` |
| memory read and write | `_memorise` |
| memory utilisation regularisation | `_balanced`, `loss` |
| memory induction unit | `_induced` |
| head: one more read for the candidate, attention over channels | `_logits` |

Identities that are used: every write's weights sum to one, so the mean over slots of the sum of all writes is the sum
of the written vectors over m; a slot's channel sees neither the controller nor other channels, so channels run after
the memory, and only the chosen one runs.

Departures:
- One logit and the loss of the recipe instead of two logits and cross-entropy; an item bias that may start at log
  popularity.
- Padded steps keep the state. The published code lets them write (books) or resets the state (Taobao).
- The GRUs are in PyTorch's form (reset gate after the product).
- Cosines have their epsilon under the root; powers of weights are a softmax of logarithms, which cannot vanish.
- Attention over channels is the deeprec frame's (`PairAttention`: it maps channels instead of the candidate, and has
  ReLU instead of a sigmoid).
- The utilisation loss is the variance over slots, a mean over rows; the published one divides by slots and batch again.
- Dropout on behaviour vectors; the published code has none. No auxiliary loss of the next behaviour.
- The state has shares of the head's layers, but not the inputs of a further step: users are always encoded from the
  start.

Symbols: B rows, T length, d width, m slots, M flat candidates, G groups of N candidates each under one user's state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.base import DatasetFacts, Encoded, Scored, SequentialRecommender, ServingClass, Tensors, TrainingBatch
from models.baselines.deeprec import BehaviourVectors, PairAttention
from models.parts.layers import Dropout, item_bias
from models.parts.objectives import Objective, objective_loss, state_loss

_CLIP = 20.0  # of what the controller asks of the heads
_SHARP = 2.0
_USES = 400.0  # scale of aggregate write weights as an input


@dataclass(frozen=True)
class MIMNConfig:
    """Sizes and switches.

    Attributes:
        length: T.
        width: of an item's vector; with its categories it is d.
        slots: m, at least 2.
        side: item features that serve as categories, each `side_width` wide.
        side_width: of each category.
        induction: whether each slot has a channel, a GRU over the behaviours that read it.
        utilisation: weight of the variance of aggregate write weights; 0 also turns the rebalancing of writes off.
        dropout: on behaviour vectors.
        popularity_bias: item bias that starts at log popularity.
        objective: see models/parts/objectives.py.
    """

    length: int = 50
    width: int = 32
    slots: int = 4
    side: tuple[str, ...] = ()
    side_width: int = 16
    induction: bool = True
    utilisation: float = 1e-3
    dropout: float = 0.2
    popularity_bias: bool = False
    objective: Objective = "softmax"


class _Memory(NamedTuple):
    """The memory after the last behaviour, and the weights of each write."""

    controller: Tensor  # (B, d)
    read: Tensor  # (B, d)
    slots: Tensor  # (B, m, d)
    used: Tensor  # (B, m), write weights summed
    written: Tensor  # (B, d), the mean over slots of all that was written
    total: Tensor  # (B, d), behaviour vectors summed
    channels: Tensor | None  # (B, m, d)
    write_heads: tuple[Tensor, Tensor]  # weights as addressed (B, T, m), and their rebalancing (B, T, 4)


class MIMN(SequentialRecommender):
    """State: the memory of each user, and the user's share of the head's layers. Explanation: `slot_use` (B, m)."""

    serving_class: ClassVar[ServingClass] = "C"

    def __init__(self, config: MIMNConfig, facts: DatasetFacts) -> None:
        super().__init__()
        if config.slots < 2:
            raise ValueError(f"mimn: slots {config.slots}: must be at least 2")
        self.config, self.length, self.item_count = config, config.length, facts.item_count
        self.vectors = BehaviourVectors(facts, config.width, config.side, config.side_width)
        self.bias, self.dropout = item_bias(facts, config.popularity_bias), Dropout(config.dropout)
        d, m = self.vectors.width, config.slots
        self.of_item, self.of_state = nn.Linear(d, 3 * d), nn.Linear(d, 3 * d)
        self.of_read = nn.Linear(d, 3 * d, bias=False)
        asked = 4 * d + 2 + (4 if config.utilisation else 0)  # two keys and strengths, erase, add, shift and power
        self.heads = nn.Linear(d + (m if config.utilisation else 0), asked)
        self.out = nn.Linear(2 * d, d)
        self.keys = nn.Parameter(0.5 * torch.randn(m, d))
        self.first_read = nn.Parameter(torch.randn(d) / d**0.5)
        self.register_buffer("first_slots", 1e-5 * torch.randn(m, d))
        if config.induction:
            self.channel_in, self.channel_state = nn.Linear(2 * d, 3 * d), nn.Linear(d, 3 * d)
            self.attention = PairAttention(d, d)
        parts = 4 if config.induction else 3
        self.norm_user, self.norm = nn.BatchNorm1d(d), nn.BatchNorm1d(parts * d)
        self.user, self.candidate = nn.Linear(d, 200), nn.Linear(parts * d, 200, bias=False)
        self.head = nn.Sequential(nn.PReLU(200), nn.Linear(200, 80), nn.PReLU(80), nn.Linear(80, 1))

    first_slots: Tensor

    def encode(self, inputs: Tensors) -> Encoded:
        """Run the memory over the sequence, and return it with the user's share of what `score` computes."""
        memory = self._memorise(inputs)
        return Encoded(self._state(memory), {"slot_use": memory.used})

    def score(self, state: Tensors, candidates: Tensor, rows: Tensor) -> Scored:
        """Return logits of one more read under each candidate, plus the item's bias."""
        logits = self._logits({name: tensor[rows] for name, tensor in state.items()}, candidates[:, None])
        return Scored(logits + self.bias[candidates], {})

    def score_all(self, state: Tensors) -> Tensor:
        """Return `score` of every item without copies of the state, (B, I+1)."""
        items = torch.arange(self.item_count + 1, device=self.bias.device)
        return self.score_lists(state, items.expand(len(state["slots"]), -1))

    def score_lists(self, state: Tensors, candidates: Tensor) -> Tensor:
        """Return `score` of lists (B, N) without copies of the state."""
        return self._logits(state, candidates).view_as(candidates) + self.bias[candidates]

    def loss(self, batch: TrainingBatch) -> Tensor:
        """Return the objective's loss, and the variance of aggregate write weights by its weight."""
        if not self.config.utilisation:
            return objective_loss(self, batch, self.config.objective)
        memory = self._memorise(batch.inputs)
        # The gradient of the aggregate moves the rebalancing of a write, not its address.
        weights, asked = memory.write_heads
        aggregate = _balanced(weights.detach(), asked) * (batch.inputs["items"] > 0)[..., None]
        variance = aggregate.sum(dim=1).var(dim=-1, correction=0).mean()
        state = self.in_context(self._state(memory), batch.inputs)
        fit = state_loss(self, state, batch, self.config.objective)
        return fit + self.config.utilisation * variance

    def _memorise(self, inputs: Tensors) -> _Memory:
        ids = inputs["items"]
        B, T, d, m = ids.shape[0], self.length, self.vectors.width, self.config.slots
        real = ids > 0
        mask = real.to(self.keys.dtype)  # (B, T)
        x = self.dropout(self.vectors(ids))
        of_item = self.of_item(x).unbind(dim=1)
        places = torch.arange(m, device=ids.device)
        h, used = x.new_zeros(B, d), x.new_zeros(B, m)
        r = torch.tanh(self.first_read).expand(B, -1)
        slots = self.first_slots.expand(B, -1, -1)
        added, chosen, chosen_slots, weights, rebalancing = [], [], [], [], []
        for t in range(T):
            now, keep = real[:, t : t + 1], mask[:, t : t + 1]
            new = _gru(of_item[t] + self.of_read(r), self.of_state(h), h)
            asked = self.heads(torch.cat((new, used / _USES), dim=-1) if self.config.utilisation else new)
            asked = asked.clamp(-_CLIP, _CLIP)
            both = self._addressed(asked[:, : 2 * d + 2].view(-1, 2, d + 1), self._addresses(slots))  # (B, 2, m)
            reading, writing = both.unbind(dim=1)
            if self.config.utilisation:
                weights.append(writing)
                rebalancing.append(asked[:, -4:])
                writing = _balanced(writing, asked[:, -4:])
            if self.config.induction:
                one = (reading.argmax(dim=-1, keepdim=True) == places).to(x.dtype) * keep  # (B, m)
                chosen.append(one[..., None])
                chosen_slots.append((one[:, None] @ slots.detach())[:, 0])
            h = torch.where(now, new, h)
            r = torch.where(now, (reading[:, None] @ slots)[:, 0], r)
            erase, add = torch.sigmoid(asked[:, 2 * d + 2 : 3 * d + 2]), torch.tanh(asked[:, 3 * d + 2 : 4 * d + 2])
            writing = writing * keep
            slots = slots + writing[..., None] * (add[:, None] - erase[:, None] * slots)
            used = used + writing.detach()
            added.append(add)
        written = (torch.stack(added, dim=1) * mask[..., None]).sum(dim=1) / m
        channels = self._induced(x, torch.stack(chosen_slots, dim=1), chosen) if self.config.induction else None
        heads = (torch.stack(weights, dim=1), torch.stack(rebalancing, dim=1)) if weights else (used, used)
        return _Memory(h, r, slots, used, written, (x * mask[..., None]).sum(dim=1), channels, heads)

    def _addresses(self, slots: Tensor) -> Tensor:
        """Return the mean of key and slot, each of length one: a query's product with it is the mean cosine."""
        return 0.5 * (_unit(torch.tanh(self.keys)) + _unit(slots))

    def _addressed(self, asked: Tensor, addresses: Tensor) -> Tensor:
        """Return weights (B, n, m) of slots for n heads, each asking by a key and a strength (B, n, d + 1)."""
        key, strength = torch.tanh(asked[..., :-1]), _SHARP * (F.softplus(asked[..., -1:]) + 1)
        return (strength * (_unit(key) @ addresses.transpose(1, 2))).softmax(dim=-1)

    def _induced(self, x: Tensor, chosen_slots: Tensor, chosen: list[Tensor]) -> Tensor:
        """Return the channels: at each behaviour the one of the slot that was read most takes a step, (B, m, d)."""
        of_input = self.channel_in(torch.cat((x, chosen_slots), dim=-1)).unbind(dim=1)
        channels = torch.zeros_like(self.keys).expand(x.shape[0], -1, -1)
        for one, share in zip(chosen, of_input, strict=True):
            before = (one * channels).sum(dim=1)
            after = _gru(share, self.channel_state(before), before)
            channels = channels + one * (after[:, None] - channels)
        return channels

    def _state(self, memory: _Memory) -> Tensors:
        d = self.vectors.width
        of_use = self.heads.bias[: d + 1].expand(memory.used.shape[0], -1)
        if self.config.utilisation:
            of_use = of_use + F.linear(memory.used / _USES, self.heads.weight[: d + 1, d:])
        state = {
            "controller": memory.controller,
            "of_read": self.of_read(memory.read),
            "of_state": self.of_state(memory.controller),
            "of_use": of_use,
            "slots": memory.slots,
            "addresses": self._addresses(memory.slots),
            "written": memory.written,
            "user": self.user(self.norm_user(memory.total)),
        }
        if memory.channels is not None:
            keys, share = self.attention.keys(memory.channels)
            state |= {"channels": memory.channels, "channel_keys": keys, "channel_share": share}
        return state

    def _logits(self, state: Tensors, candidates: Tensor) -> Tensor:
        """Return logits (G * N,) of candidates (G, N) under the states of G users."""
        x, d = self.vectors(candidates), self.vectors.width  # (G, N, d)
        user = {name: state[name][:, None] for name in ("controller", "of_read", "of_state", "of_use", "written")}
        h = _gru(self.of_item(x) + user["of_read"], user["of_state"], user["controller"])
        asked = F.linear(h, self.heads.weight[: d + 1, :d]) + user["of_use"]
        reading = self._addressed(asked.clamp(-_CLIP, _CLIP), state["addresses"])
        parts = [x, self.out(torch.cat((h, reading @ state["slots"]), dim=-1)), user["written"] * x]
        if self.config.induction:
            weights = self.attention.logits(state["channel_keys"][:, None], state["channel_share"][:, None], x)
            parts.append(weights.softmax(dim=-1) @ state["channels"])
        joined = torch.cat(parts, dim=-1)
        own = self.candidate(self.norm(joined.flatten(0, 1))).unflatten(0, (-1, candidates.shape[1]))
        return torch.as_tensor(self.head((own + state["user"][:, None]).flatten(0, 1)).squeeze(-1))


def _gru(of_input: Tensor, of_state: Tensor, h: Tensor) -> Tensor:
    """Return the next state of a GRU from its input's and its state's share of the gates (..., 3 d): r, z, n."""
    sizes = [2 * h.shape[-1], h.shape[-1]]
    gates_of_input, new_of_input = torch.split(of_input, sizes, dim=-1)
    gates_of_state, new_of_state = torch.split(of_state, sizes, dim=-1)
    reset, update = torch.sigmoid(gates_of_input + gates_of_state).chunk(2, dim=-1)
    new = torch.tanh(new_of_input + reset * new_of_state)
    return new + update * (h - new)


def _unit(x: Tensor) -> Tensor:
    return x * torch.rsqrt((x * x).sum(dim=-1, keepdim=True) + 1e-9)


def _balanced(weights: Tensor, asked: Tensor) -> Tensor:
    """Shift weights (..., m) to neighbouring slots, in a circle, and sharpen them; `asked` (..., 4) controls both."""
    shift, power = asked[..., :3].softmax(dim=-1), 2 * _SHARP * (F.softplus(asked[..., 3:]) + 1)
    moved = torch.stack((weights, weights.roll(1, dims=-1), weights.roll(-1, dims=-1)), dim=-1)  # (..., m, 3)
    return (power * torch.log((moved * shift[..., None, :]).sum(dim=-1) + 1e-9)).softmax(dim=-1)
