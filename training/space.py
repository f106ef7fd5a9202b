"""The space of a search around a recipe: which keys it tries, and which values; `[search.space]` in TOML."""

from __future__ import annotations

import re
from typing import Annotated, Final, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Value = bool | int | float | str

_KEY: Final = re.compile(r"(training|config)(\.[a-z][a-z0-9_]*)+")


class Dimension(BaseModel):
    """The values of one key: a range, or choices.

    Attributes:
        low, high: both ends of a range; whole numbers if both are.
        log: whether the range is drawn on a logarithmic scale.
        choices: instead of a range.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    low: int | float | None = None
    high: int | float | None = None
    log: bool = False
    choices: Annotated[tuple[Value, ...], Field(strict=False)] = ()

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        ends = (self.low, self.high)
        if self.choices:
            if ends != (None, None) or self.log:
                raise ValueError("give low and high, or choices")
        elif self.low is None or self.high is None or self.low >= self.high:
            raise ValueError("give choices, or low and a larger high")
        elif self.log and self.low <= 0:
            raise ValueError("a logarithmic range begins above 0")
        return self

    @property
    def whole(self) -> bool:
        """Whether a range has whole numbers only."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def has(self, value: object) -> bool:
        """Whether a value is one of them."""
        if self.choices:
            return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in self.choices)
        assert self.low is not None
        assert self.high is not None
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and self.low <= value <= self.high  # type: ignore[operator] # a number by now


def _known(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise ValueError("a search tries keys of training and config, such as training.learning_rate or config.dropout")
    return key


Space = dict[Annotated[str, AfterValidator(_known)], Dimension]


class SearchRecipe(BaseModel):
    """How to search around a recipe; runs do not keep it.

    Attributes:
        space: by key, such as `training.learning_rate`; empty: `training.search.values.usual`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    space: Space = {}
