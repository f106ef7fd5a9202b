"""Exposures: the arm under which a unit was served, or should have been served, for every outcome.

One event for each experiment that the unit is in, and one for a unit that is held out or compared with those. The same
unit under the same arm and file is written once an hour and process: the analysis keeps the earliest, so that more of
them would only cost.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, NamedTuple

from contract.events.exposures import Exposure
from contract.events.ranking_log import RankingOutcome
from contract.events.streams import pseudonym, ulid
from contract.experiments.decision import Decision, LayerDecision
from service.store.streams import EventSink

DEDUPLICATION_MS: Final = 3_600_000
MAX_REMEMBERED: Final = 100_000  # about 30 MB

_Identity = tuple[str, str, str, str, bool]


class Outcome(NamedTuple):
    """The outcome of one ranking attempt."""

    request_id: str
    time_ms: int
    status: RankingOutcome
    served_model: str | None
    served_version: str | None
    answered: int  # length of the answered list
    candidates: int


class Exposures:
    """Builds exposures and hands them to a sink; never waits and never fails a request.

    Args:
        sink: takes the JSON of each, with (experiment, arm) for counting.
        on_exposure: called with experiment and arm of each exposure that the sink took.
        unit_type: the kind of unit that is randomised.
        pseudonym_key: if given, units are written as `h:` and an HMAC-SHA256 under this key, not as they are.
        max_remembered: (experiment, unit, arm, file) kept in mind; beyond it the oldest are forgotten.
    """

    def __init__(
        self,
        sink: EventSink,
        *,
        on_exposure: Callable[[str, str], None],
        unit_type: str = "user_id",
        pseudonym_key: bytes | None = None,
        max_remembered: int = MAX_REMEMBERED,
    ) -> None:
        self._sink = sink
        self._on_exposure = on_exposure
        self._unit_type = unit_type
        self._pseudonym_key = pseudonym_key
        self._max_remembered = max_remembered
        self._written: OrderedDict[_Identity, int] = OrderedDict()  # to the time of writing, oldest first

    def record(self, decision: Decision, outcome: Outcome) -> int:
        """Write one exposure for each experiment the unit is in, unless it was written within the hour.

        Returns:
            How many were written.
        """
        written = 0
        for layer in decision.exposed:
            arm = layer.experiment or "", layer.arm or ""
            # A forced exposure is never analysed: it must not stand for the natural one of the same arm.
            identity = (arm[0], decision.unit or "", arm[1], decision.digest, layer.forced)
            if self._is_fresh(identity, outcome.time_ms):
                continue
            exposure = self._exposure(decision, layer, outcome)
            # Forgotten where it was dropped: the unit's next request is then the first that counts.
            if self._sink.offer(exposure.model_dump_json().encode(), arm):
                self._remember(identity, outcome.time_ms)
                self._on_exposure(*arm)
                written += 1
        return written

    def _exposure(self, decision: Decision, layer: LayerDecision, outcome: Outcome) -> Exposure:
        return Exposure(
            id=ulid(outcome.time_ms),
            ts=outcome.time_ms,
            req=outcome.request_id,
            unit_type=self._unit_type,
            unit=pseudonym(decision.unit or "", self._pseudonym_key),
            layer=layer.layer,
            exp=layer.experiment or "",
            arm=layer.arm or "",
            reason=layer.reason,
            slot=layer.slot,
            armb=layer.arm_bucket,
            cfg=decision.digest,
            exp_salt=layer.salt,
            forced=1 if layer.forced else 0,
            model=str(decision.parameters.get("model", "")),
            ver=str(decision.parameters.get("version", "")),
            served_model=outcome.served_model,
            served_ver=outcome.served_version,
            outcome="error" if outcome.status == "refused" else outcome.status,
            k=outcome.answered,
            n_cand=outcome.candidates,
        )

    def _is_fresh(self, identity: _Identity, now_ms: int) -> bool:
        written_ms = self._written.get(identity)
        return written_ms is not None and now_ms - written_ms < DEDUPLICATION_MS

    def _remember(self, identity: _Identity, now_ms: int) -> None:
        self._written[identity] = now_ms
        self._written.move_to_end(identity)
        if len(self._written) > self._max_remembered:
            self._written.popitem(last=False)
