"""The model that is checked, and the two ways a check ends other than well."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from models.base import DatasetFacts, SequentialRecommender
from models.catalog import ModelEntry
from models.checks.catalogue import facts, seed
from models.lookup import find_model


class CheckFailedError(AssertionError):
    """The model breaks a promise; the message names the numbers."""


class NotApplicableError(Exception):
    """A check has nothing to look at in this model; the message is the reason."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A model and its config.

    Attributes:
        model: as a recipe names it.
        config: the recipe's.
        features: item features that the config names, beside `genres` and `year`.
    """

    model: str
    config: dict[str, Any]
    features: tuple[str, ...] = ()

    @cached_property
    def entry(self) -> ModelEntry:
        """The model's constructor and config class."""
        return find_model(self.model).entry

    @cached_property
    def ready(self) -> SequentialRecommender:
        """The result of `build`, one for all checks that only read it: building takes longer than scoring."""
        return self.build()

    def build(self, known: DatasetFacts | None = None, **changes: Any) -> SequentialRecommender:
        """Return a fresh model in evaluation mode, its start fixed, and moved off any start that hides a mistake."""
        seed(3)
        model = self.entry.build(self.config | changes, known or facts(self.features))
        with torch.no_grad():
            for weight in model.parameters():
                if weight.requires_grad:
                    weight.add_(0.05 * torch.randn(weight.shape))
        return model.eval()


def require(condition: object, problem: str) -> None:
    """Check a condition.

    Raises:
        CheckFailedError: it does not hold.
    """
    if not condition:
        raise CheckFailedError(problem)


def close(found: torch.Tensor, expected: torch.Tensor, problem: str) -> None:
    """Check that two tensors are the same up to rounding.

    Raises:
        CheckFailedError: they differ.
    """
    try:
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    except AssertionError as error:
        raise CheckFailedError(f"{problem}: {error}") from None
