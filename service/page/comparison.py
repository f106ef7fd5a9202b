"""The page's data: a user's behaviours, and the same candidates ranked by every loaded model.

The rankings come from the real ranker, under decisions that name no experiment, so viewing a user does not count as an
exposure (ADR 0060). Everything is bounded, and text from a bundle's catalogue is treated as untrusted.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import numpy as np

from contract.behaviours.actions import ACTIONS
from contract.behaviours.records import Records
from contract.experiments.assignment import ExperimentsSnapshot
from contract.experiments.decision import Decision, LayerDecision
from contract.experiments.fields import Scalar
from service.bundles.bundle import Bundle
from service.errors import NotReady, RankerError
from service.ranking.answer import Explanation, Ranking
from service.ranking.call import AwaitedCall
from service.ranking.ranker import Ranker
from service.store.behaviours import RedisBehaviourStore, StoreUnavailable

MAX_MODELS: Final = 4
MAX_BEHAVIOURS: Final = 200
MAX_USERS: Final = 200

_USERS_SEARCHED: Final = 20_000  # of a vocabulary of millions, a prefix is looked for among the first ones only
_DRAWN: Final = 16_384  # more than the candidates and a user's history together
_DEADLINE_SECONDS: Final = 5.0  # for people: a cold machine should show numbers and not an error
_MAX_TEXT: Final = 200
_MAX_DETAILS: Final = 4

Json = dict[str, Any]  # Any: JSON


@dataclass(frozen=True, slots=True)
class PageSources:
    """The running service's own parts."""

    bundles: Callable[[], Sequence[Bundle]]  # those that are served now
    snapshot: Callable[[], ExperimentsSnapshot | None]  # the experiments in force
    store: RedisBehaviourStore
    ranker: Ranker
    written: Callable[..., None]  # the metric of stored behaviours
    show_bucket: bool = True
    rank_port: int | None = None  # of `POST /rank`, if the page is served on another port


async def known_users(sources: PageSources, prefix: str) -> Json:
    """Return some users to choose from, and where they come from: `model`, `store`, or `unavailable`.

    They are users that a model was trained with. Most models read no user, and bring none: then the store is asked.
    """
    vocabulary = next((bundle.users for bundle in sources.bundles() if bundle.users is not None), None)
    if vocabulary is not None:
        searched = islice(vocabulary.ids, _USERS_SEARCHED)
        found = list(islice((user_id for user_id in searched if user_id.startswith(prefix)), MAX_USERS))
        return {"users": found, "source": "model"}
    try:
        return {"users": await sources.store.some_users(prefix, MAX_USERS), "source": "store"}
    except StoreUnavailable:
        return {"users": [], "source": "unavailable"}


async def history_of(sources: PageSources, user_id: str) -> Json:
    """Return what a user did, newest first."""
    [stored] = await sources.store.read([user_id])
    oldest_first = np.argsort(stored.records["time_ms"], kind="stable")
    newest = stored.records[oldest_first[::-1][:MAX_BEHAVIOURS]]
    return {
        "user_id": user_id,
        "status": stored.status,
        "corrupt": stored.corrupt,
        "count": len(stored.records),
        "truncated": stored.truncated,
        "behaviours": _behaviours(newest, _Titles(sources.bundles())),
    }


def _behaviours(records: Records, titles: _Titles) -> list[Json]:
    item_ids = titles.ids_of_keys(records)
    columns = [records[name].tolist() for name in ("time_ms", "action", "value", "play_ms")]
    return [
        {**titles.of(item_id), "ts": ts, "action": ACTIONS[action - 1], "value": value / 10, "play_ms": play_ms}
        for item_id, ts, action, value, play_ms in zip(item_ids, *columns, strict=True)
    ]


class Comparison:
    """One user, the same candidates, every model."""

    def __init__(self, sources: PageSources, user_id: str, seed: int, count: int, extra: Sequence[str] = ()) -> None:
        self._sources, self._user_id, self._seed, self._count = sources, user_id, seed, count
        self._extra = extra
        self._bundles = list(sources.bundles())[:MAX_MODELS]
        self._titles = _Titles(self._bundles)
        self._now_ms = time.time_ns() // 1_000_000

    async def run(self) -> Json:
        """Rank with one model after another, so that no time is one of waiting for another model.

        Raises:
            NotReady: nothing is served yet.
        """
        snapshot = self._sources.snapshot()
        if snapshot is None or not self._bundles:
            raise NotReady
        decision = snapshot.decide(self._user_id, {}, self._now_ms)  # the snapshot's own: nothing is counted
        candidates = await self._draw()
        return {
            "user_id": self._user_id,
            "decision": self._shown(decision),
            "candidates": candidates,
            "rank_port": self._sources.rank_port,
            "rankings": [await self._rank(bundle, decision, candidates) for bundle in self._bundles if candidates],
        }

    async def _draw(self) -> list[str]:
        """Draw items that the user has not met yet, and add those asked for.

        The order of the items depends on the seed only, so that a click removes one candidate and changes no other.
        """
        items = self._bundles[0].items
        [stored] = await self._sources.store.read([self._user_id])
        met = set(items.indices_of_keys(stored.records["item"]).tolist())
        drawn = (items.ids[place] for place in _shuffled(len(items), self._seed) if place + 1 not in met)
        return list(dict.fromkeys([*islice(drawn, self._count), *self._extra]))

    async def _rank(self, bundle: Bundle, decision: Decision, candidates: list[str]) -> Json:
        asked = (bundle.manifest.model, bundle.manifest.version)
        own = asked in [(one.get("model"), one.get("version")) for one in _own_models(decision)]
        head = {"bundle": bundle.name, "model": asked[0], "version": asked[1], "own": own}
        try:
            ranking = await self._sources.ranker.rank(self._call(candidates, _asking_for(bundle, decision)))
        except RankerError as error:
            return {**head, "degraded": [], "error": {"code": error.code, "message": error.message}}
        return {**head, "error": None, **self._listed(ranking)}

    def _call(self, candidates: list[str], decision: Decision) -> AwaitedCall:
        return AwaitedCall(
            f"page-{secrets.token_hex(8)}",
            self._user_id,
            candidates,
            decision,
            request_time_ms=self._now_ms,
            explain=True,
            deadline=asyncio.get_running_loop().time() + _DEADLINE_SECONDS,
        )

    def _listed(self, ranking: Ranking) -> Json:
        explanation = ranking.explanation
        reasons = _reasons(explanation, len(ranking.item_ids))
        rows = zip(ranking.item_ids, ranking.scores, ranking.known, reasons, strict=True)
        return {
            "served": f"{ranking.model}@{ranking.version}",
            "degraded": ranking.degraded,
            "timings": {stage: seconds * 1000 for stage, seconds in ranking.timings.items()},
            "state_cached": explanation.state_cached if explanation and "encode" in ranking.timings else None,
            "explanation": dict(explanation.user) if explanation else {},
            "items": [
                {**self._titles.of(item_id), "score": score, "known": known, "why": why}
                for item_id, score, known, why in rows
            ],
        }

    def _shown(self, decision: Decision) -> Json:
        names = ("layer", "experiment", "arm", "reason", "slot", "arm_bucket")
        layers = [{name: getattr(layer, name) for name in names} for layer in decision.layers]
        if not self._sources.show_bucket:
            layers = [{**layer, "slot": None, "arm_bucket": None} for layer in layers]
        return {"header": decision.header(self._sources.show_bucket), "digest": decision.digest, "layers": layers}


def _shuffled(count: int, seed: int) -> list[int]:
    """Return places of items in the order of a seed: all of a small vocabulary, many of a large one."""
    random = np.random.default_rng(seed)
    if count <= _DRAWN:
        return list(map(int, random.permutation(count)))
    return list(dict.fromkeys(map(int, random.integers(count, size=_DRAWN))))


def _own_models(decision: Decision) -> list[Mapping[str, Scalar]]:
    """Return the parameters that name the user's own model, or both models if the user's lists are interleaved."""
    return [arm.parameters for arm in decision.pair] if decision.pair is not None else [decision.parameters]


def _asking_for(bundle: Bundle, decision: Decision) -> Decision:
    """Return a decision that asks for a bundle and names no experiment or unit: nothing is exposed or logged."""
    parameters = {**decision.parameters, "model": bundle.manifest.model, "version": bundle.manifest.version}
    layer = LayerDecision("page", None, None, "override", None, None, True, parameters, "")
    return Decision((layer,), decision.digest, None)


def _reasons(explanation: Explanation | None, count: int) -> list[Json]:
    """Return the model's explanation of each item: names with values, empty if there is none."""
    if explanation is None:
        return [{}] * count
    return [
        {name: values[place] for name, values in explanation.items.items() if values[place] is not None}
        for place in range(count)
    ]


class _Titles:
    """Names of items for people, from the first bundle that has one."""

    def __init__(self, bundles: Sequence[Bundle]) -> None:
        self._bundles = list(bundles)[:MAX_MODELS]

    def ids_of_keys(self, records: Records) -> list[str]:
        """Return item ids of stored behaviours; of an item that no model has met, its key."""
        found = [f"unknown item {key:016x}" for key in records["item"].tolist()]
        for bundle in reversed(self._bundles):
            for place, index in enumerate(bundle.items.indices_of_keys(records["item"]).tolist()):
                if index:
                    found[place] = bundle.items.ids[index - 1]
        return found

    def of(self, item_id: str) -> Json:
        """Return an item's id, title and details."""
        entry = next((bundle.catalogue[item_id] for bundle in self._bundles if item_id in bundle.catalogue), {})
        return {"item_id": item_id, "title": _text(entry.get("title")) or item_id, "details": _details(entry)}


def _details(entry: Mapping[str, Any]) -> str:
    genres = entry.get("genres")
    return ", ".join(filter(None, map(_text, genres[:_MAX_DETAILS]))) if isinstance(genres, list) else ""


def _text(value: object) -> str:
    """Return untrusted text, cut, and without characters that have no UTF-8 form; empty if it is not text."""
    return value[:_MAX_TEXT].encode(errors="replace").decode() if isinstance(value, str) else ""
