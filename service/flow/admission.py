"""Who may come in now: rankings, behaviours and feedback each through a gate of their own, the rest in turns."""

from __future__ import annotations

import math
from typing import Final

from service.flow.gate import Gate
from service.flow.turns import Turns
from service.settings import LimitsSettings

_TARGET: Final = 1 / 3  # of the usual deadline: what a ranking may take here, before the next one costs it its own


class Admission:
    """The gates and turns of one application.

    Args:
        limits: how many at once.
    """

    def __init__(self, limits: LimitsSettings) -> None:
        self.rankings = Gate(limits.max_inflight, _TARGET * limits.deadline_ms / 1000)
        self.writes = {path: Gate(limits.max_writes, math.inf) for path in ("/behaviours", "/feedback")}
        self.turns = Turns(lambda: self.rankings.inside > 0)
        self.probes = Turns(lambda: False)  # health checks wait for one another only
