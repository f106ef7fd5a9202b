"""Sequences of edits, each of which looks harmless next to the one before it: no key and no salt is used twice."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from contract.experiments.history import MAX_DIGESTS, MAX_USED, Used, experiment_file, state_from_json, state_to_json
from contract.experiments.problems import ExperimentsError
from contract.experiments.ramps import SLACK_MS, propose
from tests.support.experiment_files import NOW_MS, accepted, drop, example, refusals

E0, PLACE = "layers__0__experiments__0", "rank.pyramid-vs-mgnm"
DAY_MS = 86_400_000
AFTER_END_MS = NOW_MS + 60 * DAY_MS
OTHER = {f"{E0}__salt": "other"}


def document(**edits: object) -> dict[str, Any]:
    return example(overrides__units={}, **edits)


def removed(**edits: object) -> dict[str, Any]:
    found = document(**edits)
    drop(found, "layers.0.experiments.0")
    return found


STOPPED = document(**{f"{E0}__status": "stopped"})


def test_experiment_that_is_over_cannot_get_a_later_end_with_or_without_another_salt() -> None:
    later = {f"{E0}__end": "2026-05-15T00:00:00Z"}
    reason = f"{PLACE}: a finished experiment cannot start again: use a new key and salt"
    assert refusals(document(), document(**later), AFTER_END_MS) == [reason]
    assert refusals(document(), document(**later, **OTHER), AFTER_END_MS) == [
        f"{PLACE}: salt cannot change once it runs",
        reason,
    ]


@pytest.mark.parametrize("edits", [{}, OTHER], ids=["same salt", "other salt"])
@pytest.mark.parametrize("status", ["running", "draft", "stopped"])
def test_key_of_an_experiment_that_was_removed_never_comes_back(edits: dict[str, object], status: str) -> None:
    state = accepted(accepted(accepted(None, document()), STOPPED), removed())
    assert refusals(state, document(**edits, **{f"{E0}__status": status})) == [
        f"{PLACE}: an experiment with this key has run and was removed: use a new key and salt"
    ]


def test_experiment_that_is_over_can_be_removed_and_does_not_come_back() -> None:
    state = accepted(accepted(None, document()), removed(), AFTER_END_MS)
    assert len(refusals(state, document(), AFTER_END_MS)) == 1


def test_new_key_cannot_take_the_salt_of_an_experiment_that_has_run() -> None:
    state = accepted(accepted(None, document()), STOPPED)
    new = document(**{f"{E0}__status": "stopped", f"{E0}__salt": "renamed"})
    again = {**example()["layers"][0]["experiments"][0], "key": "again"}
    new["layers"][0]["experiments"].append(again)
    found = refusals(state, new)
    assert f"{PLACE}: salt cannot change once it runs" in found
    assert any(
        one.startswith("rank.again: salt pyramid-vs-mgnm was used by experiment pyramid-vs-mgnm") for one in found
    )
    gone = accepted(state, removed())
    only = removed()
    only["layers"][0]["experiments"].append(again)
    assert [one.split(":")[0] for one in refusals(gone, only)] == ["rank.again"]


def test_key_cannot_move_to_another_layer() -> None:
    moved = removed()
    experiment = document(**{f"{E0}__status": "stopped", **OTHER})["layers"][0]["experiments"][0]
    experiment["arms"] = [{"key": "control", "buckets": [[0, 5000]]}, {"key": "treatment", "buckets": [[5000, 10000]]}]
    moved["layers"][1]["experiments"] = [experiment]
    state = accepted(accepted(accepted(None, document()), STOPPED), removed())
    assert refusals(state, moved) == ["blend.pyramid-vs-mgnm: an experiment of layer rank has this key: use a new key"]


def test_draft_and_an_experiment_that_has_not_begun_may_still_change_and_leave_no_trace() -> None:
    early_ms = NOW_MS - 30 * DAY_MS
    for first in (document(), document(**{f"{E0}__status": "draft"})):
        state = accepted(None, first, early_ms)
        assert refusals(state, document(**OTHER), early_ms) == []
        gone = accepted(state, removed(), early_ms)
        assert refusals(gone, document(**OTHER), early_ms) == []
        assert gone.used == {}


def test_experiment_that_began_after_its_file_was_accepted_is_used() -> None:
    state = accepted(None, document(), NOW_MS - 30 * DAY_MS)
    assert state.used == {}
    assert refusals(state, document(**OTHER)) == [f"{PLACE}: salt cannot change once it runs"]


def test_experiment_counts_as_running_a_little_before_its_start_and_after_its_end_because_clocks_differ() -> None:
    start_ms, end_ms = 1_772_323_200_000, 1_774_742_400_000
    state = accepted(None, document(), start_ms - DAY_MS)
    assert refusals(state, document(**OTHER), start_ms - SLACK_MS) == [f"{PLACE}: salt cannot change once it runs"]
    assert refusals(state, document(**OTHER), start_ms - SLACK_MS - 1) == []
    for now_ms in (start_ms - SLACK_MS, end_ms + SLACK_MS - 1):
        assert refusals(document(), document(layers__0__salt="new"), now_ms)
    for now_ms in (start_ms - SLACK_MS - 1, end_ms + SLACK_MS):
        assert refusals(document(), document(layers__0__salt="new"), now_ms) == []


def test_salt_of_a_layer_serves_no_other_layer_no_experiment_and_no_holdout() -> None:
    idle = example(overrides__units={}, layers__0__experiments=[])
    state = accepted(accepted(None, idle), {**idle, "layers": [{**idle["layers"][0], "salt": "second"}]})
    assert refusals(state, idle) == []  # the layer may go back to its own salt while nothing runs in it
    taken = {**idle["layers"][1], "salt": "feed-rank-2026a"}
    assert refusals(state, {**idle, "layers": [{**idle["layers"][0], "salt": "second"}, taken]}) == [
        "blend: salt feed-rank-2026a was used by layer rank"
    ]
    assert refusals(state, {**idle, "holdout": {"salt": "feed-rank-2026a", "buckets": []}, "layers": [
        {**idle["layers"][0], "salt": "second"}
    ]}) == ["holdout: salt feed-rank-2026a was used before: use a new salt"]  # fmt: skip


def test_holdout_that_was_given_up_does_not_come_back_under_its_salt() -> None:
    idle = example(overrides__units={}, layers__0__experiments=[])
    state = accepted(accepted(None, idle), {**idle, "holdout": None})
    assert refusals(state, idle) == ["holdout: salt global-2026h1 was used before: use a new salt"]


def test_layer_may_be_removed_and_come_back_while_nothing_runs_in_it() -> None:
    without = document()
    drop(without, "layers.1")
    state = accepted(accepted(None, document()), without)
    assert refusals(state, document()) == []


def test_switching_everything_off_and_on_changes_no_promise() -> None:
    off = accepted(accepted(None, document()), document(enabled=False))
    assert refusals(off, document(**OTHER)) == [f"{PLACE}: salt cannot change once it runs"]
    assert refusals(off, document()) == []


def test_override_for_a_stopped_experiment_may_be_left_behind_and_not_added() -> None:
    stop = {f"{E0}__status": "stopped"}
    state = accepted(accepted(None, example()), example(**stop))
    added = example(**stop, overrides__units={"qa-2": {"rank": "pyramid-vs-mgnm:control"}})
    assert refusals(state, added) == ["override rank=pyramid-vs-mgnm:control names an arm of a stopped experiment"]


def test_resolution_of_latest_is_kept_while_an_experiment_runs() -> None:
    state = replace(accepted(None, document()), latest={"mgnm": "7"})
    assert accepted(state, document(revision="next")).latest == {"mgnm": "7"}
    assert accepted(state, document(revision="next"), AFTER_END_MS).latest == {}


def test_every_refusal_names_the_place_of_what_is_wrong() -> None:
    state = accepted(None, document())
    edits = {**OTHER, "layers__0__salt": "x", "holdout": None, f"{E0}__end": "2026-03-20T00:00:00Z"}
    problems = propose(state, experiment_file(document(**edits)), NOW_MS).problems
    assert {problem.place for problem in problems} == {
        ("layers", 0, "salt"), ("layers", 0, "experiments", 0, "salt"), ("holdout",),
        ("layers", 0, "experiments", 0, "end"),
    }  # fmt: skip


def test_state_reads_back_what_was_written_and_counts_its_revisions() -> None:
    state = accepted(None, document())
    assert (state.revision, state.file.digest, state.used["mgnm-topk"]) == (
        1, state.digests[-1], Used(layer="rank", salt="mgnm-topk-r2"),
    )  # fmt: skip
    for revision in range(2, MAX_DIGESTS + 4):
        state = accepted(state, document(revision=str(revision)))
    assert (state.revision, len(state.digests)) == (MAX_DIGESTS + 3, MAX_DIGESTS)
    assert state.accepted_at(state.digests[-2], -1) == state.revision - 1
    assert state.accepted_at(state.digests[-2], state.revision - 1) is None


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff", b'{"schema":2}', b"null"],
    ids=["empty", "cut", "list", "no text", "later schema", "null"],
)
def test_what_is_no_state_is_refused(content: bytes) -> None:
    with pytest.raises(ExperimentsError, match="stored state"):
        state_from_json(content)


def test_state_with_another_document_than_its_digest_is_refused() -> None:
    stored = json.loads(state_to_json(accepted(None, document())))
    stored["document"]["revision"] = "edited by hand"
    with pytest.raises(ExperimentsError, match="damaged"):
        state_from_json(json.dumps(stored).encode())


def test_state_remembers_a_bounded_number_of_experiments() -> None:
    state = accepted(None, document())
    full = replace(
        state, used={f"e{n}": Used(layer="rank", salt=f"s{n}") for n in range(MAX_USED - 2)} | dict(state.used)
    )
    assert refusals(full, document()) == []
    new = document()
    new["layers"][0]["experiments"].append({
        **document()["layers"][0]["experiments"][0], "key": "new", "salt": "new", "slots": [[5000, 5001]],
    })  # fmt: skip
    assert refusals(full, new) == [f"layers: {MAX_USED} experiments were used: the state cannot remember more"]
