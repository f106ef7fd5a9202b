"""A row of the fault table: one function and its entry; the figures that it measures."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from tests.faults.rig import Rig

Family = Literal["redis", "model", "load", "lifecycle", "transport", "payload", "system"]
FAMILIES: Final[tuple[Family, ...]] = ("redis", "model", "load", "lifecycle", "transport", "payload", "system")


class Figure(NamedTuple):
    """One measured value beside its bar.

    Attributes:
        bar: identifier of the bar, such as B4.
        what: the meaning of the value.
        value: as measured.
        unit: such as ms or %.
        least: the bar is reached from here on; None if there is no lower bound.
        most: the bar is reached up to here; None if there is no upper bound.
        plain: the same of the plain build; None if it was not measured.
    """

    bar: str
    what: str
    value: float
    unit: str = ""
    least: float | None = None
    most: float | None = None
    plain: float | None = None

    @property
    def is_reached(self) -> bool:
        return self._reaches(self.value)

    @property
    def is_plain_red(self) -> bool | None:
        """Whether the plain build misses the bar; None if it was not measured."""
        return None if self.plain is None else not self._reaches(self.plain)

    def _reaches(self, value: float) -> bool:
        if math.isnan(value):
            return False
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)


@dataclass(frozen=True)
class Row:
    """An entry of the table.

    Attributes:
        names: of the rows of the fault table that it covers.
        title: the fault.
        family: the part of the system.
        run: injects the fault.
        is_quick: whether the quick run has it.
        seeds: how often the full run repeats it, each time with another seed.
        tests: tests that inject the fault instead of `run`.
    """

    names: tuple[str, ...]
    title: str
    family: Family
    run: Callable[[Rig], None] | None = None
    is_quick: bool = False
    seeds: int = 1
    tests: tuple[str, ...] = ()


@dataclass
class Absent:
    """A row that this machine cannot run."""

    names: tuple[str, ...]
    title: str
    why: str


ROWS: Final[list[Row]] = []
ABSENT: Final[list[Absent]] = []


def row(
    names: str, title: str, family: Family, *, quick: bool = False, seeds: int = 1
) -> Callable[[Callable[[Rig], None]], Callable[[Rig], None]]:
    """Add a function to the table."""

    def add(run: Callable[[Rig], None]) -> Callable[[Rig], None]:
        ROWS.append(Row(tuple(names.split()), title, family, run, quick, seeds))
        return run

    return add


def proven(names: str, title: str, family: Family, *tests: str) -> None:
    """Add a row whose fault is injected by tests: `path::name`, below tests/."""
    ROWS.append(Row(tuple(names.split()), title, family, tests=tests))


def absent(names: str, title: str, why: str) -> None:
    """Add a row that cannot run here."""
    ABSENT.append(Absent(tuple(names.split()), title, why))


@dataclass
class Outcome:
    """The result of one run of one row."""

    row: Row
    seed: int
    problems: list[str] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    by_arm: dict[str, dict[str, int]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    tests_run: int = 0
    commit: str = ""  # of a run whose result was read; "" is the one of now
