"""What one application is made of, and what it is doing: loading, ready, draining."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from contract.assignment import UNDECIDED, Decision, ExperimentsSnapshot
from contract.behaviours import Records
from contract.events import Activity
from service.bundles.bundle import Bundle
from service.errors import NotReady
from service.experiments.feedback import Refused
from service.flow.admission import Admission
from service.log import access_log
from service.metrics import Metrics
from service.output.access_log import AccessLog
from service.ranking.answer import Ranking
from service.ranking.call import AwaitedCall, RankCall
from service.settings import Settings
from service.store.behaviours import AppendResult, StoredBehaviours
from service.store.streams import Receipt
from service.workers import Workers


class Ranks(Protocol):
    """What is needed of the ranker."""

    @property
    def is_ready(self) -> bool:
        """Return whether rankings can be answered in full."""

    async def rank(self, call: AwaitedCall) -> Ranking:
        """Rank."""

    def submit(self, call: RankCall) -> None:
        """Rank without being waited for."""


class Decides(Protocol):
    """What is needed of the experiments."""

    @property
    def snapshot(self) -> ExperimentsSnapshot | None:
        """Return the experiments in force."""

    def decide(
        self, unit: object, attributes: Mapping[str, object], now_ms: int, forced: Mapping[str, str] | None = None
    ) -> Decision:
        """Decide every layer for a unit, and count it."""

    def undecided(self, reason: Literal["not_ranked", "error"] = "not_ranked") -> Decision:
        """Return the decision of an answer that did not rank."""


class JudgesOverrides(Protocol):
    """What is needed of the overrides."""

    def forced(
        self, header: str | None, unit: str, snapshot: ExperimentsSnapshot, now_ms: int
    ) -> Mapping[str, str] | None:
        """Return an override that holds, or None."""


class StoresBehaviours(Protocol):
    """What is needed of the store."""

    async def read(self, user_ids: Sequence[str]) -> list[StoredBehaviours]:
        """Return each user's behaviours; never raises."""

    async def some_users(self, prefix: str, limit: int) -> list[str]:
        """Return some users with behaviours; raises StoreUnavailable."""

    async def append(self, behaviours: Mapping[str, Records]) -> dict[str, AppendResult]:
        """Append; raises StoreUnavailable."""


class TakesFeedback(Protocol):
    """What is needed of the feedback log."""

    def take(
        self, feedback: Sequence[Activity], now_ms: int, latest_ms: int, receipt: Receipt | None = None
    ) -> list[Refused]:
        """Take activity without waiting; return for each event why it was not taken."""


class DescribesBundles(Protocol):
    """What needs to be known of the bundles."""

    def describe(self) -> list[dict[str, object]]:
        """Return what is loaded, for /info."""

    def served(self) -> list[Bundle]:
        """Return the bundles themselves."""


@dataclass(frozen=True, slots=True)
class Backend:
    """What answers, once it is there."""

    ranker: Ranks
    experiments: Decides
    overrides: JudgesOverrides
    store: StoresBehaviours
    feedback: TakesFeedback
    bundles: DescribesBundles


class Runtime:
    """What one application is made of and what it is doing: loading, ready, draining.

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
        self.backend: Backend | None = None
        self.is_draining = False
        metrics.workers_wanted(settings.http.workers)
        self.workers = Workers(metrics, lambda: self.status, self._digest)
        self.reload: Callable[[], None] = lambda: None  # look at the experiment file now

    @property
    def status(self) -> Literal["ready", "loading", "draining"]:
        """Return what the service is doing."""
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
        """Return what answers.

        Raises:
            NotReady: it is not there yet, or no more.
        """
        if self.backend is None:
            raise NotReady("The service is loading.")
        return self.backend
