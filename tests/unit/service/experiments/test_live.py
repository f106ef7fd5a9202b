from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from structlog.testing import capture_logs

from contract.experiments.decision import Decision
from contract.experiments.file import parse_file
from contract.experiments.parse import parse_experiments
from contract.experiments.problems import ExperimentsError
from service.experiments.live import Experiments, Models
from tests.support.experiment_files import NOW_MS, servable

pytestmark = pytest.mark.anyio

VERSIONS = {"mgnm": ["6", "7"], "pyramid_mixer": ["12", "13"]}
IOS = {"platform": "ios"}
DIGEST = parse_experiments(servable())[1]


class Observer:
    def __init__(self) -> None:
        self.results: list[str] = []
        self.in_force: tuple[str, str] | None = None
        self.state: dict[str, object] = {}
        self.decisions: list[Decision] = []
        self.tracks: list[str] = []

    def experiments_reloaded(self, result: str) -> None:
        self.results.append(result)

    def track_moved(self, result: str) -> None:
        self.tracks.append(result)

    def experiments_in_force(self, digest: str, revision: str) -> None:
        self.in_force = digest, revision

    def experiments_state(self, **state: object) -> None:
        self.state = state

    def assigned(self, decision: Decision) -> None:
        self.decisions.append(decision)


class Rig:
    """Experiments on a file that the test writes."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.path = folder / "experiments.yaml"
        self.versions = {model: list(versions) for model, versions in VERSIONS.items()}
        self.observer = Observer()
        self.experiments = Experiments(
            self.path,
            versions=lambda model: self.versions.get(model, []),
            observer=self.observer,
            now_ms=lambda: NOW_MS,
            **options,
        )

    async def write(self, document: object) -> str:
        self.path.write_text(document if isinstance(document, str) else yaml.safe_dump(document), encoding="utf-8")
        return await self.experiments.reload()

    @property
    def digest(self) -> str | None:
        return self.experiments.snapshot.digest if self.experiments.snapshot is not None else None


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


async def test_file_is_loaded_and_its_digest_told(rig: Rig) -> None:
    assert await rig.write(yaml.safe_dump(servable())) == "accepted"
    assert rig.observer.in_force == (DIGEST, "2026-03-01.3")
    assert rig.experiments.models == {("mgnm", "7"), ("pyramid_mixer", "12")}
    decision = rig.experiments.decide("12", IOS, NOW_MS)
    assert decision.variant == "pyramid-vs-mgnm:treatment"
    assert rig.observer.decisions == [decision]
    assert rig.experiments.undecided().header() == "rank=none;r=not_ranked, blend=none;r=not_ranked"


async def test_before_any_file_nothing_is_decided_and_nothing_counted(rig: Rig) -> None:
    assert await rig.experiments.reload() == "unreadable"
    assert rig.experiments.snapshot is None
    assert rig.experiments.models == frozenset()
    assert rig.experiments.decide("12", IOS, NOW_MS).header() == "none;r=error"
    assert rig.experiments.undecided("error").header() == "none;r=error"
    assert (rig.observer.decisions, rig.observer.in_force) == ([], None)


async def test_file_that_has_not_changed_is_not_read_again(rig: Rig) -> None:
    await rig.write(servable())
    before = rig.experiments.snapshot
    assert await rig.experiments.reload() == "unchanged"
    assert rig.experiments.snapshot is before


async def test_comment_alone_is_accepted_with_the_same_digest(rig: Rig) -> None:
    text = yaml.safe_dump(servable())
    await rig.write(text)
    assert await rig.write(text + "# a remark\n") == "accepted"
    assert rig.digest == DIGEST


@pytest.mark.parametrize(
    ("content", "result"),
    [
        ("schema: 1", "invalid"),
        ("[", "invalid"),
        ("", "invalid"),
        ("x" * 1_048_577, "invalid"),
        (servable(layers__0__experiments__0__salt="pyramid-vs-mgn"), "refused"),
        (servable(layers__1__defaults={"model2": "a"}, layers__0__salt="x"), "refused"),
        (servable(layers__0__experiments__1__slots=[[2000, 2500]]), "refused"),
    ],
    ids=["incomplete", "no YAML", "empty", "too large", "salt edited", "layer salt edited", "slots removed"],
)
async def test_last_good_file_stays_whatever_comes_after_it(rig: Rig, content: object, result: str) -> None:
    await rig.write(servable())
    assert await rig.write(content) == result
    assert rig.digest == DIGEST
    assert rig.experiments.decide("12", IOS, NOW_MS).variant == "pyramid-vs-mgnm:treatment"
    rig.path.unlink()
    assert await rig.experiments.reload() == "unreadable"
    assert rig.digest == DIGEST
    assert await rig.write(servable(revision="next")) == "accepted"
    assert rig.observer.results == ["accepted", result, "unreadable", "accepted"]


async def test_request_keeps_the_snapshot_that_it_took(rig: Rig) -> None:
    await rig.write(servable())
    taken = rig.experiments.snapshot
    assert taken is not None
    await rig.write(servable(enabled=False))
    assert taken.decide("12", IOS, NOW_MS).layers[0].reason == "split"
    assert rig.experiments.decide("12", IOS, NOW_MS).layers[0].reason == "disabled"


async def test_model_or_version_that_does_not_exist_refuses_the_file(rig: Rig) -> None:
    document = servable()
    document["layers"][0]["experiments"][0]["arms"][1]["params"] = {"model": "sasrec", "version": "1"}
    with capture_logs() as logs:
        assert await rig.write(document) == "not_servable"
    assert logs[-1]["problems"] == ("no such model: sasrec@1",)
    rig.versions["sasrec"] = ["1"]
    assert await rig.experiments.reload() == "accepted"


async def test_stopped_experiment_may_name_a_model_that_is_gone(rig: Rig) -> None:
    del rig.versions["pyramid_mixer"]
    assert await rig.write(servable(layers__0__experiments__0__status="stopped")) == "accepted"
    assert rig.experiments.models == {("mgnm", "7")}


async def test_latest_is_the_newest_version_when_the_file_is_accepted(rig: Rig) -> None:
    await rig.write(servable(layers__0__defaults__version="latest"))
    assert rig.experiments.decide("1", IOS, NOW_MS).parameters["version"] == "7"
    assert rig.experiments.models == {("mgnm", "7"), ("pyramid_mixer", "12")}


async def test_latest_does_not_drift_while_an_experiment_runs(rig: Rig) -> None:
    await rig.write(servable(layers__0__defaults__version="latest"))
    rig.versions["mgnm"].append("8")
    await rig.write(servable(layers__0__defaults__version="latest", revision="next"))
    assert rig.experiments.decide("1", IOS, NOW_MS).parameters["version"] == "7"


async def test_latest_moves_on_when_nothing_runs(rig: Rig) -> None:
    idle = {"layers__0__experiments": [], "overrides__units": {}, "layers__0__defaults__version": "latest"}
    await rig.write(servable(**idle))
    rig.versions["mgnm"].append("8")
    await rig.write(servable(**idle, revision="next"))
    assert rig.experiments.decide("1", IOS, NOW_MS).parameters["version"] == "8"


async def test_latest_of_an_unknown_model_refuses_the_file(rig: Rig) -> None:
    assert await rig.write(servable(layers__0__defaults={"model": "x", "version": "latest"})) == "not_servable"


async def test_models_are_made_ready_before_the_swap_and_a_failure_keeps_the_old_file(tmp_path: Path) -> None:
    asked: list[Models] = []

    async def prepare(models: Models) -> None:
        asked.append(models)
        if ("pyramid_mixer", "13") in models:
            raise ExperimentsError(["pyramid_mixer@13: golden scores differ"])

    rig = Rig(tmp_path, prepare=prepare)
    assert await rig.write(servable()) == "accepted"
    document = servable()
    new = {**servable()["layers"][0]["experiments"][1], "key": "new", "salt": "new", "slots": [[5000, 6000]]}
    new["arms"] = [
        {"key": "control", "buckets": [[0, 5000]]},
        {"key": "next", "buckets": [[5000, 10000]], "params": {"model": "pyramid_mixer", "version": "13"}},
    ]
    document["layers"][0]["experiments"].append(new)
    with capture_logs() as logs:
        assert await rig.write(document) == "not_servable"
    assert logs[-1]["problems"] == ("pyramid_mixer@13: golden scores differ",)
    assert rig.digest == DIGEST
    assert asked[0] == {("mgnm", "7"), ("pyramid_mixer", "12")}
    assert ("pyramid_mixer", "13") in asked[1]


async def test_every_change_leaves_one_audit_line_with_its_differences(rig: Rig) -> None:
    with capture_logs() as logs:
        await rig.write(servable())
        await rig.experiments.reload()
        await rig.write(servable(layers__0__experiments__0__slots=[[0, 2000], [3000, 4000]]))
        for _ in range(3):
            await rig.write(servable(layers__0__experiments__0__salt="other"))
        await rig.write("[")
    assert [line["event"] for line in logs] == ["experiments_accepted"] * 2 + ["experiments_rejected"] * 2
    grown = logs[1]
    assert (grown["old_digest"], grown["new_digest"], grown["change_count"]) == (DIGEST, rig.digest, 1)
    assert "pyramid-vs-mgnm.slots" in grown["changes"][0]
    assert logs[2]["result"] == "refused"
    assert "salt cannot change" in " ".join(logs[2]["problems"])
    assert rig.observer.results[-4:] == ["refused"] * 3 + ["invalid"]


async def test_watching_takes_a_new_file_when_it_is_poked_or_when_the_time_has_come(rig: Rig) -> None:
    await rig.write(servable())
    for interval, poke in ((3600.0, True), (0.005, False)):
        watching = asyncio.create_task(rig.experiments.watch(interval))
        rig.path.write_text(yaml.safe_dump(servable(revision=f"after {interval}")), encoding="utf-8")
        if poke:
            rig.experiments.poke()
        while rig.observer.in_force != (rig.digest, f"after {interval}"):  # noqa: ASYNC110 - another task's
            await asyncio.sleep(0.001)
        watching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watching


async def test_a_mended_file_does_not_wait_for_the_loading_of_the_one_before(tmp_path: Path) -> None:
    """As with a bundle that never ends: its loading continues until its time limit, unless it is given up."""
    begun, given_up = asyncio.Event(), asyncio.Event()

    async def prepare(models: Models) -> None:
        if ("pyramid_mixer", "13") not in models:
            return
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            given_up.set()

    rig = Rig(tmp_path, prepare=prepare)
    await rig.write(servable())
    document = servable(revision="endless")
    new = {**servable()["layers"][0]["experiments"][1], "key": "new", "salt": "new", "slots": [[5000, 6000]]}
    new["arms"] = [
        {"key": "control", "buckets": [[0, 5000]]},
        {"key": "next", "buckets": [[5000, 10000]], "params": {"model": "pyramid_mixer", "version": "13"}},
    ]
    document["layers"][0]["experiments"].append(new)
    watching = asyncio.create_task(rig.experiments.watch(0.005))
    rig.path.write_text(yaml.safe_dump(document), encoding="utf-8")
    await begun.wait()
    await asyncio.sleep(0.05)
    assert not given_up.is_set()  # the file is still the same
    rig.path.write_text(yaml.safe_dump(servable(revision="mended")), encoding="utf-8")
    while rig.observer.in_force[1] != "mended":  # noqa: ASYNC110 - another task's
        await asyncio.sleep(0.001)
    assert given_up.is_set()
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching


async def test_a_folder_of_bundles_that_hangs_stops_neither_the_loop_nor_the_next_look(tmp_path: Path) -> None:
    goes_on = threading.Event()
    goes_on.set()

    def versions(model: str) -> list[str]:
        goes_on.wait()
        return VERSIONS.get(model, [])

    rig = Rig(tmp_path, read_seconds=10)
    rig.experiments._models.versions = versions
    assert await rig.write(servable()) == "accepted"
    goes_on.clear()
    rig.experiments._models._look_seconds = 0.2
    looking = asyncio.ensure_future(rig.write(servable(revision="next")))
    for _ in range(20):  # the loop turns, and answers rankings, all the while
        await asyncio.sleep(0)
        assert rig.experiments.decide("12", IOS, NOW_MS).variant == "pyramid-vs-mgnm:treatment"
    assert await looking == "not_servable"
    assert rig.experiments.problems == ("the folder of bundles does not answer",)
    assert rig.digest == DIGEST
    goes_on.set()
    rig.experiments._models._look_seconds = 10
    assert await rig.experiments.reload() == "accepted"


async def test_without_a_file_everybody_is_served_the_default_model(tmp_path: Path) -> None:
    experiments = Experiments(
        None, versions=lambda model: VERSIONS.get(model, []), observer=Observer(), default_model="mgnm"
    )
    assert await experiments.reload() == "accepted"
    decision = experiments.decide("12", {}, NOW_MS)
    assert decision.parameters == {"model": "mgnm", "version": "7"}
    assert decision.header() == "rank=none;r=unallocated"
    assert await experiments.reload() == "unchanged"


def test_yaml_and_json_give_the_same_document() -> None:
    document = json.loads(json.dumps(servable(), default=lambda time: time.strftime("%Y-%m-%dT%H:%M:%SZ")))
    assert parse_file(json.dumps(document).encode()) == document
    assert parse_file(yaml.safe_dump(document).encode()) == document


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\xff\xfe", "neither YAML nor JSON in UTF-8 (UnicodeDecodeError)"),
        (b"a: 1\na: 2", "line 2: a key is given twice"),
        (b"b:\n  - c: 1\n    c: 2", "line 3: a key is given twice"),
        (b'{"a": 1,\n"a": 2}', "line 2: a key is given twice"),
        (b'{"a": 1, "a": 2, "%b": 3}' % (b"b" * 1_100), "a key is given twice"),  # too long a key for YAML
        (b"a: &x [1]\nb: *x", "line 2: aliases are not allowed"),
        (b"[" * 1_000_000, "line 1: nested deeper than 16"),
        (b'{"a":' * 200_000, "neither YAML nor JSON in UTF-8 (RecursionError)"),
        (b"a: !!python/object/apply:os.system [id]", "line 1: could not determine a constructor for the tag"),
        (b"a: [", "line 2: did not find expected node content"),
        (b"{a: 1}", "line 1: Expecting property name enclosed in double quotes"),
        (b"a: 1\n---\nb: 2", "line 2: but found another document"),
        (b"a: \x00", "neither YAML nor JSON in UTF-8 (ReaderError)"),
        (b'{"a": ' + b"9" * 5000 + b"}", "neither YAML nor JSON in UTF-8 (ValueError)"),
        (b"a: " + b"9" * 5000, "neither YAML nor JSON in UTF-8 (ValueError)"),
        (b"a: 2026-13-45", "neither YAML nor JSON in UTF-8 (ValueError)"),
        (b" " * 1_048_577, "larger than 1048576 bytes"),
    ],
)
def test_file_that_is_broken_or_hostile_is_refused_at_little_cost(content: bytes, problem: str) -> None:
    with pytest.raises(ExperimentsError) as caught:
        parse_file(content)
    assert caught.value.problems[0].startswith(problem)
