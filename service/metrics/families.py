"""Metrics by name: what each is, and its values by label."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Final, Generic, Protocol, TypeVar, cast

from service.metrics.exemplars import Exemplars
from service.metrics.values import (
    Across,
    Counter,
    Gauge,
    Histogram,
    Kind,
    Labels,
    Made,
    Reading,
    SharedCounter,
    Watched,
)

_OF_BUNDLES: Final = frozenset({"bundle", "served", "shadow"})  # labels whose values are names of bundles


class Readable(Protocol):
    """A value of any kind."""

    @property
    def read(self) -> Callable[[], Reading]:
        """Return a function that returns what the value is now."""


V = TypeVar("V", bound=Readable)
B = TypeVar("B", str, tuple[str, str])
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Description:
    """The description of a metric."""

    name: str
    text: str
    kind: Kind
    labels: Labels
    across: Across = "sum"
    bounds: Sequence[float] = ()


class Family(Generic[V]):
    """One metric: a value for each combination of labels.

    Args:
        description: what it is.
        make: makes a value.
    """

    def __init__(self, description: Description, make: Callable[[], V]) -> None:
        self.description = description
        self._make = make
        self._values: dict[Labels, V | Watched] = {}
        self._more: Callable[[], Mapping[Labels, float]] = dict

    def of(self, *labels: str) -> V:
        """Return the value of these labels; it begins at 0."""
        value = self._values.get(labels)
        if value is None:
            value = self._values.setdefault(labels, self._make())  # two threads get the same one
        return cast(V, value)  # no one asks for a value that is watched

    def watch(self, labels: Labels, read: Callable[[], float]) -> None:
        """Ask for the value of these labels at each scrape."""
        self._values[labels] = Watched(read)

    def watch_all(self, read: Callable[[], Mapping[Labels, float]]) -> None:
        """Ask for all labels and values at each scrape."""
        self._more = read

    def remove(self, *labels: str) -> None:
        """Let go of a series, if it is there."""
        self._values.pop(labels, None)

    def forget_bundle(self, bundle: str) -> None:
        """Let go of the series of a bundle."""
        places = [place for place, label in enumerate(self.description.labels) if label in _OF_BUNDLES]
        for labels in list(self._values):  # one step: an inference thread may add a series meanwhile
            if any(labels[place] == bundle for place in places):
                self.remove(*labels)

    def clear(self) -> None:
        """Let go of all series."""
        self._values.clear()

    def read(self) -> list[tuple[Labels, Reading]]:
        """Return every value; may be called from any thread."""
        values = list(self._values.items())  # one step: the event loop may add a series meanwhile
        return [*((labels, value.read()) for labels, value in values), *self._more().items()]


class Families:
    """All metrics of one application, in the order in which they are declared."""

    def __init__(self) -> None:
        self.all: list[Family[Any]] = []  # Any: counters, gauges and histograms
        self._by_bundle: list[Made[Any, Any]] = []  # Any: of each metric its own
        self.exemplars = Exemplars()

    def counter(self, name: str, text: str, *, across: Across = "sum", **labels: Iterable[str]) -> Family[Counter]:
        """Declare a counter; each label with the values that are known from the start."""
        return self._add(Description(name, text, "counter", tuple(labels), across), Counter, labels)

    def shared_counter(self, name: str, text: str, **labels: Iterable[str]) -> Family[SharedCounter]:
        """Declare a counter that other threads than the event loop's change too."""
        return self._add(Description(name, text, "counter", tuple(labels)), SharedCounter, labels)

    def gauge(self, name: str, text: str, across: Across, **labels: Iterable[str]) -> Family[Gauge]:
        """Declare a gauge, and how the readings of several processes become one."""
        return self._add(Description(name, text, "gauge", tuple(labels), across), Gauge, labels)

    def histogram(self, name: str, text: str, bounds: Sequence[float], **labels: Iterable[str]) -> Family[Histogram]:
        """Declare a histogram."""
        description = Description(name, text, "histogram", tuple(labels), bounds=bounds)
        return self._add(description, lambda: Histogram(bounds), labels)

    def by_bundle(self, make: Callable[[B], T]) -> Made[B, T]:
        """Return values that are found by the name of a bundle, or of several, until one of them is forgotten."""
        made = Made(make)
        self._by_bundle.append(made)
        return made

    def forget_bundle(self, bundle: str) -> None:
        """Let go of all series of a bundle; they begin at 0 if it is served again."""
        for made in self._by_bundle:
            for key in [key for key in made if bundle == key or (isinstance(key, tuple) and bundle in key)]:
                del made[key]
        for family in self.all:
            family.forget_bundle(bundle)

    def _add(self, description: Description, make: Callable[[], V], labels: Mapping[str, Iterable[str]]) -> Family[V]:
        family = Family(description, make)
        for known in product(*labels.values()):  # one, (), of a metric without labels
            family.of(*known)
        self.all.append(family)
        return family
