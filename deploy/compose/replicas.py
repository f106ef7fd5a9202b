"""Replicas that stop, start and are killed behind the proxy while callers rank (deploy/compose/check.py)."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

CALLERS: Final = 8
SETTLE_SECONDS: Final = 3.0
START_SECONDS: Final = 120.0
BODY: Final = json.dumps({"user_id": "1", "candidates": [str(item) for item in range(1, 51)]}).encode()


class LostError(Exception):
    """A caller got no answer, or another one than a ranking."""


class Callers:
    """Callers that rank through the proxy, on connections that they keep.

    Args:
        url: of the proxy.
        key: API key.
    """

    def __init__(self, url: str, key: str) -> None:
        self._address = urllib.parse.urlsplit(url)
        self._headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
        self.outcomes: Counter[str] = Counter()
        self._ends = threading.Event()
        self._threads = [threading.Thread(target=self._call, daemon=True) for _ in range(CALLERS)]

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ends.set()
        for thread in self._threads:
            thread.join(30)

    def since(self, before: Counter[str]) -> Counter[str]:
        """Return the outcomes since an earlier moment."""
        return Counter(self.outcomes) - before

    def _call(self) -> None:
        connection = http.client.HTTPConnection(self._address.hostname or "", self._address.port, timeout=10)
        while not self._ends.wait(0.01):
            try:
                connection.request("POST", "/rank", BODY, self._headers)
                answer = connection.getresponse()
                self.outcomes[_outcome(answer.status, answer.read())] += 1
            except (OSError, http.client.HTTPException) as error:
                self.outcomes[type(error).__name__] += 1
                connection.close()
        with suppress(OSError):
            connection.close()


def _outcome(status: int, body: bytes) -> str:
    """Return the status, and of a refusal the code too: without one, the proxy refused and not a replica."""
    code = re.search(rb'"code": ?"(\w+)"', body)
    return "200" if status == 200 else f"{status} {code[1].decode() if code else 'of the proxy'}"


def check_replicas(url: str, key: str, containers: Mapping[str, str]) -> None:
    """A replica is stopped, started again, and the other is killed: the first two lose no request.

    Raises:
        LostError: a request was lost or refused, or the proxy goes on asking a replica that is gone.
    """
    with Callers(url, key) as callers:
        time.sleep(SETTLE_SECONDS)
        before = Counter(callers.outcomes)
        _docker("stop", "--time", "30", containers["rank-1"])
        time.sleep(SETTLE_SECONDS)
        _docker("start", containers["rank-1"])
        _wait_until_healthy(containers["rank-1"])
        time.sleep(SETTLE_SECONDS)
        restarted = callers.since(before)
        if restarted.keys() != {"200"}:
            raise LostError(f"a restart behind the proxy: {dict(restarted)}")
        before = Counter(callers.outcomes)
        _docker("kill", containers["rank-2"])
        time.sleep(SETTLE_SECONDS)
        killed, before = callers.since(before), Counter(callers.outcomes)
        time.sleep(SETTLE_SECONDS)
        if (later := callers.since(before)).keys() != {"200"}:
            raise LostError(f"{SETTLE_SECONDS:g} s after a replica was killed: {dict(later)}")
    lost = killed.total() - killed["200"]
    if lost > CALLERS:
        raise LostError(f"a killed replica: {dict(killed)}, more than were in progress")
    print(f"replicas: 0 of {restarted.total()} requests lost in a restart; {lost} of {killed.total()} in a kill")


def _wait_until_healthy(container: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while _docker("inspect", "-f", "{{.State.Health.Status}}", container) != "healthy":
        if time.monotonic() > deadline:
            raise LostError("a replica that was started again does not get healthy")
        time.sleep(0.5)


def _docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True).stdout.strip()
