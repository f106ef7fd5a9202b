"""The state of a service and its process at one moment: counters, threads, files, memory."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from tests.support.service_process import ServiceProcess

_PAGE: Final = 4_096

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@dataclass(frozen=True)
class Snapshot:
    """One scrape, and the process at that moment."""

    pid: int
    samples: Samples
    threads: int
    descriptors: int
    resident_bytes: int

    def value(self, name: str, **labels: str) -> float:
        """Return the sum of all series of a name with these labels."""
        wanted = labels.items()
        return sum(
            value for (one, found), value in self.samples.items() if one == name and wanted <= dict(found).items()
        )

    def statuses(self) -> Counter[str]:
        """Return the answers to rankings by status."""
        counts: Counter[str] = Counter()
        for (name, labels), value in self.samples.items():
            found = dict(labels)
            if name == "ranker_requests_total" and found["route"] == "/rank":
                counts[found["status"]] += int(value)
        return counts


def snapshot(service: ServiceProcess) -> Snapshot:
    text = service._client.get("/metrics").text
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    process = Path(f"/proc/{service.process.pid}")
    status = (process / "status").read_text()
    return Snapshot(
        service.process.pid, samples,
        threads=int(status.split("Threads:")[1].split()[0]),
        descriptors=sum(1 for _ in (process / "fd").iterdir()),
        resident_bytes=int((process / "statm").read_text().split()[1]) * _PAGE,
    )  # fmt: skip
