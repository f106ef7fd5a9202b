"""An answered request, as its trace shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from service.tracing.run import ModelRun

Fact = str | int | bool | Sequence[str]


@dataclass(frozen=True, slots=True)
class Ended:
    """A request that has been answered.

    Attributes:
        method: of HTTP.
        route: its template.
        status: of the answer.
        began: by `time.perf_counter`.
        seconds: that it took.
        request_id: of the request.
        facts: for attributes: names to values.
        stages: seconds of a ranking's stages, by name.
        runs: the model runs that it joined.
    """

    method: str
    route: str
    status: int
    began: float
    seconds: float
    request_id: str
    facts: Mapping[str, Fact] = field(default_factory=dict)
    stages: Mapping[str, float] = field(default_factory=dict)
    runs: Sequence[ModelRun] = ()
