"""Ids and secrets are in no log, metric or error of the sink, the guard and the exporter, in good times and in faults.

Canaries go into every place of an event, of the experiments file, of a run directory and of an address, with and
without mistakes. Then every output is searched (test_canaries.py does the same with the service). The search has teeth:
it finds the same canaries in the files, where they belong.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from redis import Redis

from analysis.__main__ import main as analyse
from analysis.tables.schemas import ACTIVITY
from contract.bundle.vocabulary import Vocabulary
from contract.events.streams import ACTIVITY_STREAM, EVENT_FIELD, EXPOSURE_STREAM, RANKING_STREAM
from deploy.experiments import write_current
from exporter.__main__ import main as export
from exporter.check import main as check
from exporter.sign import main as sign
from models.checkpoint import CONFIG
from tests.support.canaries import AUTHOR, DEVICE, ITEM, PASSWORD, PEOPLE, SECRETS, UNITS, USER, VALUE, found, spoilt
from tests.support.guard_process import GuardProcess
from tests.support.redis_server import RedisServer, free_port
from tests.support.sink_process import SinkProcess, activity, exposure, files, ranking
from tests.support.waiting import wait_until
from tests.unit.exporter.fake_runs import write_run

pytestmark = [pytest.mark.e2e, pytest.mark.redis, pytest.mark.onnx, pytest.mark.slow]

ALL = (*PEOPLE, ITEM, VALUE, *SECRETS)
STREAMS = (EXPOSURE_STREAM, ACTIVITY_STREAM, RANKING_STREAM)


def good_events(now_ms: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield an event of every kind, of a user in each arm: the ids are as they are without a pseudonym key."""
    for number, (unit, arm) in enumerate(((USER, "treatment"), (AUTHOR, "control"))):
        arms = [{"layer": "rank", "exp": "pyramid-vs-mgnm", "arm": arm, "forced": 0}]
        yield EXPOSURE_STREAM, json.loads(exposure(number, now_ms)) | {"unit": unit, "arm": arm}
        yield RANKING_STREAM, json.loads(ranking(number, now_ms)) | {
            "unit": unit, "items": [ITEM, "b"], "attributes": {"segment": VALUE}, "arms": arms,
        }  # fmt: skip
        yield ACTIVITY_STREAM, json.loads(activity(number, now_ms)) | {
            "unit": unit, "item": ITEM, "author": AUTHOR, "device": DEVICE, "view": VALUE,
        }  # fmt: skip


def feed_all(redis: Redis, now_ms: int) -> None:
    """Put the good events into their streams, then each with every mistake."""
    good = list(good_events(now_ms))
    pipe = redis.pipeline(transaction=False)
    for stream, event in good:
        for one in (event, *spoilt(event)):
            pipe.xadd(stream, {EVENT_FIELD: json.dumps(one).encode()})
    for stream, event in good:
        whole = json.dumps(event).encode()
        for content in (whole[:-2], whole[:9] + b"\xff" + whole[9:], whole + whole, USER.encode(), b""):
            pipe.xadd(stream, {EVENT_FIELD: content})
        pipe.xadd(stream, {USER: ITEM})
    pipe.execute()


class Sink:
    """A sink that logs in to Redis with a canary, and its outputs."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.redis = folder, RedisServer(port=free_port()).start()
        self.redis.call("ACL", "SETUSER", "sink", "on", f">{PASSWORD}", "~*", "&*", "+@all")
        self.url = f"redis://sink:{PASSWORD}@127.0.0.1:{self.redis.port}/0"
        self.port, self.outputs = free_port(), dict[str, bytes]()
        self.process = SinkProcess(
            folder / "events", self.url, "--metrics-port", str(self.port), "--batch-seconds", "0.2"
        )

    def run(self) -> None:
        """Write every event; lose the password and Redis; stop."""
        with Redis(port=self.redis.port) as redis:
            feed_all(redis, int(time.time() * 1_000) - 3_600_000)
            self.process.start()
            self.process.until(lambda: not any(redis.xlen(stream) for stream in STREAMS))
            self.redis.call("ACL", "SETUSER", "sink", "resetpass", ">another")
            self.redis.call("CLIENT", "KILL", "USER", "sink")
            self.process.until(lambda: "AuthenticationError" in self.process.log_file.read_text())
        self.redis.kill()
        self.process.until(lambda: "ConnectionError" in self.process.log_file.read_text())
        self.outputs["metrics of the sink"] = httpx.get(f"http://127.0.0.1:{self.port}/metrics").content
        self.process.stop()
        self.outputs["log of the sink"] = self.process.log_file.read_bytes()

    def refuse(self) -> None:
        """Run it with addresses that cannot be used, and onto a file."""
        (self.folder / "other").mkdir()
        (self.folder / "other" / "activity").write_text(USER)
        urls = (
            f"redis://sink:{PASSWORD}@127.0.0.1:no/0",
            f"redis://sink:{PASSWORD}@h/0?{VALUE}=1",
            f"{PASSWORD}",
            self.url,
        )
        for number, url in enumerate(urls):
            sink = SinkProcess(self.folder / "other", url, "--once")
            assert sink.run() == 1
            self.outputs[f"refusal {number}"] = sink.log_file.read_bytes()

    def written(self) -> dict[str, bytes]:
        """Return the rows, and the events that were refused."""
        tables = [
            pq.read_table(file)
            for name in ("activity", "exposures", "rankings")
            for file in files(self.process.out, name)
        ]
        rejected = b"".join(file.read_bytes() for file in (self.process.out / "rejected").rglob("*.jsonl"))
        return {"rows": repr([table.to_pylist() for table in tables]).encode(), "rejected": rejected}

    def close(self) -> None:
        self.process.close()
        self.redis.close()


@pytest.fixture(scope="module")
def sink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sink]:
    made = Sink(tmp_path_factory.mktemp("sink"))
    try:
        made.run()
        made.refuse()
        yield made
    finally:
        made.close()


def test_no_canary_gets_out_of_the_sink(sink: Sink) -> None:
    assert b'ranker_sink_rejected_total{kind="type",table="activity"}' in sink.outputs["metrics of the sink"]
    assert found(sink.outputs, ALL) == []
    for name, content in sink.written().items():
        assert {canary for canary in (*PEOPLE, ITEM, VALUE) if found({name: content}, (canary,))} == {
            *PEOPLE, ITEM, VALUE
        }, name  # fmt: skip


def not_utf8(path: Path) -> None:
    """Write a file of activity with a text that is not UTF-8, as damage leaves it behind."""
    text = f"{USER} ".encode() + b"\xff"
    columns = {name: pa.array([None], kind) for name, kind in zip(ACTIVITY.names, ACTIVITY.types, strict=True)}
    lengths = pa.py_buffer(b"\0\0\0\0" + len(text).to_bytes(4, "little"))
    columns["unit"] = pa.StringArray.from_buffers(1, lengths, pa.py_buffer(text))
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns, schema=ACTIVITY), path)


def damage(path: Path) -> None:
    """Write bytes that are not Parquet."""
    path.write_bytes(USER.encode() * 9)


def test_no_canary_gets_out_of_the_guard(sink: Sink, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    experiments, data = tmp_path / "experiments.yaml", sink.process.out
    write_current(experiments)
    plain = experiments.read_text(encoding="utf-8")
    experiments.write_text(plain.replace("units: {}", f"units: {{{USER}: {{rank: 'pyramid-vs-mgnm:control'}}}}"))
    assert found({"experiments": experiments.read_bytes()}, (USER,))
    damaged = data / "activity" / "date=2026-01-01" / "damaged.parquet"
    guard = GuardProcess(tmp_path, experiments, data)
    try:
        wait_until(lambda: bool(guard.logged("guard_read")))
        for spoil in (not_utf8, damage):
            spoil(damaged)
            wait_until(lambda spoil=spoil: len(guard.logged("guard_failed")) > (spoil is damage))  # type: ignore[misc]
        outputs = {"metrics": httpx.get(f"http://127.0.0.1:{guard.port}/metrics").content}
    finally:
        damaged.unlink(missing_ok=True)
        guard.close()
    wrong = [plain.replace("units: {}", units).encode() for units in UNITS]
    for content in (*wrong, f"{USER}: [".encode(), f"{USER}:\n\t{ITEM}".encode(), f"{USER} \xff".encode("latin-1")):
        experiments.write_bytes(content)
        analyse(["guard", "--data", str(data), "--experiments", str(experiments)])
    outputs |= {"log": guard.log_file.read_bytes(), "refusals": capsys.readouterr().err.encode()}
    assert b"ranker_guard_harm{" in outputs["metrics"]
    assert outputs["refusals"].count(b"experiments.yaml: ") >= len(wrong)
    assert found(outputs, ALL) == []


def spoilt_runs(run: Path) -> Iterator[Path]:
    """Write mistakes into each file of a run, one after the other, and repair it again."""
    with_ids = ("items.json", "users.json", "catalogue.json")
    others = ("recipe.json", "metrics.json", "run.json", "reference.json", f"checkpoint/{CONFIG}")
    for name in (*with_ids, *others):
        path = run / name
        whole = path.read_bytes()
        contents = [f'{{"{USER}": '.encode(), f'["{ITEM}"]'.encode(), f"{USER} \xff".encode("latin-1"), b"[" * 99_999]
        if name in with_ids:
            contents += [json.dumps(wrong).encode() for wrong in _with_a_mistake(json.loads(whole))]
        for content in contents:
            path.write_bytes(content)
            yield path
        path.write_bytes(whole)


def _with_a_mistake(good: dict[str, Any]) -> Iterator[Any]:
    """Yield a document whose fields are each replaced by canaries."""
    for name in good:
        yield from (good | {name: wrong} for wrong in (USER, [USER, USER], {USER: ITEM}, [USER, ITEM, 5], [""], None))
    yield {USER: ITEM}


def test_no_canary_gets_out_of_the_exporter(
    tmp_path: Path, operators_read_once: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, out = write_run(tmp_path / "run", "bpr"), tmp_path / "bundles"
    items, users = (json.loads((run / name).read_bytes())["ids"] for name in ("items.json", "users.json"))
    Vocabulary([ITEM, *items[1:]]).write(run / "items.json")
    Vocabulary([USER, *users[1:]]).write(run / "users.json")
    titles = {ITEM: {"title": VALUE, "author": AUTHOR}}
    (run / "catalogue.json").write_text(json.dumps({"items": titles}))
    (run / "mlflow.json").write_text(json.dumps({"run_id": "1"}))
    key, tracker = tmp_path / "key", f"http://ranker:{PASSWORD}@127.0.0.1:{free_port()}"
    key.write_text(PASSWORD)
    key.chmod(0o600)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    capsys.readouterr()
    assert export([str(run), "--out", str(out), "--mlflow", tracker]) == 0
    said = capsys.readouterr()
    assert "MLflow: the card was not added" in said.err
    assert "://***@127.0.0.1" in said.err
    bundle = out / "bpr" / "1"
    outputs = {
        "export": f"{said.out}{said.err}".encode(),
        **{name: (bundle / name).read_bytes() for name in ("manifest.json", "model_card.md", "reference.json")},
    }
    assert export([str(run), "--out", str(out), "--sign", str(key)]) == 1
    assert export([str(run), "--out", str(out), "--version", "1"]) == 1
    for _ in spoilt_runs(run):
        export([str(run), "--out", str(tmp_path / "spoilt"), "--version", "never/written"])
    (bundle / "items.json").write_text(USER)
    assert sign(["bundle", str(key), str(bundle)]) == 1
    recipe = tmp_path / "recipe.toml"
    for text in (f"{PASSWORD} = [", f'model = "{PASSWORD}', f"{PASSWORD}"):
        recipe.write_text(text)
        assert check([str(recipe)]) == 1
    said = capsys.readouterr()
    outputs["refusals"] = f"{said.out}{said.err}".encode()
    assert outputs["refusals"].count(b"exporter: ") > 50
    assert found(outputs, ALL) == []
    assert found({"bundle": (bundle / "catalogue.json").read_bytes()}, (ITEM, VALUE, AUTHOR))
