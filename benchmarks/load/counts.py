"""Counts of the service during a measurement: the size of its batches, hits of its cache, and its answers."""

from __future__ import annotations

import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

_SECONDS: Final = 10.0
_ROWS: Final = "ranker_batch_rows"
_STORE: Final = "store"  # the name of its batches of reads

Counts = Counter[tuple[str, str]]  # by name, and by the label that matters here


@contextmanager
def counted(url: str, figures: dict[str, float], statuses: Counter[str]) -> Iterator[None]:
    """Add what a service counts during the block.

    Args:
        url: of the service.
        figures: gets `batch_rows`, rankings in a batch of the engine, and `hits`, the share of states found.
        statuses: gets the number of rankings for each status.
    """
    before = _read(url)
    yield
    counts = _read(url)
    counts.subtract(before)
    hits, misses = counts["ranker_state_cache_total", "hit"], counts["ranker_state_cache_total", "miss"]
    rows, batches = counts[f"{_ROWS}_sum", "engine"], counts[f"{_ROWS}_count", "engine"]
    figures["batch_rows"] = rows / batches if batches else float("nan")
    figures["hits"] = hits / (hits + misses) if hits + misses else float("nan")
    for (name, status), count in counts.items():
        if name == "ranker_requests_total" and count:
            statuses[status] += int(count)


def _read(url: str) -> Counts:
    with urllib.request.urlopen(f"{url}/metrics", timeout=_SECONDS) as answer:
        return parse(answer.read().decode())


def parse(text: str) -> Counts:
    """Return the counts of a scrape; all bundles together are `engine`."""
    counts: Counts = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = sample.labels
            if sample.name in {f"{_ROWS}_sum", f"{_ROWS}_count"}:
                is_store = labels["bundle"].startswith(_STORE)
                counts[sample.name, _STORE if is_store else "engine"] += sample.value  # type: ignore[assignment]
            elif sample.name == "ranker_state_cache_total":
                counts[sample.name, labels["result"]] += sample.value  # type: ignore[assignment]
            elif sample.name == "ranker_requests_total" and labels["route"] == "/rank":
                counts[sample.name, labels["status"]] += sample.value  # type: ignore[assignment]
    return counts
