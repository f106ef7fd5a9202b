"""Metrics of experiments: decisions, exposures, the file in force."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import get_args

from contract.experiments.assignment import ExperimentsSnapshot
from contract.experiments.decision import Decision
from contract.experiments.definition import Experiment
from contract.experiments.fields import BUCKETS
from contract.experiments.shares import reached
from service.metrics.families import Families
from service.metrics.values import Counter, Labels, Made
from service.names import RejectReason, TrackResult


class ExperimentMetrics:
    """Counts decisions and exposures, and notes the experiments in force.

    Args:
        families: where they are declared.
    """

    def __init__(self, families: Families) -> None:
        assignments = families.counter(
            "ranker_assignments_total", "Decisions of a layer.", layer=(), experiment=(), variant=(), reason=()
        )
        self._assignments: Made[tuple[str, str | None, str | None, str], Counter] = Made(
            lambda key: assignments.of(*[part or "none" for part in key])
        )
        exposures = families.counter("ranker_exposures_total", "Exposures taken.", experiment=(), variant=())
        self._exposures_dropped = families.counter(
            "ranker_exposures_dropped_total", "Exposures that found no room.", experiment=(), variant=()
        )

        def exposure(arm: tuple[str, str]) -> Counter:
            self._exposures_dropped.of(*arm)  # both series from the first exposure on
            return exposures.of(*arm)

        self._exposures: Made[tuple[str, str], Counter] = Made(exposure)
        self._declare_ranking_log(families)
        self._overrides = families.counter(
            "ranker_overrides_rejected_total", "Override headers that were ignored.", reason=get_args(RejectReason)
        )
        self._declare_experiment_file(families)

    def _declare_ranking_log(self, families: Families) -> None:
        rankings = families.counter("ranker_rankings_total", "Rankings by arm and outcome.", variant=(), outcome=())
        self._rankings: Made[tuple[str, str], Counter] = Made(lambda key: rankings.of(*key))
        logged = families.counter(
            "ranker_rankings_logged_total", "Rankings taken for the log.", experiment=(), variant=()
        )
        dropped = families.counter(
            "ranker_rankings_dropped_total", "Rankings for the log that found no room.", experiment=(), variant=()
        )

        def of_arms(arms: tuple[str, ...]) -> list[tuple[Counter, Counter]]:
            pairs = zip(arms[::2], arms[1::2], strict=True)
            return [(logged.of(*arm), dropped.of(*arm)) for arm in pairs]  # both series from the first ranking on

        self._logged: Made[tuple[str, ...], list[tuple[Counter, Counter]]] = Made(of_arms)

    def _declare_experiment_file(self, families: Families) -> None:
        self._reloads = families.counter("ranker_experiments_reload_total", "Looks at the experiment file.", result=())
        self._tracks = families.counter(
            "ranker_track_promotions_total", "Promotions of tracks.", result=get_args(TrackResult)
        )
        self._experiments = families.gauge(
            "ranker_experiments_info", "1 for the experiment file in force.", "max", digest=(), revision=()
        )
        self._reloaded_at = families.gauge(
            "ranker_experiments_last_success_timestamp_seconds",
            "When the file on this machine was last found to be the one in force.", "min",
        ).of()  # fmt: skip
        self._state_revision = families.gauge(
            "ranker_experiments_state_revision", "Accepted experiment files, so far.", "min"
        ).of()
        self._state_shared = families.gauge(
            "ranker_experiments_state_shared",
            "1 while this replica can agree on experiments with the others; also 1 without an experiment file.", "min",
        ).of()  # fmt: skip
        self._file_in_force = families.gauge(
            "ranker_experiments_file_in_force",
            "1 while the experiment file on this machine is the one in force.", "min",
        ).of()  # fmt: skip
        self._ramp_shares = families.gauge(
            "ranker_experiment_ramp_share", "Share of a running experiment's units that its ramp has reached.", "max",
            experiment=(),
        )  # fmt: skip
        self._arm_shares = families.gauge(
            "ranker_experiment_arm_share", "Planned share of an experiment's units.", "max", experiment=(), variant=()
        )

    def assigned(self, decision: Decision) -> None:
        """Count what each layer decided."""
        for layer in decision.layers:
            self._assignments[layer.layer, layer.experiment, layer.arm, layer.reason].value += 1

    def exposure(self, experiment: str, variant: str) -> None:
        """Count an exposure that was taken."""
        self._exposures[experiment, variant].value += 1

    def exposure_dropped(self, labels: tuple[str, ...]) -> None:
        """Count an exposure that found no room; labels are its experiment and variant."""
        self._exposures_dropped.of(*labels).inc()

    def ranked(self, decision: Decision, outcome: str) -> None:
        """Count a ranking that has ended, under the arm that chose its model."""
        self._rankings[decision.variant, outcome].value += 1

    def ranking_logged(self, arms: tuple[str, ...]) -> None:
        """Count a ranking that the log took; arms are experiment and variant of each layer, one after another."""
        for logged, _ in self._logged[arms]:
            logged.value += 1

    def ranking_dropped(self, arms: tuple[str, ...]) -> None:
        """Count a ranking that the log had no room for; arms as above."""
        for _, dropped in self._logged[arms]:
            dropped.value += 1

    def override_rejected(self, reason: str) -> None:
        """Count an override header that was ignored."""
        self._overrides.of(reason).inc()

    def experiments_reloaded(self, result: str) -> None:
        """Count an attempt to load the experiment file."""
        self._reloads.of(result).inc()

    def track_moved(self, result: TrackResult) -> None:
        """Count a promotion of a track: taken, or refused because its bundle cannot be served."""
        self._tracks.of(result).inc()

    def experiments_in_force(self, digest: str, revision: str) -> None:
        """Note which file is in force."""
        self._experiments.clear()
        self._experiments.of(digest, revision).value = 1

    def experiments_state(self, *, revision: int, is_shared: bool, is_file_in_force: bool) -> None:
        """Note how the state in force relates to the other replicas and to the file on this machine."""
        self._state_revision.value = revision
        self._state_shared.value = is_shared
        self._file_in_force.value = is_file_in_force
        if is_file_in_force:
            self._reloaded_at.value = time.time()

    def watch_arms(self, snapshot: Callable[[], ExperimentsSnapshot | None]) -> None:
        """Tell the planned shares of the experiments in force, and how far their ramps are, at each scrape."""
        self._arm_shares.watch_all(lambda: _planned_shares(snapshot()))
        self._ramp_shares.watch_all(lambda: _ramp_shares(snapshot(), time.time() * 1000))


def _planned_shares(snapshot: ExperimentsSnapshot | None) -> dict[Labels, float]:
    """Return the share of the units that each arm of a running experiment was given."""
    return {
        (experiment.key, arm.key): sum(stop - start for start, stop in arm.buckets) / BUCKETS
        for experiment in _running(snapshot)
        for arm in experiment.arms
    }


def _ramp_shares(snapshot: ExperimentsSnapshot | None, now_ms: float) -> dict[Labels, float]:
    """Return the share of the units of each running experiment that may be in it now."""
    return {(experiment.key,): reached(experiment.ramp, now_ms) / BUCKETS for experiment in _running(snapshot)}


def _running(snapshot: ExperimentsSnapshot | None) -> list[Experiment]:
    layers = snapshot.config.layers if snapshot is not None else ()
    return [one for layer in layers for one in layer.experiments if one.status == "running"]
