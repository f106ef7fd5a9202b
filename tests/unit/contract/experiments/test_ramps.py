from __future__ import annotations

import pytest

from contract.experiments.parse import parse_experiments
from contract.experiments.ramps import changes, is_live
from tests.support.experiment_files import NOW_MS, drop, example, refusals

E0, PLACE = "layers__0__experiments__0", "rank.pyramid-vs-mgnm"
AFTER_END_MS = NOW_MS + 90 * 86_400_000


def refused(now_ms: int = NOW_MS, **edits: object) -> list[str]:
    return refusals(example(), example(**edits), now_ms)


def arms(boundary: int, treatment: str = "12") -> list[dict[str, object]]:
    params = {"model": "pyramid_mixer", "version": treatment}
    return [
        {"key": "control", "buckets": [[0, boundary]], "params": {}},
        {"key": "treatment", "buckets": [[boundary, 10000]], "params": params},
    ]


ALLOWED = {
    "nothing": {},
    "add slots": {f"{E0}__slots": [[0, 2000], [3000, 9000]]},
    "write the same slots otherwise": {f"{E0}__slots": [[0, 500], [500, 2000]]},
    "extend the end": {f"{E0}__end": "2026-04-15T00:00:00Z"},
    "stop": {f"{E0}__status": "stopped"},
    "stop and give the slots up": {f"{E0}__status": "stopped", f"{E0}__slots": []},
    "add a secondary metric": {f"{E0}__secondary": ["shares"]},
    "change the owner": {f"{E0}__owner": "somebody-else"},
    "switch everything off": {"enabled": False},
    "add a layer": {"layers__1": {"key": "new", "salt": "new", "defaults": {}}},
    "change an idle layer": {"layers__1__salt": "other", "layers__1__defaults": {"diversity": 0.5}},
    "add a default": {
        "layers__0__defaults": {"model": "mgnm", "version": "7", "top_k": 20, "fresh": True},
    },
    "add an override": {"overrides__units": {"qa-0002": {"rank": "mgnm-topk:k30"}}},
    "write the same arms otherwise": {f"{E0}__arms": [*reversed(arms(5000))]},
    "rename the revision": {"revision": "next"},
    "add a set of rules": {"rules": {"spread": [{"diversity": {"by": "author", "decay": 0.5}}]}},
}

REFUSED = {
    "remove slots": ({f"{E0}__slots": [[0, 1999]]}, f"{PLACE}: slots can only be added while it runs"),
    "move slots": ({f"{E0}__slots": [[5000, 7000]]}, f"{PLACE}: slots can only be added while it runs"),
    "shorten": ({f"{E0}__end": "2026-03-20T00:00:00Z"}, f"{PLACE}: end can only be extended while it runs"),
    "change the start": ({f"{E0}__start": "2026-03-02T00:00:00Z"}, f"{PLACE}: start cannot change once it runs"),
    "change the salt": ({f"{E0}__salt": "pyramid-vs-mgn"}, f"{PLACE}: salt cannot change once it runs"),
    "change the target": ({f"{E0}__target": None}, f"{PLACE}: target cannot change once it runs"),
    "change the kind": ({f"{E0}__kind": "interleave"}, f"{PLACE}: kind cannot change once it runs"),
    "change primary metrics": (
        {f"{E0}__primary": ["playtime"]},
        f"{PLACE}: primary metrics cannot change once it runs",
    ),
    "change guardrails": ({f"{E0}__guardrails": []}, f"{PLACE}: guardrails cannot change once it runs"),
    "change arm ranges": (
        {f"{E0}__arms": arms(5001)},
        f"{PLACE}: arms, their ranges and params cannot change once it runs",
    ),
    "change arm params": (
        {f"{E0}__arms": arms(5000, "13")},
        f"{PLACE}: arms, their ranges and params cannot change once it runs",
    ),
    "back to draft": ({f"{E0}__status": "draft"}, f"{PLACE}: a running experiment can only continue or be stopped"),
    "change the layer's salt": (
        {"layers__0__salt": "other"},
        "rank: salt of a layer cannot change while an experiment runs in it",
    ),
    "change a default": (
        {"layers__0__defaults__top_k": 21},
        "rank: default top_k is part of what running arms serve and cannot change",
    ),
    "change the unit": ({"unit__max_bytes": 64}, "unit: cannot change while an experiment runs"),
    "change the holdout": ({"holdout__buckets": [[0, 200]]}, "holdout: cannot change while an experiment runs"),
    "drop the holdout": ({"holdout": None}, "holdout: cannot change while an experiment runs"),
}


@pytest.mark.parametrize("edits", ALLOWED.values(), ids=ALLOWED.keys())
def test_edit_that_moves_nobody_is_allowed_while_running(edits: dict[str, object]) -> None:
    assert refused(**edits) == []


@pytest.mark.parametrize(("edits", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_edit_that_moves_somebody_is_refused_while_running(edits: dict[str, object], reason: str) -> None:
    assert refused(**edits) == [reason]


OF_THE_SURROUNDINGS = (
    "change the layer's salt",
    "change a default",
    "change the unit",
    "change the holdout",
    "drop the holdout",
)


@pytest.mark.parametrize("name", OF_THE_SURROUNDINGS)
def test_what_all_experiments_share_can_change_once_they_are_over(name: str) -> None:
    assert refused(AFTER_END_MS, **REFUSED[name][0]) == []


@pytest.mark.parametrize("name", OF_THE_SURROUNDINGS)
def test_what_all_experiments_share_can_change_as_the_last_one_is_stopped(name: str) -> None:
    stop = {f"layers__0__experiments__{place}__status": "stopped" for place in (0, 1)}
    assert refused(**REFUSED[name][0], **stop) == []


@pytest.mark.parametrize("name", ["change the salt", "change the target", "change arm ranges", "change arm params"])
def test_what_an_experiment_was_cannot_change_when_it_is_over(name: str) -> None:
    edits, reason = REFUSED[name]
    assert refused(AFTER_END_MS, **edits) == [reason]


RULED = {
    "rules": {
        "spread": [{"diversity": {"by": "author", "decay": 0.5}}],
        "fresh": [{"age_limit": {"hours": 24}}],
        "other": [{"age_limit": {"hours": 24}}],
    },
    "layers__0__defaults__rules": "fresh",
    f"{E0}__arms": [
        {"key": "control", "buckets": [[0, 5000]], "params": {}},
        {"key": "treatment", "buckets": [[5000, 10000]], "params": {"rules": "spread"}},
    ],
}


@pytest.mark.parametrize("name", ["spread", "fresh"])
def test_rules_that_running_arms_serve_cannot_change(name: str) -> None:
    changed = {**RULED["rules"], name: [{"age_limit": {"hours": 25}}]}  # type: ignore[dict-item]
    reason = f"rules {name}: this set is part of what running arms serve and cannot change"
    assert refusals(example(**RULED), example(**{**RULED, "rules": changed})) == [reason]
    stopped = {f"{one}__status": "stopped" for one in (E0, "layers__0__experiments__1")}
    assert refusals(example(**RULED), example(**{**RULED, "rules": changed, **stopped})) == []


def test_rules_that_no_running_arm_serves_can_change() -> None:
    changed = {**RULED["rules"], "other": [{"age_limit": {"hours": 25}}]}  # type: ignore[dict-item]
    assert refusals(example(**RULED), example(**{**RULED, "rules": changed})) == []


def test_rules_cannot_be_added_to_running_arms() -> None:
    ruled = example(rules=RULED["rules"], layers__0__defaults__rules="fresh")
    assert refusals(example(), ruled) == ["rank: default rules would change what running arms serve"]
    assert refusals(example(), example(layers__0__defaults__rules="")) == []


def test_running_experiment_cannot_be_taken_out_nor_its_layer() -> None:
    without, without_layer = example(overrides__units={}), example(overrides__units={})
    drop(without, "layers.0.experiments.0")
    drop(without_layer, "layers.0")
    wanted = f"{PLACE}: a running experiment cannot be removed: set its status to stopped"
    assert refusals(example(overrides__units={}), without) == [wanted]
    assert wanted in refusals(example(overrides__units={}), without_layer)


def test_stopped_experiment_cannot_start_again() -> None:
    reason = f"{PLACE}: a stopped experiment cannot start again: use a new key and salt"
    assert refusals(example(**{f"{E0}__status": "stopped"}), example()) == [reason]


def test_experiment_is_live_from_its_start_until_its_end_while_it_runs() -> None:
    config, _ = parse_experiments(example())
    experiment = config.layers[0].experiments[0]
    start_ms, end_ms = (int(time.timestamp() * 1000) for time in (experiment.start, experiment.end))
    assert [is_live(experiment, time) for time in (start_ms - 1, start_ms, end_ms - 1, end_ms)] == [
        False,
        True,
        True,
        False,
    ]
    for status in ("draft", "stopped"):
        config, _ = parse_experiments(example(**{f"{E0}__status": status}))
        assert not is_live(config.layers[0].experiments[0], NOW_MS)


def test_changes_name_what_differs_and_nothing_else() -> None:
    old, _ = parse_experiments(example())
    assert changes(old, old) == []
    edits = {f"{E0}__end": "2026-04-15T00:00:00Z", "layers__1__defaults__fresh": True, "revision": "next"}
    assert changes(old, parse_experiments(example(**edits))[0]) == [
        "+ layers.blend.defaults.fresh = True",
        "~ layers.rank.experiments.pyramid-vs-mgnm.end: 2026-03-29T00:00:00Z -> 2026-04-15T00:00:00Z",
        "~ revision: 2026-03-01.3 -> next",
    ]
