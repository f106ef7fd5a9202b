"""Days of the loop with real data, training, export and proof; the commands of training run in this process."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract.bundle.tracks import read_track
from deploy.daily import __main__ as daily
from deploy.daily.commands import Processes, StepFailedError
from deploy.daily.loop import BUSY, FAILED, PROMOTED, REFUSED
from deploy.daily.settings import Call, Settings
from deploy.daily.state import Day, Days
from deploy.daily.steps import STEPS, Work
from exporter.__main__ import main as exporter
from service.inference import proof
from tests.support.builders import TinyModel
from tests.support.signing import Signer
from training.__main__ import main as training

POPULARITY = """dataset = "shop"
model = "popularity"
[split]
protocol = "time"
valid_hours = 4
test_hours = 4
[training]
epochs = 0
"""
START_MS = 1_740_960_000_000  # 2025-03-03
DAY_MS = 86_400_000


def write_log(path: Path, days: int) -> None:
    """Write clicks of a shop whose favourites stay the same: 40 items, and 5 new ones every day."""
    rng = np.random.default_rng(3)
    rows = ["user_id,item_id,ts"]
    for day in range(days):
        items = 40 + 5 * day
        chances = 1 / np.arange(1, items + 1)
        for time in np.sort(rng.integers(DAY_MS, size=400)):
            item = rng.choice(items, p=chances / chances.sum())
            rows.append(f"u{rng.integers(50 + 5 * day)},i{item},{START_MS + day * DAY_MS + time}")
    path.write_text("\n".join(rows) + "\n")


class Killed(BaseException):
    """Stands for a kill: no code of the loop catches it."""


class InProcess:
    """Runs training and exporter here, everything else as a process.

    Attributes:
        ran: the commands that ran.
        kills: commands after which the loop is killed, each one time.
        proves_here: prove bundles here too, which spares a process for each.
    """

    def __init__(self, log: Path) -> None:
        self.ran: list[str] = []
        self.kills: set[str] = set()
        self.proves_here = False
        self._processes = Processes(log)

    def __call__(self, *arguments: object, given: str = "") -> str:
        words = [str(argument) for argument in arguments]
        name = words[1] if words[0] == "training" else words[0]
        self.ran.append(name)
        if words[0] == proof.__name__ and self.proves_here:
            printed = proved(given)
        elif words[0] not in ("training", "exporter"):
            printed = self._processes(*words, given=given)
        else:
            out = io.StringIO()
            with redirect_stdout(out), redirect_stderr(out):
                status = (training if words[0] == "training" else exporter)(words[1:])
            printed = out.getvalue()
            if status:
                raise StepFailedError(printed)
        if name in self.kills:
            self.kills.remove(name)
            raise Killed
        return printed


def proved(given: str) -> str:
    """Return the answer that the process of a proof would print."""
    return json.dumps(proof._answer(proof.ProofRequest(**json.loads(given))))


class Feed:
    """A feed's folders, its log so far, and its loop."""

    def __init__(self, folder: Path, recipe: str) -> None:
        self.folder, self.commands = folder, InProcess(folder / "commands.log")
        (folder / "recipe.toml").write_text(recipe)
        places = {name: folder / name for name in ("data", "runs", "bundles", "state")}
        self.settings = Settings(log=folder / "shop.csv", recipe=folder / "recipe.toml", tolerance=0.5, **places)
        self.days = Days(self.settings.state / "daily")

    def arrives(self, days: int) -> None:
        """Write the log up to a day."""
        write_log(self.settings.log, days)

    def call(self, day: int, **call: bool) -> tuple[dict[str, Any], int]:
        """Run the loop for a day of March 2025."""
        with self.days.locked():
            return daily.run_day(self.settings, Call(day=date(2025, 3, day), **call), self.days, self.commands)

    def in_force(self) -> str | None:
        """Return the version in force."""
        track = read_track(self.settings.bundles, "popularity", "daily")
        return None if track is None else track.version


@pytest.fixture
def feed(tmp_path: Path, operators_read_once: None) -> Feed:
    return Feed(tmp_path, POPULARITY)


def test_days_follow_one_another(feed: Feed, refused: Any) -> None:
    """One test of the whole loop, because each promotion exports a bundle; here they are signed."""
    signer = Signer.make(feed.folder / "keys")
    keys = {"sign": feed.folder / "keys" / "key", "signers": signer.public}
    feed.settings = feed.settings.model_copy(update={"keep": 1, **keys})
    feed.commands.proves_here = True
    feed.arrives(3)
    first, status = feed.call(6)
    assert (first["status"], first["version"], status) == ("promoted", "2025-03-06-daily", PROMOTED)
    assert first["figures"]["in_force"] is None
    ran = len(feed.commands.ran)
    _a_second_call_does_nothing(feed, ran)
    _an_unchanged_log_is_refused(feed)
    feed.arrives(4)  # late, on the same day
    second, status = feed.call(7)
    assert (second["status"], status, feed.in_force()) == ("promoted", PROMOTED, "2025-03-07-daily")
    _the_second_goes_on_from_the_first(feed, second)
    assert [path.name for path in (feed.settings.runs / "daily").iterdir()] == ["2025-03-07"]
    where = [f"--{name}={getattr(feed.settings, name)}" for name in ("log", "recipe", "state")]
    assert "2025-03-07 has begun already" in refused(daily.main, *where, "--day", "2025-03-05")


def test_a_bundle_that_no_signer_signed_is_not_promoted(tmp_path: Path) -> None:
    signer = Signer.make(tmp_path / "keys")
    settings = Settings(log=tmp_path, recipe=tmp_path, signers=signer.public)
    record = Day(day=date(2025, 3, 6), recipe="", steps={"export": {"bundle": str(TinyModel().write(tmp_path))}})

    def run(*_arguments: object, given: str = "") -> str:
        return proved(given)

    work = Work(settings, Call(day=record.day), record, None, run)
    with pytest.raises(StepFailedError, match="the service would refuse the bundle: bundle tiny/1: it is not signed"):
        STEPS["verify"](work)
    signer.sign(tmp_path / "tiny" / "1")
    assert STEPS["verify"](work)["digest"]


def _a_second_call_does_nothing(feed: Feed, ran: int) -> None:
    line, status = feed.call(6)
    assert (line["repeated"], line["status"], status) == (True, "promoted", PROMOTED)
    assert len(feed.commands.ran) == ran


def _an_unchanged_log_is_refused(feed: Feed) -> None:
    line, status = feed.call(7)
    assert (line["reason"], status) == ("the log has not changed since 2025-03-06", REFUSED)
    assert feed.in_force() == "2025-03-06-daily"


def _the_second_goes_on_from_the_first(feed: Feed, second: dict[str, Any]) -> None:
    assert second["figures"]["in_force"] is not None
    bundles = [feed.settings.bundles / "popularity" / f"2025-03-0{day}-daily" for day in (6, 7)]
    before, after = (json.loads((bundle / "items.json").read_text())["ids"] for bundle in bundles)
    assert after[: len(before)] == before
    assert len(after) > len(before)
    track = read_track(feed.settings.bundles, "popularity", "daily")
    assert track is not None
    assert track.promotion.reason == second["reason"]
    assert "These figures are of the fit before this one" in (bundles[1] / "model_card.md").read_text()


@pytest.mark.slow
def test_a_day_that_is_killed_after_every_command_is_promoted_without_doing_one_twice(feed: Feed) -> None:
    feed.arrives(3)
    feed.commands.kills = {"prepare", "train", "fit-all", "exporter", "service.inference.proof"}
    while feed.commands.kills:
        with pytest.raises(Killed):
            feed.call(6)
    line, status = feed.call(6)
    assert (line["status"], status, feed.in_force()) == ("promoted", PROMOTED, "2025-03-06-daily")
    record = feed.days.read(date(2025, 3, 6))
    assert record is not None
    assert list(record.steps) == list(STEPS)
    # A preparation and a proof begin again; a training and an export that are complete are found.
    assert feed.commands.ran.count("train") == feed.commands.ran.count("fit-all") == 1
    assert feed.commands.ran.count("exporter") == 1


@pytest.mark.slow
def test_a_candidate_below_popularity_is_refused_until_it_is_forced(feed: Feed) -> None:
    model = 'sasrec"\n[config]\nlength = 4\nwidth = 4\nblocks = 1\ninner = 4'
    learning = "epochs = 1\nlearning_rate = 1e-9"
    recipe = POPULARITY.replace('popularity"', model).replace("epochs = 0", learning)
    feed.settings.recipe.write_text(recipe)
    feed.arrives(3)
    line, status = feed.call(6)
    assert (line["status"], status) == ("refused", REFUSED)
    assert "is below" in line["reason"]
    assert not feed.settings.bundles.exists()
    again, status = feed.call(6)
    assert (again["repeated"], status) == (True, REFUSED)
    forced, status = feed.call(6, force=True)
    assert (forced["status"], status) == ("promoted", PROMOTED)
    assert forced["reason"].startswith("forced: ")


@pytest.mark.slow
def test_a_failure_is_told_and_the_next_call_goes_on(feed: Feed) -> None:
    line, status = feed.call(6)
    assert (line["status"], status) == ("failed", FAILED)
    assert "shop.csv" in line["reason"]
    feed.arrives(3)
    assert feed.call(6)[1] == PROMOTED


def test_the_recipe_of_a_day_is_that_of_its_training(feed: Feed) -> None:
    """Else the day after would begin with fresh weights, because the recipe is another one."""
    feed.settings.recipe.write_text("not a recipe")
    feed.arrives(2)
    assert feed.call(6)[1] == FAILED
    feed.settings.recipe.write_text(POPULARITY)
    feed.commands.kills = {"fit-all"}
    with pytest.raises(Killed):
        feed.call(6)
    record = feed.days.read(date(2025, 3, 6))
    assert record is not None
    assert record.recipe == sha256(POPULARITY.encode()).hexdigest()


@pytest.mark.slow
def test_a_bundle_that_the_service_would_refuse_is_not_promoted(feed: Feed) -> None:
    feed.arrives(3)
    feed.commands.kills = {"exporter"}
    with pytest.raises(Killed):
        feed.call(6)
    score = feed.settings.bundles / "popularity" / "2025-03-06-daily" / "score.onnx"
    score.write_bytes(score.read_bytes()[:-1] + b"x")
    line, status = feed.call(6)
    assert (status, feed.in_force()) == (FAILED, None)
    assert "the service would refuse the bundle" in line["reason"]


def test_two_calls_at_once_are_not_possible(feed: Feed, capfd: pytest.CaptureFixture[str]) -> None:
    where = [f"--{name}={getattr(feed.settings, name)}" for name in ("log", "recipe", "state")]
    with feed.days.locked():
        assert daily.main(where) == BUSY
    said = capfd.readouterr()
    assert "another call is running" in said.err
    assert said.out == ""
