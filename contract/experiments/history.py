"""The state that outlives every process: the accepted experiment file, and every key and salt that was ever used.

An experiment counts as used from the moment it may have assigned a unit. Its key and salt can then never be reused,
even after it was stopped and taken out of the file: a second experiment with one of them would mix its units with
those of the first. The rule that extends this state is in ramps.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Final, Literal

from pydantic import Field, ValidationError

from contract.experiments.definition import ExperimentsConfig
from contract.experiments.fields import Key, Salt, Strict
from contract.experiments.parse import canonical_json, parse_experiments
from contract.experiments.problems import ExperimentsError

MAX_USED: Final = 10_000
"""Maximum number of experiments in a state; a file with more is refused."""
MAX_DIGESTS: Final = 64
MAX_STATE_BYTES: Final = 8_388_608


class Used(Strict):
    """An experiment that has assigned units, or may have."""

    layer: Key
    salt: Salt


@dataclass(frozen=True, slots=True)
class ExperimentFile:
    """A valid experiment file."""

    config: ExperimentsConfig
    digest: str
    document: Mapping[str, Any]  # Any: JSON; as it was parsed, because a config also contains defaults


@dataclass(frozen=True, slots=True)
class State:
    """The accepted file and the keys and salts of earlier files; immutable."""

    revision: int  # counts accepted files, from 1
    file: ExperimentFile
    latest: Mapping[str, str]  # what `version: latest` means, by model
    used: Mapping[str, Used]  # by experiment key
    layers: Mapping[str, str]  # the layer that a salt belongs to
    holdouts: frozenset[str]  # salts
    digests: tuple[str, ...]  # of the last accepted files; the last one is in force
    tracks: Mapping[str, str] = field(default_factory=dict)  # the version in force, by `model/track`

    def accepted_at(self, digest: str, after: int) -> int | None:
        """Return the last revision above `after` that accepted a file with this digest."""
        for place in range(len(self.digests) - 1, -1, -1):
            revision = self.revision - (len(self.digests) - 1 - place)
            if revision > after and self.digests[place] == digest:
                return revision
        return None


class _Stored(Strict):
    """A state as it is stored."""

    schema_: Annotated[Literal[1], Field(alias="schema")]
    revision: Annotated[int, Field(ge=1)]
    document: dict[str, Any]
    latest: dict[str, str]
    used: dict[Key, Used]
    layers: dict[Salt, Key]
    holdouts: tuple[Salt, ...]
    digests: Annotated[tuple[str, ...], Field(min_length=1, max_length=MAX_DIGESTS)]
    tracks: dict[str, str] = Field(default_factory=dict)


def moved(state: State, track: str, version: str) -> State:
    """Return the next state: the same file, and another version in force for a track."""
    digests = (*state.digests, state.file.digest)[-MAX_DIGESTS:]
    return replace(state, revision=state.revision + 1, tracks={**state.tracks, track: version}, digests=digests)


def experiment_file(document: object) -> ExperimentFile:
    """Validate a parsed experiment file.

    Raises:
        ExperimentsError: a rule of the format is broken.
    """
    config, digest = parse_experiments(document)
    return ExperimentFile(config, digest, json.loads(canonical_json(document)))


def state_to_json(state: State) -> bytes:
    """Return a state as it is stored: the same state gives the same bytes."""
    return canonical_json(
        {
            "schema": 1,
            "revision": state.revision,
            "document": dict(state.file.document),
            "latest": dict(state.latest),
            "used": {key: used.model_dump() for key, used in state.used.items()},
            "layers": dict(state.layers),
            "holdouts": sorted(state.holdouts),
            "digests": list(state.digests),
            **({"tracks": dict(state.tracks)} if state.tracks else {}),  # a service before tracks can read the others
        }
    )


def state_from_json(content: bytes) -> State:
    """Return a stored state.

    Raises:
        ExperimentsError: these bytes are not a state.
    """
    if len(content) > MAX_STATE_BYTES:
        raise ExperimentsError([f"the stored state is larger than {MAX_STATE_BYTES} bytes"])
    try:
        stored = _Stored.model_validate_json(content)
    except ValidationError as error:
        raise ExperimentsError(["the stored state is damaged, or another version wrote it"]) from error
    file = experiment_file(stored.document)
    if file.digest != stored.digests[-1]:
        raise ExperimentsError(["the stored state is damaged: its digest belongs to another file"])
    return State(
        revision=stored.revision,
        file=file,
        latest=stored.latest,
        used=stored.used,
        layers=stored.layers,
        holdouts=frozenset(stored.holdouts),
        digests=stored.digests,
        tracks=stored.tracks,
    )
