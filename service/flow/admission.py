"""Who may come in now: rankings, behaviours and feedback each through a gate of their own, the rest in turns."""

from __future__ import annotations

from service.flow.gate import Gate
from service.flow.turns import Turns
from service.settings import LimitsSettings


class Admission:
    """The gates and turns of one application.

    Args:
        limits: how many at once.
    """

    def __init__(self, limits: LimitsSettings) -> None:
        self.rankings = Gate(limits.max_inflight, limits.deadline_ms / 1000)
        self.writes = {path: Gate(limits.max_writes) for path in ("/behaviours", "/feedback")}
        self.turns = Turns(lambda: self.rankings.inside > 0)
        self.probes = Turns(lambda: False)  # health checks wait for one another only
