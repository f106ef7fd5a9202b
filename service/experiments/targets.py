"""The weights of targets in arms, against the bundles that serve the arms."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from contract.experiments.assignment import ExperimentsSnapshot
from contract.experiments.fields import Parameters
from contract.experiments.target_weights import TARGETS, weights_of
from service.experiments.arm_models import LATEST

TargetsOf = Callable[[str, str], Mapping[str, float] | None]
"""The weight of each target of a bundle by its model and version; None if the bundle is not served."""


def target_problems(snapshot: ExperimentsSnapshot, targets_of: TargetsOf) -> list[str]:
    """Return what is wrong with the weights of a file's arms and defaults; bundles must be loaded."""
    found = [(name, parameters, _bundle_targets(parameters, targets_of)) for name, parameters in _weighing(snapshot)]
    return [
        problem for name, parameters, own in found if own is not None for problem in _problems(name, parameters, own)
    ]


def _weighing(snapshot: ExperimentsSnapshot) -> Iterator[tuple[str, Parameters]]:
    """Yield the parameters that weigh targets, each with the name of its arm."""
    for layer in snapshot.layers:
        named = [(layer.key, layer.defaults)]
        for one in layer.experiments:
            arms = zip(one.arms, one.parameters, strict=True)
            named += [(f"{layer.key}.{one.key}:{arm}", parameters) for arm, parameters in arms if not one.stopped]
        yield from [
            (name, parameters) for name, parameters in named if "model" in parameters and parameters.get(TARGETS)
        ]


def _bundle_targets(parameters: Parameters, targets_of: TargetsOf) -> Mapping[str, float] | None:
    return targets_of(str(parameters["model"]), str(parameters.get("version", LATEST)))


def _problems(name: str, parameters: Parameters, own: Mapping[str, float]) -> Iterator[str]:
    weights = weights_of(str(parameters[TARGETS]))
    bundle = f"{parameters['model']}@{parameters.get('version', LATEST)}"
    known = f"there are {', '.join(own)}" if own else "the bundle has none"
    unknown = [target for target in weights if target not in own]
    for target in unknown:
        yield f"{name}: param {TARGETS}: {bundle} has no target {target}; {known}"
    if not unknown and not any({**own, **weights}.values()):
        yield f"{name}: param {TARGETS}: every weight is 0, so all candidates would be equal"
