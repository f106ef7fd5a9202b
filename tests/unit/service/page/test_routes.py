"""The page's routes over ASGI, with a fake store and a fake ranker before real tiny bundles."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI, Request, Response
from pydantic import SecretStr

from contract.behaviours.actions import ACTION_CODES
from contract.behaviours.records import RECORD, Records, item_keys
from contract.bundle import manifest as names
from contract.experiments.assignment import ExperimentsSnapshot, snapshot_of
from deploy.experiments import write_current
from service.app.serving import create_app
from service.bundles.bundle import Bundle, load_bundle
from service.errors import InferenceFailed, RankerError
from service.experiments.exposures import Exposures, Outcome
from service.page.comparison import MAX_BEHAVIOURS, MAX_MODELS, MAX_USERS, PageSources, _shuffled
from service.page.routes import MAX_BODY_BYTES, MAX_EXTRA, page_router
from service.ranking.answer import Explanation, Ranking
from service.ranking.call import AwaitedCall
from service.settings.bundles import BundlesSettings
from service.settings.experiments import ExperimentsSettings
from service.settings.http import HttpSettings
from service.settings.page import PageSettings
from service.settings.redis import RedisSettings
from service.settings.root import Settings
from service.store.behaviours import AppendResult, StoredBehaviours, StoreUnavailable
from tests.support.builders import TinyModel, behaviours
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.anyio

MARKUP = "<img src=x onerror=alert(1)>"
JSON = {"content-type": "application/json"}


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


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    root = tmp_path_factory.mktemp("bundles")
    known = TinyModel(model="mgnm", items=30, users=300)
    directory = known.write(root)
    films = {
        "i1": {"title": MARKUP, "genres": ["<b>Drama</b>", 7, "War"]},
        "i2": {"title": 3},
        "i3": {"title": "\ud800"},
    }
    (directory / names.CATALOGUE).write_text(json.dumps({"items": films}))
    known.seal(directory)
    other = TinyModel(model="pyramid_mixer", items=40).write(root)
    return [load_bundle(path, max_bytes=2**24) for path in (directory, other)]


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


@pytest.fixture
async def served(bundles: list[Bundle]) -> AsyncIterator[Served]:
    served = Served(bundles)
    async with served.client:
        yield served


@pytest.mark.parametrize(
    ("path", "media"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/page/app.js", "text/javascript; charset=utf-8"),
        ("/page/style.css", "text/css; charset=utf-8"),
        ("/page/icon.svg", "image/svg+xml"),
    ],
)
async def test_every_file_is_served_under_a_strict_policy(served: Served, path: str, media: str) -> None:
    answer = await served.client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == media
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert answer.headers["cache-control"] == "no-store"


def test_files_name_no_other_host_and_make_no_markup_from_text() -> None:
    folder = Path(__file__).resolve().parents[4] / "service" / "page" / "static"
    script = (folder / "app.js").read_text(encoding="utf-8")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|srcdoc", script)
    for path in folder.iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")  # a name, never fetched
        assert not re.search(r"https?://|\burl\(|@import", text), path
    assert " style=" not in (folder / "index.html").read_text(encoding="utf-8")


async def test_routes_of_the_page_are_not_in_the_openapi_document(served: Served) -> None:
    assert served.app.openapi()["paths"] == {}


async def test_users_come_from_the_vocabulary_bounded_and_by_prefix(served: Served) -> None:
    everybody = (await served.get("/page/users"))["users"]
    assert everybody[:2] == ["u1", "u2"]
    assert len(everybody) == MAX_USERS
    assert (await served.get("/page/users", prefix="u29"))["users"] == ["u29", *(f"u29{digit}" for digit in range(10))]


async def test_without_a_model_that_reads_users_they_come_from_the_store(served: Served) -> None:
    served.bundles = served.bundles[1:]
    assert await served.get("/page/users") == {"users": [], "source": "store"}
    served.store.users = dict.fromkeys([f"s{place}" for place in range(300)], StoredBehaviours(behaviours(["i1"])))
    found = await served.get("/page/users")
    assert (found["source"], len(found["users"])) == ("store", MAX_USERS)
    assert (await served.get("/page/users", prefix="s299"))["users"] == ["s299"]


async def test_a_store_that_is_away_is_told_apart_from_one_without_users(served: Served) -> None:
    served.bundles, served.store.is_away = served.bundles[1:], True
    assert await served.get("/page/users") == {"users": [], "source": "unavailable"}


async def test_history_is_newest_first_with_titles_as_plain_text(served: Served) -> None:
    records = behaviours(["i1", "i2", "i3", "i39", "no-such"], times_ms=[50, 40, 30, 20, 60], action="rate")
    served.store.users["<u>"] = StoredBehaviours(records, corrupt=2, truncated=True)
    past = await served.ask("/page/history", {"user_id": "<u>"})
    assert (past["status"], past["corrupt"], past["count"], past["truncated"]) == ("ok", 2, 5, True)
    titles = [one["title"] for one in past["behaviours"]]
    assert titles[0].startswith("unknown item ")
    assert titles[1:] == [MARKUP, "i2", "?", "Film i39"]
    assert past["behaviours"][1] == {
        "item_id": "i1", "title": MARKUP, "details": "<b>Drama</b>, War", "ts": 50, "action": "rate", "value": 0.0,
        "play_ms": 0,
    }  # fmt: skip


async def test_history_is_bounded(served: Served) -> None:
    served.store.users["u1"] = StoredBehaviours(behaviours(["i1"] * (MAX_BEHAVIOURS + 7)))
    past = await served.ask("/page/history", {"user_id": "u1"})
    assert len(past["behaviours"]) == MAX_BEHAVIOURS
    assert past["count"] == MAX_BEHAVIOURS + 7


async def test_store_that_is_away_is_said_and_no_error(served: Served) -> None:
    served.store.users["u1"] = StoredBehaviours(np.zeros(0, dtype=RECORD), status="unavailable")
    assert (await served.ask("/page/history", {"user_id": "u1"}))["status"] == "unavailable"
    assert len((await served.ask("/page/compare", {"user_id": "u1", "count": 5}))["rankings"]) == 2


async def test_every_model_ranks_the_same_candidates_with_explanation_and_times(served: Served) -> None:
    answer = await served.ask("/page/compare", {"user_id": "tester", "seed": 3, "count": 10})
    assert len(answer["candidates"]) == 10
    assert [call.item_ids for call in served.ranker.asked] == [answer["candidates"]] * 2
    assert [one["bundle"] for one in answer["rankings"]] == ["mgnm@1", "pyramid_mixer@1"]
    ranking = answer["rankings"][1]
    assert ranking["error"] is None
    assert ranking["degraded"] == ["behaviours_corrupt"]
    assert ranking["timings"]["encode"] == 2.0
    assert ranking["state_cached"] is True
    assert ranking["explanation"] == {"period_weights": [0.5, 0.3, 0.2]}
    assert [item["why"] for item in ranking["items"]][::9] == [{"level": 0}, {}]
    assert [item["known"] for item in ranking["items"]][::9] == [True, False]


async def test_own_arm_is_told_with_reason_and_its_model_marked(served: Served) -> None:
    answer = await served.ask("/page/compare", {"user_id": "tester", "count": 5})
    assert answer["decision"]["header"] == "rank=pyramid-vs-mgnm:treatment;r=override"
    [layer] = answer["decision"]["layers"]
    assert (layer["experiment"], layer["arm"], layer["reason"]) == ("pyramid-vs-mgnm", "treatment", "override")
    assert [one["own"] for one in answer["rankings"]] == [False, True]


async def test_bucket_is_hidden_where_the_service_hides_it(served: Served) -> None:
    served.sources = PageSources(
        lambda: served.bundles, lambda: served.snapshot, served.store, served.ranker, dict, show_bucket=False
    )
    answer = await served.ask("/page/compare", {"user_id": "tester", "count": 5})
    assert answer["decision"]["layers"][0]["slot"] is None


async def test_looking_exposes_nobody(served: Served) -> None:
    await served.ask("/page/compare", {"user_id": "tester", "count": 5})

    class Sink:
        def offer(self, *_: Any) -> bool:
            raise AssertionError("an exposure was written")

    log = Exposures(Sink(), on_exposure=lambda *_: None)  # type: ignore[arg-type]
    for call in served.ranker.asked:
        outcome = Outcome(call.request_id, 0, "ok", "mgnm", "1", 5, 5)
        assert log.record(call.decision, outcome) == 0
        assert [layer.forced for layer in call.decision.layers] == [True]
        assert call.decision.variant == "none"


async def test_items_that_the_user_met_are_no_candidates(served: Served) -> None:
    met = [f"i{index}" for index in range(1, 26)]
    served.store.users["u1"] = StoredBehaviours(behaviours(met))
    answer = await served.ask("/page/compare", {"user_id": "u1", "count": 500})
    assert sorted(answer["candidates"]) == ["i26", "i27", "i28", "i29", "i30"]


async def test_candidates_depend_on_the_seed_and_on_nothing_else(served: Served) -> None:
    async def drawn(seed: int) -> list[str]:
        return list((await served.ask("/page/compare", {"user_id": "u1", "seed": seed, "count": 10}))["candidates"])

    first = await drawn(7)
    assert await drawn(7) == first
    assert await drawn(8) != first
    assert len(set(first)) == 10


async def test_a_click_takes_one_candidate_away_and_leaves_the_others(served: Served) -> None:
    question = {"user_id": "u1", "seed": 7, "count": 10}
    before = (await served.ask("/page/compare", question))["candidates"]
    served.store.users["u1"] = StoredBehaviours(behaviours([before[3]]))
    after = (await served.ask("/page/compare", question))["candidates"]
    assert after[:9] == [*before[:3], *before[4:]]


async def test_new_items_that_are_asked_for_are_candidates_too(served: Served) -> None:
    asked = [*(f"new-{place}" for place in range(MAX_EXTRA - 1)), "i1"]
    answer = await served.ask("/page/compare", {"user_id": "u1", "count": 30, "extra": asked})
    assert answer["candidates"][30:] == asked[:-1]  # i1 is one of the thirty
    assert served.ranker.asked[0].item_ids == answer["candidates"]


def test_a_large_vocabulary_is_not_shuffled_as_a_whole() -> None:
    places = _shuffled(10_000_000, 3)
    assert len(places) == len(set(places)) > 16_000
    assert places == _shuffled(10_000_000, 3) != _shuffled(10_000_000, 4)


async def test_a_click_is_stored_as_a_behaviour_of_now_and_counted(served: Served) -> None:
    before = time.time_ns() // 1_000_000
    answer = await served.ask("/page/click", {"user_id": "u1", "item_id": "i7"})
    [stored] = served.store.appended
    [record] = stored["u1"]
    assert record["item"] == item_keys(["i7"])[0]
    assert record["action"] == ACTION_CODES["click"]
    assert before <= record["time_ms"] == answer["ts"]
    assert served.written == [{"stored": 1, "repeated": 0, "refused": {}}]


async def test_a_click_on_a_stored_value_of_another_type_is_counted_as_refused(served: Served) -> None:
    served.store.result = AppendResult(error="wrong_type")
    assert (await served.ask("/page/click", {"user_id": "u1", "item_id": "i7"}))["stored"] == 0
    assert served.written == [{"stored": 0, "repeated": 0, "refused": {"wrong_type": 1}}]


async def test_a_click_that_cannot_be_stored_is_told(served: Served) -> None:
    served.store.is_away = True
    answer = await served.client.post("/page/click", json={"user_id": "u1", "item_id": "i7"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_unavailable")
    assert served.written == []


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b'{"user_id": "u1"}', JSON, 422),
        (b'{"user_id": "u1", "item_id": ""}', JSON, 422),
        (b'{"user_id": "u1", "item_id": "i1", "ts": 1}', JSON, 422),
        (b'{"user_id": "u1", "item_id": "i1"}', {"content-type": "text/plain"}, 415),
    ],
)
async def test_a_click_that_is_wrong_or_from_another_site_stores_nothing(
    served: Served, content: bytes, headers: Mapping[str, str], status: int
) -> None:
    answer = await served.client.post("/page/click", content=content, headers=headers)
    assert answer.status_code == status
    assert served.store.appended == []


async def test_user_who_met_everything_gets_an_empty_comparison(served: Served) -> None:
    served.store.users["u1"] = StoredBehaviours(behaviours([f"i{index}" for index in range(1, 31)]))
    answer = await served.ask("/page/compare", {"user_id": "u1"})
    assert answer["candidates"] == []
    assert answer["rankings"] == []


async def test_model_that_fails_is_told_beside_the_one_that_works(served: Served) -> None:
    served.ranker.failing = "mgnm"
    answer = await served.ask("/page/compare", {"user_id": "u1", "count": 5})
    failed, works = answer["rankings"]
    assert failed["error"] == {"code": "inference_failed", "message": "The model failed on this request."}
    assert works["error"] is None
    assert len(works["items"]) == 5


async def test_ranking_without_explanation_is_shown(served: Served) -> None:
    served.ranker.unexplained = True
    ranking = (await served.ask("/page/compare", {"user_id": "u1", "count": 5}))["rankings"][0]
    assert (ranking["state_cached"], ranking["explanation"]) == (None, {})
    assert [item["why"] for item in ranking["items"]] == [{}] * 5


async def test_number_of_models_is_bounded(served: Served) -> None:
    served.bundles = served.bundles * MAX_MODELS
    assert len((await served.ask("/page/compare", {"user_id": "u1", "count": 5}))["rankings"]) == MAX_MODELS


async def test_nothing_served_yet_is_not_ready(served: Served) -> None:
    served.snapshot = None
    status, error = await served.refusal(b'{"user_id": "u1"}')
    assert (status, error["code"]) == (503, "not_ready")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"user_id": ""}', "user_id"),
        (b'{"user_id": 1}', "user_id"),
        (b'{"user_id": "%s"}' % (b"x" * 129), "user_id"),
        ('{"user_id": "%s"}' % ("é" * 65), "user_id"),
        (b'{"user_id": "a\\u0000b"}', "user_id"),
        (b'{"seed": 1}', "user_id"),
        (b'{"user_id": "u", "seed": -1}', "seed"),
        (b'{"user_id": "u", "seed": 2147483648}', "seed"),
        (b'{"user_id": "u", "seed": 1.5}', "seed"),
        (b'{"user_id": "u", "seed": NaN}', "seed"),
        (b'{"user_id": "u", "count": 0}', "count"),
        (b'{"user_id": "u", "count": 501}', "count"),
        (b'{"user_id": "u", "count": true}', "count"),
        (b'{"user_id": "u", "more": 1}', "more"),
        (b'{"user_id": "u", "extra": "i1"}', "extra"),
        (b'{"user_id": "u", "extra": ["a\\u0000b"]}', "extra.0"),
        (b'{"user_id": "u", "extra": [%s]}' % b",".join([b'"i"'] * 21), "extra"),
    ],
)
async def test_question_that_cannot_be_used_names_its_field(served: Served, body: bytes | str, field: str) -> None:
    status, error = await served.refusal(body.encode() if isinstance(body, str) else body)
    assert (status, error["code"], error["field"]) == (422, "invalid_request", field)
    assert served.ranker.asked == []


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"user_id": "\\ud800"}'])
async def test_body_that_is_no_json_is_malformed(served: Served, body: bytes) -> None:
    status, error = await served.refusal(body)
    assert (status, error["code"]) == (400, "invalid_request")


@pytest.mark.parametrize("media", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
async def test_form_of_another_site_cannot_ask(served: Served, media: str) -> None:
    status, _ = await served.refusal(b'{"user_id": "u1"}', {"content-type": media})
    assert status == 415


async def test_question_longer_than_any_is_too_large(served: Served) -> None:
    status, error = await served.refusal(b'{"user_id": "u1"}' + b" " * MAX_BODY_BYTES)
    assert (status, error["code"]) == (413, "too_large")


def _settings(folder: Path, redis_url: str, *, enabled: bool) -> Settings:
    for model in ("mgnm", "pyramid_mixer"):
        TinyModel(model=model).write(folder / "bundles")
    write_current(folder / "experiments.yaml")
    return Settings(
        redis=RedisSettings(url=SecretStr(redis_url)),
        bundles=BundlesSettings(root=folder / "bundles"),
        experiments=ExperimentsSettings(file=folder / "experiments.yaml"),
        page=PageSettings(enabled=enabled),
        http=HttpSettings(docs_enabled=True),
    )


@asynccontextmanager
async def _running(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(settings)
    transport = httpx.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://ranker") as client,
    ):
        yield client


@pytest.mark.redis
@pytest.mark.usefixtures("warm_proofs")
async def test_page_is_off_unless_it_is_switched_on(redis_server: RedisServer, tmp_path: Path) -> None:
    async with _running(_settings(tmp_path, redis_server.url, enabled=False)) as client:
        answers = [await client.get(path) for path in ("/", "/page/app.js", "/page/users")]
    assert [(answer.status_code, answer.json()["error"]["code"]) for answer in answers] == [(404, "not_found")] * 3


@pytest.mark.redis
@pytest.mark.usefixtures("warm_proofs")
async def test_service_shows_both_models_and_counts_no_exposure(redis_server: RedisServer, tmp_path: Path) -> None:
    async with _running(_settings(tmp_path, redis_server.url, enabled=True)) as client:
        page = await client.get("/")
        answer = await client.post("/page/compare", json={"user_id": "u1", "count": 10})
        metrics = (await client.get("/metrics")).text
        openapi = (await client.get("/openapi.json")).json()
    assert page.headers["x-ab-bucket"] == "rank=none;r=not_ranked"
    assert page.headers.get_list("x-content-type-options") == ["nosniff"]
    rankings = answer.json()["rankings"]
    assert [(one["served"], one["degraded"], one["error"]) for one in rankings] == [
        ("mgnm@1", [], None),
        ("pyramid_mixer@1", [], None),
    ]
    assert [sum(one["own"] for one in rankings), len(rankings[0]["items"])] == [1, 10]
    assert rankings[0]["items"] == sorted(rankings[0]["items"], key=lambda item: -item["score"])
    assert set(rankings[0]["items"][0]["why"]) == {"level"}
    assert set(rankings[0]["explanation"]) == {"period_weights"}
    assert not re.search(r"^ranker_(exposures|assignments)_total\{[^}]*\} [1-9]", metrics, re.MULTILINE)
    assert [path for path in openapi["paths"] if path == "/" or path.startswith("/page")] == []
