"""Both models of an interleaved ranking: each scores for itself, and the two lists become one.

The user's behaviours are read once. A half waits in its bundle's queue like any other entry, with the ranking's own
deadline, and the ranking goes on when both halves have a value. The answer has no scores, because those of two models
cannot be compared, and a caller who sorted by them would undo the draft.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from contract.experiments.interleaving import team_draft
from contract.experiments.rules import RULES, rules_of
from service.errors import DeadlineExceeded
from service.inference.scorer import ScoredRow
from service.names import Degraded
from service.ranking.answer import Explanation, Merged, Ranking, explanation_of, ranking_of
from service.ranking.call import Half, RankCall
from service.ranking.candidates import Candidates, candidates_of, without_scores
from service.ranking.context import read_of
from service.ranking.rules.applied import Ruled
from service.ranking.rules.stage import RuleStage
from service.ranking.targets import arm_weights

_JOIN: Final = "+"  # no model's name and no version has one


class _Own(NamedTuple):
    """The list that one model gives by itself."""

    ranked: Sequence[str]  # best first
    rest: Sequence[str]  # what the model does not know or could not score, in the order of the request


def fill(call: RankCall) -> None:
    """Build the inputs of both halves from those of the call, which are the control's."""
    for half, arm in zip(call.halves, call.decision.pair or (), strict=True):
        is_control = half.serving is call.serving
        own = half.serving.bundle.items
        half.candidates = call.candidates if is_control else candidates_of(call.candidates.item_ids, own)
        weights = arm_weights(half.serving.bundle, arm.parameters)
        half.row = call.row._replace(
            candidates=half.candidates.indices, weights=weights, unknown=len(half.candidates.unknown)
        )
        half.cost, half.until = max(1, len(half.candidates.indices)), call.cutoff


def go_on_alone(call: RankCall) -> ScoredRow | Exception:
    """Leave an answer to the half that has scores, or to the control's if none has; return its value.

    The call is then like any other: it is ordered by one model, and no team gets credit.
    """
    values = [half.value for half in call.halves]
    failures = [value for value in values if isinstance(value, Exception)]
    place = 1 if isinstance(values[0], Exception) and not isinstance(values[1], Exception) else 0
    if len(failures) == 1:
        call.degraded.append(_reason(failures[0]))
    chosen = call.halves[place]
    call.halves = ()
    call.serving, call.candidates, call.waited = chosen.serving, chosen.candidates, chosen.waited
    return chosen.value


def note(call: RankCall, values: Sequence[ScoredRow]) -> None:
    """Note how long the halves took, and whether a model gave an item no score."""
    call.timings["queue"] = max(half.waited for half in call.halves)
    call.timings["encode"] = sum(value.encode_seconds for value in values)
    call.timings["score"] = sum(value.score_seconds for value in values)
    if any(value.finite is not None for value in values):
        call.degraded.append("unscored_items")


def merged(call: RankCall, values: Sequence[ScoredRow], stage: RuleStage | None = None) -> Ranking:
    """Return the draft of both lists; items that neither model ranks follow in the order of the request.

    Rules of an arm, if a stage is given, are applied to its own list.
    """
    ruled = [None, None] if stage is None else _ruled(call, values, stage)
    own = [_own(half, value, rules) for half, value, rules in zip(call.halves, values, ruled, strict=True)]
    limit = None if call.seen_ids else call.limit
    count = min(limit or call.candidates.total, call.candidates.total)
    draft = team_draft(call.request_id, own[0].ranked, own[1].ranked, count)
    placed = set(own[0].ranked) | set(own[1].ranked)
    rest = [item for item in own[0].rest if item not in placed][: count - len(draft.items)]
    items, keys = [*draft.items, *rest], [arm.key for arm in call.decision.pair or ()]
    teams = [*[None if team is None else keys[team] for team in draft.teams], *[None] * len(rest)]
    places = [{item: place for place, item in enumerate(one.ranked, start=1)} for one in own]
    ranks = [[own_places.get(item) for own_places in places] for item in items]
    manifests = [half.serving.bundle.manifest for half in call.halves]
    return Ranking(
        items,
        [None] * len(items),
        [True] * len(draft.items) + [False] * len(rest),
        _JOIN.join([one.model for one in manifests]),
        _JOIN.join([one.version for one in manifests]),
        tuple(call.degraded),
        call.timings,
        _explanation(call, values[0], keys, teams, ranks) if call.explain else None,
        Merged(teams, ranks),
    )


def _ruled(call: RankCall, values: Sequence[ScoredRow], stage: RuleStage) -> list[Ruled | None]:
    found = []
    for half, value, arm in zip(call.halves, values, call.decision.pair or (), strict=True):
        # A set that another layer names is the same for both arms.
        name = rules_of(arm.parameters) if RULES in arm.parameters else call.decision.rules
        found.append(stage.apply(call, name, half.serving.bundle, _scored_of(half, value), value))
    return found


def _own(half: Half, value: ScoredRow, rules: Ruled | None) -> _Own:
    candidates = _scored_of(half, value)
    ranking = ranking_of(
        half.serving.bundle, candidates, value, limit=None, degraded=(), timings={},
        instead=None if rules is None else rules.after,
    )  # fmt: skip
    known = len(candidates.known)
    ranked, rest = ranking.item_ids[:known], ranking.item_ids[known:]
    if rules is not None and rules.is_late.any():
        late = {candidates.item_ids[place] for place in rules.is_late.nonzero()[0].tolist()}
        ranked, rest = [sorted(items, key=late.__contains__) for items in (ranked, rest)]
    return _Own(ranked, rest)


def _scored_of(half: Half, value: ScoredRow) -> Candidates:
    return half.candidates if value.finite is None else without_scores(half.candidates, value.finite)


def _explanation(
    call: RankCall, control: ScoredRow, keys: Sequence[str], teams: list[str | None], ranks: list[list[int | None]]
) -> Explanation:
    """Describe what the control's model read, and which model ranked what where."""
    facts = explanation_of(call.stored, call.fresh, len(call.halves[0].candidates.unknown), control)
    own = {f"{key}.rank": [both[place] for both in ranks] for place, key in enumerate(keys)}
    context = read_of(call.context, call.request_time_ms, call.halves[0].serving.bundle, control)
    return replace(facts, items={"team": teams, **own}, context=context)


def _reason(failure: Exception) -> Degraded:
    return "bundle_slow" if isinstance(failure, DeadlineExceeded) else "bundle_unavailable"
