"""The optimisers of a training: AdamW for all weights, or for all but the tables, whose untouched rows then rest.

| `tables` | State of a table of I rows and width d | Rows that a step reads and writes |
| --- | --- | --- |
| adamw | 2 I d | all |
| sparse_adam | 2 I d | those that the batch read |
| rowwise_adagrad | I | those that the batch read |

A sparse table's gradient has a row for each read of the batch, so its loss must read rows: a sampled loss, not the
softmax over all items. Item biases are one number per item and stay with AdamW.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from contract.command_line import CommandError
from training.fitting.world import ONE_PROCESS, World
from training.recipe import TrainingRecipe


class TablesError(CommandError, ValueError):
    """The loss reads whole tables, which a sparse optimiser does not learn; the message names the key to change."""


class RowwiseAdagrad(torch.optim.Optimizer):
    """Adagrad with one sum per row, of the mean square of the row's gradients; learns from sparse gradients only."""

    def __init__(self, tables: Iterable[Tensor], lr: Tensor, eps: float = 1e-10) -> None:
        super().__init__(tables, {"lr": lr, "eps": eps})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move the rows that have a gradient."""
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is not None:
                    self._move(table, group["lr"], group["eps"])

    def _move(self, table: Tensor, rate: Tensor, eps: float) -> None:
        assert table.grad is not None
        gradient = table.grad.coalesce()
        rows, values = gradient.indices()[0], gradient.values()
        sums = self.state[table].setdefault("sum", torch.zeros(len(table), device=table.device))
        sums[rows] += values.square().mean(dim=1)
        table.index_add_(0, rows, -rate * values / (sums[rows].sqrt() + eps)[:, None])


class Optimiser:
    """Takes one step down a loss.

    Args:
        model: fresh; with sparse tables its embeddings are switched to sparse gradients.
        recipe: the training recipe.
        world: the processes that train together.
    """

    def __init__(self, model: nn.Module, recipe: TrainingRecipe, world: World = ONE_PROCESS) -> None:
        self._recipe, self._world = recipe, world
        embeddings = [layer for layer in model.modules() if isinstance(layer, nn.Embedding)]
        self._tables = [layer.weight for layer in embeddings if recipe.tables != "adamw" and layer.weight.requires_grad]
        for layer in embeddings:
            layer.sparse = recipe.tables != "adamw"
        apart = {id(table) for table in self._tables}
        self._others = [one for one in model.parameters() if one.requires_grad and id(one) not in apart]
        self._weights = [*self._others, *self._tables]
        self._parts: dict[str, torch.optim.Optimizer] = {}
        if self._others:
            rate, decay = torch.tensor(0.0), recipe.weight_decay
            self._parts["weights"] = torch.optim.AdamW(self._others, lr=rate, weight_decay=decay, fused=True)
        if self._tables:
            of_tables = torch.optim.SparseAdam if recipe.tables == "sparse_adam" else RowwiseAdagrad
            self._parts["tables"] = of_tables(self._tables, lr=torch.tensor(1.0))

    @property
    def has_weights(self) -> bool:
        """Whether the model has anything to learn."""
        return bool(self._parts)

    def step(self, loss: Tensor, rate: float) -> None:
        """Take one step at a learning rate.

        Raises:
            TablesError: the gradient of a sparse table is dense.
        """
        self.backward(loss)
        self.move(rate)

    def backward(self, loss: Tensor | None) -> float:
        """Compute the gradients, summed over all processes; returns the sum of the losses.

        Args:
            loss: of this process; None if it has no rows.

        Raises:
            TablesError: the gradient of a sparse table is dense.
            WorldError: another process has failed, or did not answer in time.
        """
        for part in self._parts.values():
            part.zero_grad(set_to_none=True)
        if loss is None:
            return self._world.sum_gradients(self._others, self._tables, 0.0)
        loss.backward()  # type: ignore[no-untyped-call]
        self._check()
        return self._world.sum_gradients(self._others, self._tables, float(loss.detach()))

    def move(self, rate: float) -> None:
        """Take one step along the gradients at a learning rate."""
        for name, part in self._parts.items():
            for group in part.param_groups:
                group["lr"].fill_(rate * (self._recipe.tables_rate if name == "tables" else 1.0))
        if self._recipe.clip:
            clip(self._weights, self._recipe.clip)
        for part in self._parts.values():
            part.step()

    def _check(self) -> None:
        if any(table.grad is not None and not table.grad.is_sparse for table in self._tables):
            raise TablesError(
                f'training.tables = "{self._recipe.tables}" needs a loss that reads rows of the tables: set a sampled '
                'config.objective, such as "logq", or training.tables = "adamw"'
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the state, which a resumed run needs."""
        return {name: part.state_dict() for name, part in self._parts.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state; runs that began before there were sparse tables wrote only that of AdamW.

        Raises:
            KeyError, ValueError: it is of other weights.
        """
        state = {"weights": state} if "param_groups" in state else state
        for name, part in self._parts.items():
            part.load_state_dict(state[name])


@torch.no_grad()
def clip(weights: Iterable[Tensor], largest: float) -> None:
    """Scale the gradients so that their common norm is at most `largest`; repeated rows of sparse ones are summed."""
    gradients = []
    for weight in weights:
        if weight.grad is not None and weight.grad.is_sparse:
            weight.grad = weight.grad.coalesce()
            gradients.append(weight.grad.values())
        elif weight.grad is not None:
            gradients.append(weight.grad)
    scale = (largest / (torch.nn.utils.get_total_norm(gradients) + 1e-6)).clamp_max(1.0)
    for gradient in gradients:
        gradient.mul_(scale)
