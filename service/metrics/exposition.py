"""From numbers to Prometheus' text: for one process, or for several that serve one port.

A dump is everything that one process has counted, as bytes for another process to read. Dumps are merged by the rule of
each metric: counters and histograms are added up; a gauge is added up, or the least or the largest reading is taken,
whichever shows a fault in one of the processes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Final

import orjson
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.gc_collector import GCCollector
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from service.metrics.exemplars import Place, Seen
from service.metrics.exemplars import merged as merged_exemplars
from service.metrics.families import Description, Families
from service.metrics.values import Across, Kind, Labels, Reading

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE: Final = openmetrics.CONTENT_TYPE_LATEST
_EXEMPLARS: Final = "#exemplars"  # in a dump, beside the metrics
_OF_PROCESSES: Final[Mapping[str, Across]] = {"process_start_time_seconds": "min"}  # all others are added up

_Series = Mapping[Labels, Reading]
_Dump = Mapping[str, Iterable[tuple[Iterable[str], Reading]]]  # by metric: labels and reading of each series


class Exposition:
    """All metrics of one process: ours, the interpreter's and the operating system's.

    Args:
        families: ours.
    """

    def __init__(self, families: Families) -> None:
        self._families = families
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)
        GCCollector(registry=self._process)
        self._process_descriptions = [_description(family) for family in self._process.collect()]

    def dump(self) -> bytes:
        """Return what this process has counted; may be called from any thread."""
        process = {family.name: _samples(family) for family in self._process.collect()}
        ours = {family.description.name: family.read() for family in self._families.all}
        return orjson.dumps(process | ours | {_EXEMPLARS: self._families.exemplars.dump()})

    def render(self, dumps: Iterable[bytes]) -> bytes:
        """Return the metrics of some processes as one, in Prometheus' text format."""
        merged = self._merged(dumps)
        return generate_latest(_Families(_family(description, series, {}) for description, series in merged))

    def render_openmetrics(self, dumps: Iterable[bytes]) -> bytes:
        """Return the same in the OpenMetrics format, with the trace ids of exemplars."""
        found = list(dumps)
        exemplars = merged_exemplars(orjson.loads(dump).get(_EXEMPLARS, ()) for dump in found)
        families = (_family(description, series, exemplars) for description, series in self._merged(found))
        text: bytes = openmetrics.generate_latest(_Families(families))  # type: ignore[no-untyped-call]
        return text

    def past(self, dumps: Iterable[bytes]) -> bytes:
        """Return, as one dump, the part of the dumps that is still true when their processes have ended."""
        merged = self._merged(dumps)
        return orjson.dumps({one.name: list(series.items()) for one, series in merged if one.kind != "gauge"})

    def _merged(self, dumps: Iterable[bytes]) -> Iterator[tuple[Description, _Series]]:
        read: list[_Dump] = [orjson.loads(dump) for dump in dumps]
        for description in self._descriptions():
            yield description, _merge(description, [dump.get(description.name, ()) for dump in read])

    def _descriptions(self) -> Iterator[Description]:
        yield from self._process_descriptions
        yield from (family.description for family in self._families.all)


class _Families(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _description(family: Metric) -> Description:
    """Describe a family of prometheus_client's own: a counter or a gauge, whose series all have the same labels."""
    labels = tuple(family.samples[0].labels) if family.samples else ()
    kind: Kind = "counter" if family.type == "counter" else "gauge"
    return Description(family.name, family.documentation, kind, labels, _OF_PROCESSES.get(family.name, "sum"))


def _bucket(bucket: tuple[str, float], seen: Seen | None) -> tuple[str, float] | tuple[str, float, Exemplar]:
    if seen is None:
        return bucket
    return *bucket, Exemplar({"trace_id": seen.trace_id}, seen.value, seen.at)


def _samples(family: Metric) -> list[tuple[Labels, Reading]]:
    return [(tuple(sample.labels.values()), sample.value) for sample in family.samples]


def _merge(description: Description, parts: Iterable[Iterable[tuple[Iterable[str], Reading]]]) -> _Series:
    merged: dict[Labels, Reading] = {}
    for part in parts:
        for names, reading in part:
            labels = tuple(names)
            before = merged.get(labels)
            merged[labels] = reading if before is None else _together(before, reading, description.across)
    return merged


def _together(one: Reading, other: Reading, across: Across) -> Reading:
    if isinstance(one, list) and isinstance(other, list):
        return [a + b for a, b in zip(one, other, strict=True)]
    if isinstance(one, list) or isinstance(other, list):
        raise TypeError("a histogram and a number")  # never: one process has one kind of value by name
    if across == "sum":
        return one + other
    return min(one, other) if across == "min" else max(one, other)


def _family(description: Description, series: _Series, exemplars: Mapping[Place, Seen]) -> Metric:
    name, text, labels = description.name, description.text, description.labels
    if description.kind == "histogram":
        histogram = HistogramMetricFamily(name, text, labels=labels)
        names = [*(str(float(bound)) for bound in description.bounds), "+Inf"]
        for values, reading in series.items():
            if isinstance(reading, list):
                buckets = zip(names, accumulate(reading[1:]), strict=True)
                found = (exemplars.get((name, tuple(values), number)) for number in range(len(names)))
                histogram.add_metric(values, list(map(_bucket, buckets, found)), reading[0])
        return histogram
    make = CounterMetricFamily if description.kind == "counter" else GaugeMetricFamily
    family = make(name, text, labels=labels)
    for values, reading in series.items():
        if not isinstance(reading, list):
            family.add_metric(values, reading)
    return family
