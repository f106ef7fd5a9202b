"""The demo's requests to the service, when the service is slow or gone."""

from __future__ import annotations

import pytest

from contract.command_line import CommandError
from deploy.demo import showcase
from tests.support.http_answers import Answers
from tests.support.redis_server import free_port

LATE = (504, b'{"error": {"code": "deadline_exceeded", "message": "The deadline passed."}}')


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(showcase.time, "sleep", lambda _: None)


def test_what_came_too_late_is_asked_again() -> None:
    with Answers([LATE, (429, b""), (200, b'{"bundles": []}')]) as server:
        assert showcase.info(server.url) == {"bundles": []}
        assert server.asked == ["GET /info"] * 3


def test_a_service_that_is_always_late_is_one_line_with_its_own_words() -> None:
    with Answers([LATE]) as server, pytest.raises(CommandError, match=r"504 .*deadline_exceeded.*see \.demo"):
        showcase.info(server.url)


def test_an_answer_that_will_not_change_is_not_asked_for_again() -> None:
    with Answers([(422, b"no")]) as server:
        with pytest.raises(CommandError, match="422 no"):
            showcase.info(server.url)
        assert len(server.asked) == 1


def test_a_service_that_is_gone_is_one_line() -> None:
    with pytest.raises(CommandError, match="GET /info answered: ConnectError"):
        showcase.info(f"http://127.0.0.1:{free_port()}")
