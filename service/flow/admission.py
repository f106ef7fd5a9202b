"""Admission: rankings, behaviours and feedback each through a separate gate, the rest in turns."""

from __future__ import annotations

from service.flow.gate import Gate
from service.flow.turns import Turns
from service.settings.limits import LimitsSettings


class Admission:
    """The gates and turns of one application.

    Args:
        limits: limits on concurrent requests.
    """

    def __init__(self, limits: LimitsSettings) -> None:
        self.rankings = Gate(limits.max_inflight, limits.deadline_ms / 1000)
        self.writes = {path: Gate(limits.max_writes) for path in ("/behaviours", "/feedback", "/items")}
        self.writes["/rank/batch"] = Gate(limits.max_batches)  # its rankings take places among the others too
        self.turns = Turns(lambda: self.rankings.inside > 0)
        self.probes = Turns(lambda: False)  # health checks only wait for each other
