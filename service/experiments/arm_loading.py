"""The models of arms: made ready before a file is accepted, served as well as possible afterwards."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from contract.experiments.assignment import ExperimentsSnapshot
from contract.experiments.problems import ExperimentsError
from service.experiments.arm_models import Models, default_models_of, models_of, shadow_models_of
from service.experiments.source import Rejected
from service.experiments.targets import TargetsOf, target_problems
from service.flow.threads import Detached

PrepareRules = Callable[[ExperimentsSnapshot], Awaitable[Sequence[str]]]
T = TypeVar("T")


class ArmModels:
    """The models that are ready.

    Args:
        versions: the versions of a model that can be served, oldest first; none of an unknown model.
        prepare: loads and warms models; raises ExperimentsError if one cannot be served. None serves any model.
        rules: prepares the rules of a file for the models that are ready, and returns why some cannot work.
        look_seconds: how long a look into the folder of bundles may take; a network mount may hang.
        targets_of: the weight of each target of a bundle, None if it is not served; None checks no weights of arms.
    """

    def __init__(
        self,
        versions: Callable[[str], Sequence[str]],
        prepare: Callable[[Models], Awaitable[None]] | None,
        look_seconds: float,
        targets_of: TargetsOf | None = None,
        rules: PrepareRules | None = None,
    ) -> None:
        self._targets_of, self._rules = targets_of, rules
        self.versions, self._prepare = versions, prepare
        self.is_loading = False  # models of a file that is not accepted yet
        self._folder, self._look_seconds = Detached("bundle-folder"), look_seconds
        self._ready: Models = frozenset()

    async def look(self, look: Callable[[], T]) -> T:
        """Return the content of the folder of bundles; the event loop must not wait for a mount that hangs.

        Raises:
            Rejected: the folder does not answer in time.
        """
        try:
            return await self._folder.run(look, self._look_seconds)
        except TimeoutError as error:
            raise Rejected("not_servable", ["the folder of bundles does not answer"]) from error

    async def make_ready(self, snapshot: ExperimentsSnapshot) -> None:
        """Load a new file's models in addition to the served ones: the file may still be refused.

        Raises:
            Rejected: a model is missing or cannot be served, or an arm's weights or rules name what it lacks.
        """
        wanted = models_of(snapshot)
        named = sorted(wanted | shadow_models_of(snapshot))  # a shadow is loaded in a process of its own, later
        missing = await self.look(lambda: [one for one in named if one[1] not in self.versions(one[0])])
        if missing:
            raise Rejected("not_servable", [f"no such model: {model}@{version}" for model, version in missing])
        if self._prepare is not None and not wanted <= self._ready:
            self.is_loading = True
            try:
                await self._prepare(wanted | self._ready)
                self._ready |= wanted
            except ExperimentsError as error:
                raise Rejected("not_servable", error.problems) from error
            finally:
                self.is_loading = False
        problems = target_problems(snapshot, self._targets_of) if self._targets_of is not None else []
        if self._rules is not None:
            problems += await self._rules(snapshot)
        if problems:
            raise Rejected("not_servable", problems)

    async def serve(self, snapshot: ExperimentsSnapshot) -> tuple[str, ...]:
        """Serve the models of accepted experiments; an arm whose model is missing gets its layer's default.

        The arm of a user must not depend on the replica, so only a missing default keeps a state out of force.

        Returns:
            Why models are missing; empty if none is.

        Raises:
            Rejected: the model of a layer's defaults is missing.
        """
        problems = await self._serve_models(snapshot)
        if self._rules is not None:
            problems = (*problems, *await self._rules(snapshot))
        return problems

    async def _serve_models(self, snapshot: ExperimentsSnapshot) -> tuple[str, ...]:
        wanted = models_of(snapshot)
        if self._prepare is None or wanted == self._ready:
            return ()
        try:
            await self._prepare(wanted)
            self._ready = wanted
        except ExperimentsError as error:
            self._ready = await self._serve_most(wanted, self._prepare)
            if not default_models_of(snapshot) <= self._ready:
                raise Rejected("not_servable", error.problems) from error
            return error.problems
        return ()

    async def _serve_most(self, wanted: Models, prepare: Callable[[Models], Awaitable[None]]) -> Models:
        served = self._ready
        for model in sorted(wanted - served):
            with suppress(ExperimentsError):
                await prepare(served | {model})
                served |= {model}
        return served
