"""The population: how many users, their habits, the planted effect, and the faults of their devices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Effect:
    """Relative lifts of an arm, from each user's first exposure on.

    Args:
        sessions: of the expected number of sessions, so of plays, likes and so on too.
        watching: of the time played per view.
        liking: of the probability to like.
    """

    sessions: float = 0.0
    watching: float = 0.0
    liking: float = 0.0


@dataclass(frozen=True)
class Population:
    """The users, their habits, and the faults of their devices.

    Args:
        users: how many.
        seed: of all draws.
        start_ms: the first moment of entry (ms UTC).
        entry_days: users are first exposed at a random moment of so many days.
        before_days: of activity before a user's exposure.
        after_days: and after it.
        sessions_per_day: the mean over users; users differ by a lognormal factor.
        views_per_session: the mean.
        effects: by arm; arms share the buckets equally, in this order.
        salt: of the experiment; arms are chosen by the hash that the service uses.
        newcomers: share of users without a history.
        second_devices: share of users with one; three in ten of their sessions are on it.
        lost_backgrounds: share of sessions.
        lost_ends: share of views without `play_end`.
        repeats: share of events that are delivered twice.
        late: share of events that arrive up to 20 hours late.
        degraded: share of exposures.
    """

    users: int
    seed: int = 0
    start_ms: int = 1_767_225_600_000  # 2026-01-01T00:00:00Z
    entry_days: int = 1
    before_days: int = 14
    after_days: int = 14
    sessions_per_day: float = 0.28
    views_per_session: float = 4.0
    effects: Mapping[str, Effect] = field(default_factory=lambda: {"control": Effect(), "treatment": Effect()})
    experiment: str = "simulated"
    salt: str = "simulated-1"
    newcomers: float = 0.1
    second_devices: float = 0.15
    lost_backgrounds: float = 0.05
    lost_ends: float = 0.02
    repeats: float = 0.01
    late: float = 0.02
    degraded: float = 0.01

    @property
    def arms(self) -> tuple[str, ...]:
        """Return the arms in the order of their buckets."""
        return tuple(self.effects)
