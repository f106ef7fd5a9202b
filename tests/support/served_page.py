"""The page over ASGI, with a fake store and a fake ranker before real tiny bundles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
from fastapi import FastAPI, Request, Response

from contract.behaviours.records import RECORD, Records
from contract.experiments.assignment import ExperimentsSnapshot, snapshot_of
from service.bundles.bundle import Bundle
from service.errors import InferenceFailed, RankerError
from service.page.comparison import PageSources
from service.page.routes import page_router
from service.ranking.answer import Explanation, Ranking
from service.ranking.call import AwaitedCall
from service.store.behaviours import AppendResult, StoredBehaviours, StoreUnavailable

JSON = {"content-type": "application/json"}
MARKUP = "<img src=x onerror=alert(1)>"
"""The title of `i1`."""


@dataclass
class FakeStore:
    """Behaviours by user."""

    users: dict[str, StoredBehaviours] = field(default_factory=dict)
    is_away: bool = False
    appended: list[Mapping[str, Records]] = field(default_factory=list)
    result: AppendResult = field(default_factory=lambda: AppendResult(stored=1))

    async def read(self, user_ids: Sequence[str]) -> list[StoredBehaviours]:
        nothing = StoredBehaviours(np.zeros(0, dtype=RECORD))
        return [self.users.get(user_id, nothing) for user_id in user_ids]

    async def append(self, behaviours: Mapping[str, Records]) -> dict[str, AppendResult]:
        if self.is_away:
            raise StoreUnavailable
        self.appended.append(behaviours)
        return dict.fromkeys(behaviours, self.result)

    async def some_users(self, prefix: str, limit: int) -> list[str]:
        if self.is_away:
            raise StoreUnavailable
        return [user for user in self.users if user.startswith(prefix)][:limit]


@dataclass
class FakeRanker:
    """Answers in the order of the candidates, and remembers what it was asked."""

    asked: list[AwaitedCall] = field(default_factory=list)
    failing: str = ""  # a model that fails
    unexplained: bool = False

    async def rank(self, call: AwaitedCall) -> Ranking:
        self.asked.append(call)
        parameters = call.decision.parameters
        model, version = str(parameters["model"]), str(parameters["version"])
        if model == self.failing:
            raise InferenceFailed
        count = len(call.item_ids)
        explanation = Explanation(
            read=1, recent=0, corrupt=0, used=1, truncated=0, unread_behaviours=0, unknown_behaviours=0,
            unknown_candidates=1, state_cached=True, user={"period_weights": [0.5, 0.3, 0.2]},
            items={"level": [*range(count - 1), None]},
        )  # fmt: skip
        return Ranking(
            item_ids=list(call.item_ids),
            scores=[*(float(-place) for place in range(count - 1)), None],
            known=[*[True] * (count - 1), False],
            model=model,
            version=version,
            degraded=("behaviours_corrupt",),
            timings={"store": 0.001, "queue": 0.0, "encode": 0.002, "score": 0.001, "order": 0.0, "total": 0.005},
            explanation=None if self.unexplained else explanation,
        )


def _snapshot(**changes: Any) -> ExperimentsSnapshot:
    experiment = {
        "key": "pyramid-vs-mgnm", "kind": "ab", "salt": "pyramid-vs-mgnm", "status": "running", "owner": "us",
        "start": "2000-01-01T00:00:00Z", "end": "2000-02-01T00:00:00Z", "slots": [[0, 10000]],
        "arms": [
            {"key": "control", "buckets": [[0, 5000]]},
            {"key": "treatment", "buckets": [[5000, 10000]], "params": {"model": "pyramid_mixer"}},
        ],
    }  # fmt: skip
    layer = {
        "key": "rank",
        "salt": "rank",
        "defaults": {"model": "mgnm", "version": "1"},
        "experiments": [experiment],
    }
    overrides = {"units": {"tester": {"rank": "pyramid-vs-mgnm:treatment"}}}
    return snapshot_of({"schema": 1, "revision": "r", "overrides": overrides, "layers": [layer], **changes})


class Served:
    """An application with the page, and the fakes behind it."""

    def __init__(self, bundles: Sequence[Bundle]) -> None:
        self.bundles = list(bundles)
        self.store, self.ranker = FakeStore(), FakeRanker()
        self.snapshot: ExperimentsSnapshot | None = _snapshot()
        self.app = FastAPI()
        self.written: list[dict[str, Any]] = []
        self.sources = PageSources(
            lambda: self.bundles,
            lambda: self.snapshot,
            self.store,
            self.ranker,
            lambda **counted: self.written.append(counted),
        )
        self.app.include_router(page_router(lambda _: self.sources))
        self.app.add_exception_handler(RankerError, self._refuse)  # type: ignore[arg-type]
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(app=self.app), base_url="http://page")

    async def _refuse(self, _: Request, error: RankerError) -> Response:
        return Response(error.body("r"), error.status, media_type="application/json")

    async def get(self, path: str, **query: str) -> Any:
        answer = await self.client.get(path, params=query)
        assert answer.status_code == 200
        return answer.json()

    async def ask(self, path: str, body: Mapping[str, Any]) -> Any:
        answer = await self.client.post(path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def refusal(self, body: bytes, headers: Mapping[str, str] = JSON) -> tuple[int, Any]:
        answer = await self.client.post("/page/compare", content=body, headers=headers)
        return answer.status_code, answer.json()["error"]
