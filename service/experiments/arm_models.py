"""The models that an experiment file names, and the versions that `latest` and a track mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from contract.experiments.assignment import ExperimentsSnapshot
from contract.experiments.fields import Parameters
from contract.experiments.tracks import track_of

LATEST: Final = "latest"
Models = frozenset[tuple[str, str]]  # (model, version)


class VersionChoice:
    """Gives every model of a file the version that is served.

    `version: latest` (or a layer that names a model and no version) is resolved once per file, model by model; a track
    has its promoted version.

    Args:
        versions: of a model, oldest first.
        fixed: what `latest` means already, by model.
        tracks: the version in force, by `model/track`.
    """

    def __init__(
        self, versions: Callable[[str], Sequence[str]], fixed: Mapping[str, str], tracks: Mapping[str, str]
    ) -> None:
        self._versions, self._tracks = versions, tracks
        self.chosen = dict(fixed)

    def resolve(self, parameters: Parameters) -> Parameters:
        """Return the parameters with an existing version in place of "latest"; unchanged if there is none."""
        model, track = parameters.get("model"), track_of(parameters)
        if track is not None:
            return {**parameters, "version": self._tracks.get(track, "")}
        if not isinstance(model, str) or parameters.get("version", LATEST) != LATEST:
            return parameters
        if model not in self.chosen:
            known = self._versions(model)
            if not known:
                return {**parameters, "version": LATEST}
            self.chosen[model] = known[-1]
        return {**parameters, "version": self.chosen[model]}


def models_of(snapshot: ExperimentsSnapshot) -> Models:
    """Return every model that a file may serve."""
    arms = [arm for layer in snapshot.layers for one in layer.experiments if not one.stopped for arm in one.parameters]
    return _models([*(layer.defaults for layer in snapshot.layers), *arms])


def shadow_models_of(snapshot: ExperimentsSnapshot) -> Models:
    """Return every model that scores as a shadow."""
    running = [one for layer in snapshot.layers for one in layer.experiments if not one.stopped]
    named = [*(layer.shadow for layer in snapshot.layers), *(shadow for one in running for shadow in one.shadows)]
    return frozenset((shadow.model, shadow.version) for shadow in named if shadow is not None)


def default_models_of(snapshot: ExperimentsSnapshot) -> Models:
    """Return the models without which a layer cannot answer."""
    return _models([layer.defaults for layer in snapshot.layers])


def built_in(model: str) -> dict[str, object]:
    """Return the experiments of a service without a file: one layer, every user unallocated."""
    defaults = {"model": model, "version": LATEST}
    return {"schema": 1, "revision": "built-in", "layers": [{"key": "rank", "salt": "rank", "defaults": defaults}]}


def _models(parameters: Sequence[Parameters]) -> Models:
    return frozenset((str(one["model"]), str(one.get("version", LATEST))) for one in parameters if "model" in one)
