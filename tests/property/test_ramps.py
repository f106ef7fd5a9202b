"""No sequence of accepted edits moves a unit: random edits, each in another process, with clocks that differ."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from contract.experiments.assignment import ExperimentsSnapshot
from contract.experiments.history import State, experiment_file, state_from_json, state_to_json
from contract.experiments.problems import ExperimentsError
from contract.experiments.ramps import SLACK_MS, is_live, propose

DAY_MS = 86_400_000
UNITS = [str(unit) for unit in range(16)]
RAMPS = [
    [],
    [{"at": "2026-03-01T00:00:00Z", "share": 0.3}],
    [{"at": "2026-03-02T00:00:00Z", "share": 0.2}, {"at": "2026-03-03T12:00:00Z", "share": 0.6}],
    [{"at": "2026-03-01T12:00:00Z", "share": 0.1}, {"at": "2026-03-03T12:00:00Z", "share": 1.0}],
]
DAYS = [1, 4, 7, 10]  # of March 2026: the times at which experiments start and end
START_MS = int(datetime(2026, 3, 2, tzinfo=UTC).timestamp() * 1000)


def _day(day: int) -> str:
    return f"2026-03-{day:02d}T00:00:00Z"


def _experiment(key: str, salt: str, border: int, value: str, start: int, end: int) -> dict[str, Any]:
    arms = [
        {"key": "control", "buckets": [[0, border]]},
        {"key": "treatment", "buckets": [[border, 10000]], "params": {"p": value}},
    ]
    return {
        "key": key, "kind": "ab", "salt": salt, "status": "running", "start": _day(start), "end": _day(end),
        "owner": "me", "slots": [[0, 5000]], "arms": arms,
    }  # fmt: skip


FIRST: dict[str, Any] = {
    "schema": 1,
    "revision": "r",
    "layers": [
        {"key": "l", "salt": "l", "defaults": {"p": "none"}, "experiments": [_experiment("one", "a", 5000, "x", 1, 7)]}
    ],
}

new_experiments = st.builds(
    _experiment,
    st.sampled_from(["one", "two"]),
    st.sampled_from(["a", "b"]),
    st.sampled_from([5000, 2000]),
    st.sampled_from(["x", "y"]),
    st.sampled_from(DAYS[:2]),
    st.sampled_from(DAYS[2:]),
)
of_an_experiment = st.one_of(
    st.tuples(st.just("status"), st.sampled_from(["running", "stopped", "draft"])),
    st.tuples(st.just("salt"), st.sampled_from(["a", "b", "c"])),
    st.tuples(st.just("key"), st.sampled_from(["one", "two"])),
    st.tuples(st.just("start"), st.sampled_from(DAYS[:2]).map(_day)),
    st.tuples(st.just("end"), st.sampled_from(DAYS[2:]).map(_day)),
    st.tuples(st.just("slots"), st.sampled_from([[[0, 10000]], [[0, 5000]], [[5000, 10000]]])),
    st.tuples(st.just("ramp"), st.sampled_from(RAMPS)),
    st.tuples(st.just("arms"), new_experiments.map(lambda one: one["arms"])),
)
of_the_file = st.one_of(
    st.tuples(st.just("add"), new_experiments),
    st.tuples(st.just("remove"), st.just(0)),
    st.tuples(st.just("replace"), new_experiments),
    st.tuples(st.just("replace"), st.just(_experiment("two", "a", 5000, "x", 1, 10))),
    st.tuples(st.just("layer salt"), st.sampled_from(["l", "l2", "b"])),
    st.tuples(st.just("default"), st.sampled_from(["none", "other"])),
    st.tuples(st.just("enabled"), st.booleans()),
    st.tuples(st.just("holdout"), st.sampled_from([None, {"salt": "h", "buckets": [[0, 5000]]}])),
)
steps = st.tuples(
    st.lists(st.one_of(of_an_experiment, of_the_file), min_size=1, max_size=2),
    st.sampled_from([0, 0, 0, SLACK_MS, DAY_MS, 2 * DAY_MS - SLACK_MS // 2, 3 * DAY_MS, 6 * DAY_MS]),
    st.sampled_from([-SLACK_MS + 1, 0, SLACK_MS - 1]),  # how far the clock of a replica that assigns is off
)


def _edit(document: dict[str, Any], name: str, value: Any) -> None:
    layer = document["layers"][0]
    if name == "add":
        layer["experiments"].append(value)
    elif name == "remove":
        del layer["experiments"][:1]
    elif name == "replace":
        layer["experiments"][:1] = [value]
    elif name == "layer salt":
        layer["salt"] = value
    elif name == "default":
        layer["defaults"] = {"p": value}
    elif name in {"enabled", "holdout"}:
        document[name] = value
    elif layer["experiments"]:
        layer["experiments"][-1][name] = value


class _Witness:
    """Remembers what every unit was given."""

    def __init__(self) -> None:
        self.arms: dict[tuple[str, str], str] = {}  # by experiment and unit
        self.since: dict[tuple[str, str], int] = {}  # the clock that first had the unit in
        self.served: dict[tuple[str, str], Any] = {}  # by experiment and arm
        self.salts: dict[str, str] = {}  # by experiment

    def look(self, state: State, now_ms: int) -> None:
        snapshot = ExperimentsSnapshot(state.file.config, state.file.digest)
        experiments = state.file.config.layers[0].experiments
        live = {one.key for one in experiments if state.file.config.enabled and is_live(one, now_ms)}
        for unit in UNITS:
            [layer] = snapshot.decide(unit, {}, now_ms).layers
            # A clock that is behind may see a step of a ramp later than another one.
            was_in = {key for (key, known), since in self.since.items() if known == unit and since <= now_ms}
            assert was_in & live <= {layer.experiment}  # who is in stays in while it runs
            if layer.experiment is None or layer.arm is None:
                continue
            self.since.setdefault((layer.experiment, unit), now_ms)
            assert self.arms.setdefault((layer.experiment, unit), layer.arm) == layer.arm
            assert self.served.setdefault((layer.experiment, layer.arm), layer.parameters) == layer.parameters
            assert self.salts.setdefault(layer.experiment, layer.salt) == layer.salt


@settings(max_examples=2 * settings.default.max_examples, deadline=None)
@given(edits=st.lists(steps, min_size=1, max_size=8))
def test_no_sequence_of_accepted_files_moves_a_unit_or_uses_a_key_or_salt_twice(edits: list[Any]) -> None:
    now_ms, witness = START_MS, _Witness()
    state = propose(None, experiment_file(FIRST), now_ms).state
    assert state is not None
    last = FIRST
    witness.look(state, now_ms)
    for changes, pause_ms, off_ms in edits:
        now_ms += pause_ms
        witness.look(state, now_ms + off_ms)
        wanted = copy.deepcopy(last)
        for name, value in changes:
            _edit(wanted, name, value)
        try:
            verdict = propose(state, experiment_file(wanted), now_ms)
        except ExperimentsError:
            continue
        if verdict.state is not None:
            last, state = wanted, state_from_json(state_to_json(verdict.state))  # each step is another process
        witness.look(state, now_ms + off_ms)
    assert len(set(witness.salts.values())) == len(witness.salts)
