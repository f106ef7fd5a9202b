"""The shadow of an arm: a bundle that scores a sample of the arm's rankings after they were answered.

No answer depends on a shadow, so it may change while an experiment runs.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Annotated, Final, NamedTuple

from pydantic import Field, model_validator

from contract.experiments.fields import Parameters, Strict, Text

_STEPS: Final = 10_000
_SALT: Final = b"shadow.sample."

ModelName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,47}$")]
TrackName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]


class Shadow(Strict):
    """The bundle, named as the parameters of an arm name theirs, and the share of the rankings that it scores."""

    model: ModelName
    version: Text = ""
    track: TrackName | None = None
    share: Annotated[float, Field(gt=0, le=1)]

    @model_validator(mode="after")
    def _check(self) -> Shadow:
        if self.version and self.track:
            raise ValueError("give a version or a track, not both: a track decides the version")
        return self

    @property
    def parameters(self) -> Parameters:
        """Return the parameters of an arm that serves this bundle."""
        if self.track is not None:
            return {"model": self.model, "track": self.track}
        return {"model": self.model, "version": self.version or "latest"}


class ShadowBundle(NamedTuple):
    """A shadow whose version is known."""

    model: str
    version: str
    share: float

    def takes(self, request_id: str) -> bool:
        """Return whether a ranking is in the sample.

        The id of the request decides: a ranking is in the sample or not on every replica and in every replay, in a
        larger share too. A sample of users would give the few who rank most often more weight.
        """
        place = int.from_bytes(sha256(_SALT + request_id.encode("utf-8", "replace")).digest()[:8], "big") % _STEPS
        return place < self.share * _STEPS


def shadow_of(shadow: Shadow | None, resolve: Callable[[Parameters], Parameters]) -> ShadowBundle | None:
    """Return a shadow with its version; None if there is none.

    Args:
        shadow: of the file.
        resolve: maps parameters to the served ones.
    """
    if shadow is None:
        return None
    found = resolve(shadow.parameters)
    return ShadowBundle(shadow.model, str(found.get("version", "")), shadow.share)
