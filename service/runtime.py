"""The parts of one application, and its state: loading, ready, draining."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from contract.experiments.decision import UNDECIDED, Decision
from service.access.access import Access
from service.errors import NotReady
from service.experiments.feedback import FeedbackLog
from service.experiments.live import Experiments
from service.experiments.overrides import Overrides
from service.flow.admission import Admission
from service.inference.fleet import ServedBundles
from service.log import access_log
from service.metrics import Metrics
from service.output.access_log import AccessLog
from service.ranking.ranker import Ranker
from service.ranking.slow import SlowRankings
from service.settings.root import Settings
from service.store.behaviours import RedisBehaviourStore
from service.store.items import ItemStore
from service.tracing.traces import Traces
from service.workers import Workers


@dataclass(frozen=True, slots=True)
class Backend:
    """The backend, which answers when it is loaded."""

    ranker: Ranker
    experiments: Experiments
    overrides: Overrides
    store: RedisBehaviourStore
    items: ItemStore
    feedback: FeedbackLog
    bundles: ServedBundles


class Runtime:
    """The parts of one application, and its state: loading, ready, draining.

    Args:
        settings: all of them.
        metrics: of this application.
        version: of this service.
        now_ms: milliseconds since the epoch.
        access: writes a line for each request; by default by structlog, as it is set up.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        version: str = "0",
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        access: AccessLog | None = None,
    ) -> None:
        self.settings, self.metrics, self.version, self.now_ms = settings, metrics, version, now_ms
        self.access = access or access_log(settings.logging, None)
        self.admission = Admission(settings.limits)
        self.keys = (
            Access(settings.http.workers, self.admission.rankings) if settings.access.file is not None else None
        )  # None: no one needs one
        self.backend: Backend | None = None
        self.traces: Traces | None = None  # if requests are traced
        self.slow = _slow(settings, now_ms)
        self.is_draining = False
        self.is_succeeded = False  # another process that is ready has this one's ports
        self.callers_port: int | None = None  # known when the service listens
        metrics.workers_wanted(settings.http.workers)
        self.workers = Workers(metrics, lambda: self.status, self._digest)
        self.reload: Callable[[], None] = lambda: None  # look at the experiment file now

    @property
    def status(self) -> Literal["ready", "loading", "draining"]:
        """Return the service's state."""
        if self.is_draining:
            return "draining"
        return "ready" if self.backend is not None and self.backend.ranker.is_ready else "loading"

    def _digest(self) -> str | None:
        snapshot = self.backend.experiments.snapshot if self.backend is not None else None
        return snapshot.digest if snapshot is not None else None

    def drain(self) -> None:
        """Stop being ready; requests are answered still, and their connections closed."""
        self.is_draining = True
        self.metrics.ready(False)

    def undecided(self, reason: Literal["not_ranked", "error"]) -> Decision:
        """Return the decision of an answer that did not rank."""
        return self.backend.experiments.undecided(reason) if self.backend is not None else UNDECIDED

    def needed(self) -> Backend:
        """Return the backend.

        Raises:
            NotReady: it is not loaded yet, or closed.
        """
        if self.backend is None:
            raise NotReady("The service is loading.")
        return self.backend


def _slow(settings: Settings, now_ms: Callable[[], int]) -> SlowRankings | None:
    """Return what keeps the slowest rankings; None if none are kept, or if every caller could read them."""
    has_operators = settings.admin.port is not None or settings.access.file is not None
    if not settings.slow.keep or not has_operators:
        return None
    key = settings.experiments.pseudonym_key
    return SlowRankings(settings.slow, key.get_secret_value().encode() if key is not None else None, now_ms)
