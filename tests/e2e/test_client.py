"""The Python client (client/) against the live service, also while it restarts."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from ranker_client import (
    AsyncRankerClient,
    DeadlinePassed,
    NoAnswer,
    RankerClient,
    Refused,
    Retries,
)

from tests.support.films import film_service, film_service_with_redis
from tests.support.programs import needed
from tests.support.redis_server import RedisServer
from tests.support.service_process import ServiceProcess

pytestmark = [pytest.mark.e2e, pytest.mark.redis, pytest.mark.onnx]

FILMS = ["50", "181", "no-such-film"]
PATIENT = 20.0


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    with film_service_with_redis(tmp_path_factory.mktemp("client")) as service:
        yield service


@pytest.fixture
def ranker(service: ServiceProcess) -> Iterator[RankerClient]:
    with RankerClient(f"{service.url}/v1", budget=PATIENT) as client:
        yield client


def test_every_call_has_a_typed_result(ranker: RankerClient) -> None:
    behaviour = {"user_id": "typed", "item_id": "100", "ts": 1_700_000_000_000}
    assert ranker.append_behaviours([behaviour]).stored == 1
    assert ranker.append_behaviours([behaviour]).repeated == 1
    ranking = ranker.rank("typed", FILMS, request_id="mine", explain=True)
    assert sorted(ranking.item_ids) == sorted(FILMS)
    assert (ranking.request_id, ranking.model, ranking.degraded) == ("mine", "mgnm", ())
    assert [item.known for item in ranking.items] == [True, True, False]
    assert ranking.bucket.startswith("rank=pyramid-vs-mgnm:")
    assert ranking.raw["explanation"]["used"] == 1
    good, bad = ranker.rank_batch(
        [{"user_id": "typed", "candidates": FILMS}, {"user_id": "typed", "candidates": []}], shown=False
    )
    assert good.ranking is not None
    assert good.ranking.item_ids == ranking.item_ids
    assert (good.bucket, good.ranking.config) == (ranking.bucket, ranking.config)
    assert bad.error is not None
    assert (bad.error.status, bad.error.field) == (422, "candidates")
    assert ranker.store_items([{"item_id": "a1", "features": {"genre": "drama"}}]).stored == 1
    assert ranker.send_feedback([{"user_id": "typed", "type": "foreground", "event_id": "e1"}], wait=True).stored == 1
    assert ranker.info().raw["service"] == "ranker"
    assert ranker.is_ready()


def test_an_error_has_a_code_a_field_and_the_requests_id(ranker: RankerClient) -> None:
    with pytest.raises(Refused) as refused:
        ranker.rank("42", [], request_id="mine")
    error = refused.value
    assert (error.status, error.code, error.field, error.request_id) == (422, "invalid_request", "candidates", "mine")


def test_connections_are_kept(ranker: RankerClient, service: ServiceProcess) -> None:
    for _ in range(5):
        ranker.rank("42", FILMS)
    pool = ranker._http._transport._pool  # type: ignore[attr-defined]
    assert len(pool.connections) == 1


def test_a_call_without_time_is_not_sent(ranker: RankerClient) -> None:
    with pytest.raises(DeadlinePassed):
        ranker.rank("42", FILMS, budget=0)


@pytest.mark.anyio
async def test_the_asynchronous_client_ranks_for_many_at_once(service: ServiceProcess) -> None:
    async with AsyncRankerClient(service.url, budget=PATIENT) as ranker:
        rankings = await asyncio.gather(*[ranker.rank(f"u{number}", FILMS) for number in range(20)])
        assert {tuple(sorted(ranking.item_ids)) for ranking in rankings} == {tuple(sorted(FILMS))}
        with pytest.raises(Refused):
            await ranker.rank("42", [])


class Answers(httpx.BaseTransport):
    """Answers in turn, or fails."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.left, self.asked = list(answers), list[httpx.Request]()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self.left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


STORED = {"stored": 1, "repeated": 0, "refused": 0, "refusals": []}
TAKEN = {"accepted": 1, "stored": None, "dropped": 0, "refused": 0, "refusals": []}
BUSY = {"error": {"code": "overloaded", "message": "busy", "request_id": "r"}}
QUICK = Retries(most=2, first_pause=0.001)


def client(*answers: httpx.Response | Exception, budget: float = PATIENT) -> tuple[RankerClient, Answers]:
    transport = Answers(*answers)
    key = "rk_secret"
    return RankerClient("http://ranker", api_key=key, budget=budget, retries=QUICK, transport=transport), transport


def test_a_refusal_for_now_is_repeated_with_the_key_after_the_pause_that_the_service_asks_for() -> None:
    ranker, sent = client(
        httpx.Response(429, json=BUSY, headers={"retry-after": "0"}), httpx.Response(200, json=STORED)
    )
    assert ranker.append_behaviours([{}]).stored == 1
    assert [request.headers["authorization"] for request in sent.asked] == ["Bearer rk_secret"] * 2


def test_a_pause_longer_than_the_budget_is_not_waited_for() -> None:
    ranker, sent = client(httpx.Response(429, json=BUSY, headers={"retry-after": "60"}), budget=5.0)
    with pytest.raises(Refused) as refused:
        ranker.append_behaviours([{}])
    assert (refused.value.retry_after, len(sent.asked)) == (60.0, 1)


def test_a_call_that_took_too_long_is_not_repeated() -> None:
    ranker, sent = client(httpx.ReadTimeout("slow"))
    with pytest.raises(DeadlinePassed):
        ranker.rank("42", FILMS)
    assert len(sent.asked) == 1


def test_attempts_end() -> None:
    ranker, sent = client(*[httpx.ReadError("reset")] * 3)
    with pytest.raises(NoAnswer):
        ranker.append_behaviours([{}])
    assert len(sent.asked) == 3


def test_an_event_that_a_repeat_would_count_twice_is_not_repeated_after_it_may_have_arrived() -> None:
    ranker, sent = client(httpx.ReadError("reset"))
    with pytest.raises(NoAnswer):
        ranker.send_feedback([{"user_id": "42", "type": "foreground"}])
    assert len(sent.asked) == 1
    ranker, sent = client(httpx.ReadError("reset"), httpx.Response(202, json=TAKEN))
    assert ranker.send_feedback([{"user_id": "42", "type": "foreground", "event_id": "e"}]).accepted == 1
    ranker, sent = client(httpx.ConnectError("refused"), httpx.Response(202, json=TAKEN))
    assert ranker.send_feedback([{"user_id": "42", "type": "foreground"}]).accepted == 1


@pytest.mark.parametrize("status", [400, 401, 403, 413, 422, 500, 504])
def test_other_errors_are_not_repeated(status: int) -> None:
    ranker, sent = client(httpx.Response(status, text="<html>a proxy's page</html>"))
    with pytest.raises(Refused) as refused:
        ranker.rank("42", FILMS)
    assert (refused.value.status, refused.value.code, len(sent.asked)) == (status, "unknown", 1)


def test_the_service_learns_what_is_left_of_the_budget() -> None:
    ranker, sent = client(httpx.Response(429, json=BUSY), httpx.Response(504, json=BUSY), budget=1.5)
    with pytest.raises(Refused):
        ranker.rank("42", FILMS)
    first, second = [int(request.headers["x-deadline-ms"]) for request in sent.asked]
    assert 0 < second <= first <= 1_500


@pytest.mark.parametrize("number", [0, 1])
def test_an_example_of_the_page_runs(service: ServiceProcess, number: int, capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "client.md").read_text(encoding="utf-8")
    code = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[number]
    assert code.count("budget=0.2") == 1
    exec(code.replace("http://localhost:8000", service.url).replace("budget=0.2", f"budget={PATIENT}"), {})
    assert "181" in capsys.readouterr().out


ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "client" / "examples"
COMMANDS = {"rank.sh": ["sh"], "rank.py": [sys.executable], "Rank.java": ["java"], "rank.go": ["go", "run"]}
PACKAGES = {"java": "default-jdk-headless", "go": "golang-go"}  # of Debian


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_an_example_ranks(service: ServiceProcess, name: str) -> None:
    program = COMMANDS[name][0]
    if program in PACKAGES:
        needed(program, PACKAGES[program])
    environment = os.environ | {"PYTHONPATH": str(EXAMPLES.parent)}
    command = [*COMMANDS[name], str(EXAMPLES / name), service.url]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert "rank=pyramid-vs-mgnm:" in done.stdout
    assert "no-such-film" in done.stdout


@pytest.mark.slow
def test_a_service_that_restarts_loses_no_call(tmp_path: Path) -> None:
    redis = RedisServer().start()
    process = film_service(tmp_path, redis.url).start()
    successor = process.successor()
    with RankerClient(
        process.url, budget=60.0, retries=Retries(most=10_000, first_pause=0.01, longest_pause=0.05)
    ) as one:
        try:
            assert one.rank("42", FILMS).model == "mgnm"
            process.send(signal.SIGTERM)
            assert process.wait() == 0
            successor._start_warm()
            assert one.rank("42", FILMS).model == "mgnm"  # refused connections until the new one listens
        finally:
            process.close()
            successor.close()
            redis.close()
