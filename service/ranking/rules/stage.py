"""The stage between scores and order in which rules are applied; a ranking without rules does not come here."""

from __future__ import annotations

from collections.abc import Mapping

from service.bundles.bundle import Bundle
from service.inference.scorer import ScoredRow
from service.metrics import Metrics
from service.ranking.call import RankCall
from service.ranking.candidates import Candidates
from service.ranking.rules.applied import Ruled, ruled
from service.ranking.rules.book import BundleRules, RuleBook
from service.store.items import ItemStore


class RuleStage:
    """Applies the rules of the user's arm.

    Args:
        book: the prepared rules.
        items: stored features of items.
        observer: counts.
    """

    def __init__(self, book: RuleBook, items: ItemStore | None, observer: Metrics) -> None:
        self.book, self._items, self._observer = book, items, observer

    def of(self, call: RankCall, candidates: Candidates, scored: ScoredRow | None) -> Ruled | None:
        """Apply the call's rules to the model's scores, or to popularity if it gave none."""
        return self.apply(call, call.decision.rules, call.serving.bundle, candidates, scored)

    def apply(
        self, call: RankCall, name: str, bundle: Bundle, candidates: Candidates, scored: ScoredRow | None
    ) -> Ruled | None:
        """Apply a set of rules; None if this bundle has no set of that name."""
        rules = self.book.of(call.decision, name, bundle)
        if rules is None:
            return None
        features = self._features(call, rules, candidates)
        if scored is None:  # as many times the count as the rule's weight: popularity is on a scale of weights
            counts = bundle.popularity[candidates.indices]
            result = ruled(rules, candidates, counts, features, call.request_time_ms, is_linear=True)
        else:
            result = ruled(rules, candidates, scored.scores, features, call.request_time_ms)
        self._observer.rules_applied(name, result.counts)
        return result

    def _features(
        self, call: RankCall, rules: BundleRules, candidates: Candidates
    ) -> Mapping[int, Mapping[str, object]]:
        """Return the features that callers sent with the request, or stored before, by place."""
        ids, sent = candidates.item_ids, call.features or {}
        if rules.reads_all:
            wanted = list(range(candidates.total))
        else:
            wanted = [*candidates.unknown, *candidates.known[candidates.indices == 0].tolist()]
        stored = {} if self._items is None or not wanted else self._items.find([ids[place] for place in wanted])
        found = {place: stored[ids[place]] for place in wanted if ids[place] in stored}
        for place in range(candidates.total) if sent else ():
            if ids[place] in sent:
                found[place] = {**found.get(place, {}), **sent[ids[place]]}
        return found
