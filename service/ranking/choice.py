"""The bundle that ranks: the arm's, its layer's default, or any that can at least order by popularity."""

from __future__ import annotations

from collections.abc import Mapping

from contract.experiments.decision import Decision
from service.errors import NotReady
from service.experiments.live import Experiments
from service.inference.deployment import Deployment
from service.inference.fleet import Deployments
from service.ranking.call import Half, RankCall


class Choice:
    """Chooses among the served bundles.

    Args:
        deployments: the served bundles.
        experiments: the defaults of a layer if its arm's bundle is missing.
    """

    def __init__(self, deployments: Deployments, experiments: Experiments) -> None:
        self._deployments, self._experiments = deployments, experiments

    @property
    def is_ready(self) -> bool:
        """Return whether every layer that names a model has its default served and working."""
        served = [layer.parameters for layer in self._experiments.undecided().layers if "model" in layer.parameters]
        deployments = [self._deployments.find(*_model_of(parameters)) for parameters in served]
        return bool(deployments) and all(one is not None and one.is_healthy for one in deployments)

    def of(self, call: RankCall) -> Deployment:
        """Return the arm's deployment, or the default's of its layer, or any that has a popularity prior."""
        wanted = self._find(call.decision)
        if wanted is not None and wanted.is_healthy and not wanted.is_slow:
            return wanted
        is_slow = wanted is not None and wanted.is_healthy
        default = self._find(self._experiments.undecided())
        if default is not None and default is not wanted and default.is_healthy and not (is_slow and default.is_slow):
            call.degraded.append("bundle_slow" if is_slow else "bundle_unavailable")
            return default
        chosen = wanted or default
        if chosen is None:
            raise NotReady("No model is being served.")
        return chosen

    def of_both(self, call: RankCall) -> Deployment:
        """Give an interleaved call its halves, or return the one deployment that can answer it."""
        found = [self._deployments.find(*_model_of(arm.parameters)) for arm in call.decision.pair or ()]
        healthy = [one for one in found if one is not None and one.is_healthy]
        usable = [one for one in healthy if not one.is_slow] or healthy
        if not usable:
            return self.of(call)
        if len(usable) == len(found):
            call.halves = tuple([Half(call, one) for one in usable])
        else:
            call.degraded.append("bundle_slow" if len(healthy) == len(found) else "bundle_unavailable")
        return usable[0]

    def _find(self, decision: Decision) -> Deployment | None:
        return None if decision.model is None else self._deployments.find(*decision.model)


def _model_of(parameters: Mapping[str, object]) -> tuple[str, str]:
    return str(parameters["model"]), str(parameters.get("version", ""))
