"""The budget of a search, and what its trials have spent: the same budget for two systems makes them comparable."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

DEFAULT_TRIALS: Final = 20


@dataclass(frozen=True)
class Budget:
    """Limits of a search; 0 = none. The first limit that is reached ends it.

    Attributes:
        trials: finished, pruned and failed ones.
        rows: training rows of all trials.
        cpu_seconds: processor time of all trials, validation included; GPU time is not in it.
    """

    trials: int = 0
    rows: int = 0
    cpu_seconds: float = 0.0

    @classmethod
    def given(cls, trials: int | None, rows: int | None, cpu_seconds: float | None) -> Budget:
        """Return the budget of a command line; without any limit, the usual number of trials."""
        if not (trials or rows or cpu_seconds):
            trials = DEFAULT_TRIALS
        return cls(trials or 0, rows or 0, cpu_seconds or 0.0)

    def share(self, spent: Spending, more: Spending | None = None) -> float:
        """Return the largest share of a limit that is spent; from 1 on the search ends."""
        more = Spending() if more is None else more
        limits = ((self.trials, "trials"), (self.rows, "rows"), (self.cpu_seconds, "cpu_seconds"))
        return max(float(getattr(spent, name) + getattr(more, name)) / limit for limit, name in limits if limit)

    def document(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


@dataclass(frozen=True)
class Spending:
    """The cost of trials; `trials` may have a fraction, of one that runs."""

    trials: float = 0.0
    rows: int = 0
    cpu_seconds: float = 0.0
