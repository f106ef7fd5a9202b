"""The demo's output: the comparison with popularity, and one user's ranking by each model."""

from __future__ import annotations

import csv
import json
import random
import time
from dataclasses import dataclass
from typing import Any, NamedTuple

import httpx
from rich.console import Console
from rich.table import Table

from contract.command_line import CommandError
from contract.files import read_object
from deploy.processes import client
from deploy.releases import Places, Release
from service.experiments.overrides import sign

CANDIDATES = 200
SHOWN = 10
ASKED = 5
TRIES = 5
BUSY = frozenset({429, 503, 504})
LOG = ".demo/service.log"
METRICS = ("ndcg@10", "hr@10", "mrr@20")


@dataclass(frozen=True)
class Showcase:
    """A running stack: its URL, the models of its two arms, and the secret that signs overrides."""

    url: str
    places: Places
    control: str
    treatment: str
    secret: str


class Answer(NamedTuple):
    """One answer of `POST /rank`, and its latency."""

    body: dict[str, Any]
    headers: httpx.Headers
    milliseconds: float


def show_metrics(console: Console, releases: list[Release]) -> None:
    """Print test metrics of all releases, leave-one-out: without the items that the user has seen, and with them."""
    table = Table(title="Test, leave-one-out, one seed each: unseen items, then all items", title_justify="left")
    table.add_column("model", no_wrap=True)
    names = [*(f"unseen.{metric}" for metric in METRICS), *METRICS]
    for name in names:
        view, _, metric = name.rpartition(".")
        table.add_column(f"{view or 'all'} {metric.upper()}", justify="right")
    for one in releases:
        metrics = one.metrics()
        table.add_row(f"{one.model}@{one.version}", *(f"{metrics[name]:.4f}" for name in names))
    console.print(table)


def info(url: str) -> dict[str, Any]:  # Any: JSON
    """Return the `GET /info` of a service."""
    with client(url) as service:
        return dict(_answer(service, "GET", "/info").json())


def show_ranking(console: Console, showcase: Showcase, user: str) -> None:
    """Print the last items a user watched, each model's best of 200 candidates, headers, and a curl line to try."""
    catalogue = read_object(showcase.places.prepared / "catalogue.json")["items"]
    titles = {item: str(facts.get("title", item)) for item, facts in catalogue.items()}
    watched = _watched(showcase.places, user)
    console.rule(f"[bold]A ranking for user {user}", align="left")
    console.print("Watched last: " + "; ".join(titles.get(item, item) for item in watched[-SHOWN:][::-1]))
    candidates = sorted(set(titles) - set(watched))
    candidates = random.Random(0).sample(candidates, min(CANDIDATES, len(candidates)))
    with client(showcase.url) as service:
        answers = [_rank(service, showcase, user, candidates, arm) for arm in ("treatment", "control")]
        own = _ask(service, user, candidates, {})
    _show_best(console, showcase, answers, titles)
    for name in ("x-ab-bucket", "x-ab-config", "x-model", "x-request-id", "server-timing"):
        console.print(f"  {name}: {own.headers.get(name, '')}", soft_wrap=True)
    console.print("\nTry it yourself:")
    body = json.dumps({"user_id": user, "candidates": candidates[:5], "explain": True})
    console.print(
        f"  curl -i {showcase.url}/rank -H 'content-type: application/json' -d '{body}'", soft_wrap=True, markup=False
    )


def _watched(places: Places, user: str) -> list[str]:
    """Return the items of a user's behaviours, oldest first."""
    with (places.prepared / "behaviours.csv").open(encoding="utf-8", newline="") as file:
        own = [(int(row["ts"]), row["item_id"]) for row in csv.DictReader(file) if row["user_id"] == user]
    return [item for _, item in sorted(own, key=lambda behaviour: behaviour[0])]


def _rank(service: httpx.Client, showcase: Showcase, user: str, candidates: list[str], arm: str) -> Answer:
    """Rank under a given arm, by a signed override; return the answer of median time out of a few."""
    value = f"rank=pyramid-vs-mgnm:{arm}"
    headers = {"x-ab-override": sign(showcase.secret, int(time.time()), user, value)}
    answers = [_ask(service, user, candidates, headers) for _ in range(ASKED)]
    return sorted(answers, key=lambda answer: answer.milliseconds)[ASKED // 2]


def _ask(service: httpx.Client, user: str, candidates: list[str], headers: dict[str, str]) -> Answer:
    """Rank once."""
    body = {"user_id": user, "candidates": candidates, "limit": SHOWN}
    started = time.perf_counter()
    response = _answer(service, "POST", "/rank", json=body, headers=headers)
    return Answer(response.json(), response.headers, (time.perf_counter() - started) * 1000)


def _answer(service: httpx.Client, method: str, path: str, **request: Any) -> httpx.Response:  # Any: httpx's keywords
    """Send a request until there is a good answer; repeat it if a busy machine refuses or is too late.

    Raises:
        CommandError: there is none.
    """
    said = ""
    for attempt in range(TRIES):
        time.sleep(attempt / 2)
        try:
            response = service.request(method, path, **request)
        except httpx.TransportError as error:
            said = f"{type(error).__name__}: {error}"
            break
        if response.status_code == 200:
            return response
        said = f"{response.status_code} {response.text[:200]}"
        if response.status_code not in BUSY:
            break
    raise CommandError(f"{method} {path} answered: {said}; see {LOG}")


def _shown_score(score: float | None) -> str:
    return "-" if score is None else f"{score:.3f}"  # none: popularity answered, because no model did in time


def _show_best(console: Console, showcase: Showcase, answers: list[Answer], titles: dict[str, str]) -> None:
    table = Table(title=f"Best {SHOWN} of {CANDIDATES} candidates", title_justify="left")
    table.add_column("#", justify="right")
    for answer in answers:
        table.add_column(f"{answer.body['model']}@{answer.body['version']}, {answer.milliseconds:.1f} ms")
        table.add_column("score", justify="right")
    for place in range(min(len(answer.body["items"]) for answer in answers)):
        row = [str(place + 1)]
        for answer in answers:
            item = answer.body["items"][place]
            row += [titles.get(item["item_id"], item["item_id"]), _shown_score(item["score"])]
        table.add_row(*row)
    console.print(table)
    console.print(f"Milliseconds: median of {ASKED} answers as this client saw them, HTTP included.")
    console.print(f"Headers of the answer to the user's own arm ({showcase.control} is control):")
