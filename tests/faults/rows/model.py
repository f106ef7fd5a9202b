"""Faults of bundles and of inference: damaged files, swaps under load, poisoned requests."""

from __future__ import annotations

import io
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import onnxruntime
import yaml

from contract.bundle import manifest as names
from contract.bundle.signature import SIGNATURE
from exporter.signing import make_key, sign_bundle
from service.bundles.bundle import BundleError, load_bundle
from service.inference.engine import EngineError
from service.inference.proof import ProofRequest, prove
from tests.faults.invariants import ALLOWED, Expected
from tests.faults.rig import DEADLINE_MS, Rig, Service
from tests.faults.row import absent, proven, row
from tests.faults.snapshot import Snapshot, snapshot
from tests.faults.traffic import DEGRADED, FULL, Record, good_share, p99_ms
from tests.faults.world import MODELS, CanaryModel, World, model

_RELOAD: Final = {"EXPERIMENTS__RELOAD_MS": "100"}
_MAX_BYTES: Final = 2**30
_CLOSE: Final = 1e-6
_SEALS: Final = (names.MANIFEST, SIGNATURE)


# --- poisoned requests


@row("M15 M16", "requests on which the model fails, in batches with others", "model", quick=True, seeds=3)
def poisoned(rig: Rig) -> None:
    """A history with one item makes `encode` fail: for the whole batch, unless the batch is taken apart."""
    redis = rig.redis()
    poison, guilty = _poison(rig.world)
    service = rig.service(
        redis, parts={"poison_item": poison}, LIMITS__MAX_INFLIGHT="256", INFERENCE__STATE_CACHE_ENTRIES="0"
    )
    alone = _alone(rig, service, guilty)
    expected = Expected(ALLOWED | {"500"}, raises=(("ranker_engine_failures_total", {}),))
    before = snapshot(service)
    with rig.traffic(service, rate=rig.pick(400, 600), expected=expected, keeps_scores=True) as traffic:
        traffic.mark("poison", rig.pick(8, 60))
    after = snapshot(service)
    innocent = [one for one in traffic.records if one.user not in guilty]
    bad = [one for one in traffic.records if one.user in guilty]
    harmed = [one for one in innocent if one.outcome == "500" or "popularity" in one.seen.reasons]
    apart = [one for one in innocent if one.outcome == FULL and _differ(one, alone, len(rig.world.asked))]
    rig.require(bad and not any(one.outcome == FULL for one in bad), "a poisoned request got scores")
    rig.require(not harmed and not apart, f"innocent requests: {len(harmed)} harmed, {len(apart)} with other scores")
    rig.figure("B14", f"innocent requests harmed, of {len(innocent):,}", len(harmed) + len(apart), most=0)
    rig.note(f"{len(bad):,} poisoned requests; mean batch: {_mean_batch(before, after):.2f} requests")


def _poison(world: World) -> tuple[int, set[str]]:
    """Return an item that about one user in ten has in what the model reads, and those users; the golden rows have 1 to 3."""
    read = {one: past[-CanaryModel().length :] for one, past in world.histories.items()}
    users = {index: {one for one, past in read.items() if index in past} for index in range(4, CanaryModel().items)}
    best = min(users, key=lambda index: abs(len(users[index]) - len(read) // 10))
    return best, users[best]


def _alone(rig: Rig, service: Service, guilty: set[str]) -> dict[int, dict[str, float]]:
    """Return the scores of every innocent request, asked one at a time."""
    found: dict[int, dict[str, float]] = {}
    for asked in rig.world.asked:
        while asked.user not in guilty and asked.number not in found:
            answer = service._client.post("/rank", content=asked.body, headers={"content-type": "application/json"})
            said = answer.json()
            if answer.status_code == 200 and not said["degraded"]:
                found[asked.number] = {one["item_id"]: one["score"] for one in said["items"]}
    return found


def _differ(one: Record, alone: dict[int, dict[str, float]], count: int) -> bool:
    expected = alone[one.number % count]
    return any(abs(score - expected[key]) > _CLOSE for key, score in one.seen.scores.items())


def _mean_batch(before: Snapshot, after: Snapshot) -> float:
    sums = [
        sum(after.value(name, bundle=f"{one}@1") - before.value(name, bundle=f"{one}@1") for one in MODELS)
        for name in ("ranker_batch_rows_sum", "ranker_batch_rows_count")
    ]
    return sums[0] / max(1, sums[1])


# --- swaps


def write_version(path: Path, version: str) -> None:
    """Write an experiment file that serves one version of the default model to all users."""
    layer = {"key": "rank", "salt": "rank", "defaults": {"model": MODELS[0], "version": version}}
    path.write_text(yaml.safe_dump({"schema": 1, "revision": f"r{version}", "layers": [layer]}))


def serve_version(service: Service, version: str) -> None:
    """Put such a file in place of the one that is there."""
    new = service.folder / "new.yaml"
    write_version(new, version)
    new.replace(service.experiments)


@row("M10 M11", "bundle swaps under load", "model", seeds=1)
def swapped(rig: Rig) -> None:
    redis = rig.redis()
    made = rig.prepared(redis, **_RELOAD)
    serve_version(made, "1")
    service = rig.cold(made)
    swaps = int(rig.pick(6, 100))
    staged = rig.empty("staged")  # before the traffic: this process is the caller too
    for number in range(2, 2 + swaps):
        model(MODELS[0], str(number)).write(staged)
        write_version(staged / f"{number}.yaml", str(number))
    began = snapshot(service).resident_bytes
    with rig.traffic(service, rate=80) as traffic:
        runs_first = rig.as_on_other_machines(traffic)
        traffic.mark("quiet", rig.pick(3, 10))
        traffic.mark("swaps")
        for number in range(2, 2 + swaps):
            (staged / MODELS[0] / str(number)).rename(service.bundles / MODELS[0] / str(number))
            rig.put_experiments([service], staged / f"{number}.yaml")
            shutil.rmtree(service.bundles / MODELS[0] / str(number - 1))
        traffic.mark("quiet", rig.pick(1, 10))
    versions = {one.seen.version for one in traffic.records if one.outcome == FULL}
    rig.require(len(versions) > swaps / 2, f"only {len(versions)} versions answered")
    rig.require(f"{MODELS[0]}@{1 + swaps}" in versions, "the last version did not answer")
    rig.figure(
        "B12", f"answers that mix versions, {swaps} swaps", sum(bool(o.seen.problem) for o in traffic.records), most=0
    )
    rig.figure(
        "B12",
        "p99 during swaps, of the quiet p99" + ("" if runs_first else ", which other processes delay"),
        p99_ms(traffic.phase("swaps")) / p99_ms(traffic.phase("quiet")),
        "x",
        most=2.0,
    )
    rig.figure("B12", "more memory", (snapshot(service).resident_bytes - began) / 2**20, "MiB", most=16.0)


@row("M2 M6 M9 M12 M13", "bad bundles published under load", "model", quick=True)
def published(rig: Rig) -> None:
    redis = rig.redis()
    made = rig.prepared(redis, BUNDLES__LOAD_TIMEOUT_MS="5000", **_RELOAD)
    serve_version(made, "1")
    service = rig.cold(made)
    kinds = list(_bad_bundles(service.bundles))
    refused = (("ranker_bundle_load_total", {"result": "failed"}),)
    with rig.traffic(service, rate=80, expected=Expected(raises=refused)) as traffic:
        traffic.mark("quiet", 2)
        traffic.mark("bad")
        for number, make in enumerate(kinds, start=2):
            make(str(number))
            serve_version(service, str(number))
            rig.until(lambda number=number: f"mgnm@{number}" in service.log(), f"version {number} tried", 20)
        traffic.mark("bad", 0.5)
    served = {one.seen.version for one in traffic.records if one.outcome in (FULL, DEGRADED)}
    rig.require(served == {"mgnm@1"}, f"served: {served}")
    rig.figure("B13", f"kinds of bad bundles served, of {len(kinds)}", len(served) - 1, most=0)
    rig.figure(
        "B13", "full answers in time meanwhile", 100 * good_share(traffic.phase("bad"), DEADLINE_MS), "%", least=99.9
    )


def _bad_bundles(bundles: Path) -> Iterator[Callable[[str], object]]:
    """Return functions that each write one bad version."""
    bad = [
        model(MODELS[0], spoilt=frozenset({"golden"})), model(MODELS[0], nan_weight=3), model(MODELS[0], nan_item=1),
        model(MODELS[0], trips=2**40), model(MODELS[0], poison_candidate=1),
    ]  # fmt: skip

    def whole(one: CanaryModel, version: str) -> Path:
        return replace(one, version=version).write(bundles)

    for one in bad:
        yield partial(whole, one)
    good = model(MODELS[0])

    def cut(version: str) -> None:
        file = whole(good, version) / names.SCORE
        file.write_bytes(file.read_bytes()[:-100])

    def missing(version: str) -> None:
        (whole(good, version) / names.ENCODE).unlink()

    def unreadable(version: str) -> None:
        folder = whole(good, version)
        (folder / names.ENCODE).unlink()
        (folder / names.ENCODE).symlink_to("/proc/self/mem")

    def swapped_graphs(version: str) -> None:
        folder = whole(good, version)
        one, other = (folder / name for name in (names.ENCODE, names.SCORE))
        content = one.read_bytes()
        one.write_bytes(other.read_bytes())
        other.write_bytes(content)
        replace(good, version=version).seal(folder)

    def half_manifest(version: str) -> None:
        file = whole(good, version) / names.MANIFEST
        file.write_bytes(file.read_bytes()[:200])

    def newer_contract(version: str) -> None:
        file = whole(good, version) / names.MANIFEST
        file.write_text(file.read_text().replace('"contract_version": 1', '"contract_version": 99'))

    yield from (cut, missing, unreadable, swapped_graphs, half_manifest, newer_contract)


# --- damaged files


@row("M3 M4", "files cut at any byte, any bit flipped, graphs edited", "model", quick=True)
def damaged(rig: Rig) -> None:
    """The files are checked by the code that the service runs before it serves a bundle."""
    draw = random.Random(rig.seed)
    folder = model(MODELS[0]).write(rig.folder / "sound")
    sign_bundle(folder, make_key(rig.folder / "key"))
    signers = rig.folder / "key.pub"
    files = [path for path in sorted(folder.iterdir()) if path.name not in (names.MANIFEST, SIGNATURE)]
    count = int(rig.pick(150, 1_000))
    served = {"cuts": 0, "flips": 0, "edits": 0}
    by_runtime = unsigned = 0
    for _ in range(count):
        path = draw.choice(files)
        content = path.read_bytes()
        served["cuts"] += _loads(folder, path, content[: draw.randrange(len(content))])
        served["flips"] += _loads(folder, path, _flipped(content, draw))
        by_runtime += _runtime_loads(_flipped((folder / names.SCORE).read_bytes(), draw))
        signed, proven_only = _edited(folder, signers, draw)
        served["edits"] += signed
        unsigned += proven_only
    rig.require(not any(served.values()), f"damaged bundles that would be served: {served}")
    rig.figure("B13", f"damaged bundles served, of {3 * count:,} cuts, flips and edits", sum(served.values()), most=0)
    rig.figure(
        "B13", "graphs with a flipped bit that load", 100 * served["flips"] / count, "%", most=0.0,
        plain=100 * by_runtime / count,
    )  # fmt: skip
    rig.note("the plain build's figure is ONNX Runtime's own check of a graph with one flipped bit")
    rig.note(
        f"edits: graphs with 1 to 4 other bytes and a manifest that fits them; without signers, {unsigned} of {count} "
        "pass the operator checks and the golden scores"
    )


def _flipped(content: bytes, draw: random.Random) -> bytes:
    altered = bytearray(content)
    altered[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    return bytes(altered)


def _loads(folder: Path, path: Path, content: bytes) -> bool:
    """Return whether a bundle loads with other content in one of its files."""
    sound = path.read_bytes()
    try:
        path.write_bytes(content)
        load_bundle(folder, max_bytes=_MAX_BYTES)
    except BundleError:
        return False
    finally:
        path.write_bytes(sound)
    return True


def _runtime_loads(content: bytes) -> bool:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    with suppress(Exception):
        onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"], enable_fallback=0)
        return True
    return False


def _edited(folder: Path, signers: Path, draw: random.Random) -> tuple[bool, bool]:
    """Return whether a bundle with an edited graph and a manifest that fits it is served: with signers, and without."""
    path = folder / draw.choice((names.ENCODE, names.SCORE))
    sound, listed = path.read_bytes(), (folder / names.MANIFEST).read_bytes()
    content = bytearray(sound)
    for place in draw.sample(range(len(content)), draw.randint(1, 4)):
        content[place] ^= draw.randint(1, 255)
    try:
        path.write_bytes(bytes(content))
        files = {one.name: names.digest_of(one.read_bytes()) for one in folder.iterdir() if one.name not in _SEALS}
        names.write_manifest(folder, model(MODELS[0]).manifest(files))
        return _passes(lambda: load_bundle(folder, max_bytes=_MAX_BYTES, signers=signers)), _passes(
            lambda: prove(_proof(folder))
        )
    finally:
        path.write_bytes(sound)
        (folder / names.MANIFEST).write_bytes(listed)


def _passes(check: Callable[[], object]) -> bool:
    try:
        with redirect_stdout(io.StringIO()):  # ONNX Runtime prints what it cannot load
            check()
    except (BundleError, EngineError):
        return False
    return True


def _proof(folder: Path) -> ProofRequest:
    return ProofRequest(
        directory=str(folder), max_bundle_bytes=_MAX_BYTES, provider="cpu", threads=1, max_candidates=50, max_rows=2,
        max_batch_candidates=60, budget_seconds=5.0, memory_bytes=2**32, limit_seconds=30.0,
    )  # fmt: skip


proven("M1", "the default bundle is missing or altered at start", "model",
       "e2e/test_faults.py::test_an_altered_default_bundle_refuses_to_start",
       "e2e/test_faults.py::test_an_altered_treatment_is_served_by_the_default_and_says_so")  # fmt: skip
proven("M5", "a valid file of another model; zeroed weights", "model",
       "integration/test_engine.py::test_weights_that_were_zeroed_are_refused",
       "integration/test_engine.py::test_golden_scores_that_differ_are_refused",
       "integration/test_engine.py::test_graphs_in_the_wrong_place_are_refused")  # fmt: skip
proven("M8", "files rewritten in place while they are served", "model",
       "integration/test_engine.py::test_files_rewritten_after_loading_change_nothing")  # fmt: skip
proven("M14", "a bundle that needs more memory than it may have", "model",
       "e2e/test_bundles.py::test_bundles_that_hurt_are_refused_once_and_the_next_good_one_is_served")  # fmt: skip
proven("M17", "a model that never returns", "model",
       "e2e/test_bundles.py::test_a_bundle_that_is_slow_for_what_users_did_is_avoided_and_the_default_answers",
       "e2e/test_bundles.py::test_sigterm_ends_a_service_that_is_loading_an_endless_bundle")  # fmt: skip
proven("M20", "CUDA that is silently the CPU", "model",
       "integration/test_engine.py::test_cuda_is_refused_where_it_would_silently_be_the_cpu",
       "integration/test_engine.py::test_auto_takes_the_cpu_where_there_is_nothing_else_and_says_so")  # fmt: skip
proven("M22", "one row and many in a batch", "model",
       "integration/test_engine.py::test_rows_are_the_same_alone_and_in_a_batch")  # fmt: skip
proven("M7", "external data through .., an absolute path, a link, an attribute, a sparse tensor: none is accepted", "model",
       "unit/service/bundles/test_bundle.py::test_external_data_is_refused_wherever_it_leads",
       "unit/service/bundles/test_bundle.py::test_external_data_inside_an_attribute_a_subgraph_or_a_sparse_tensor_is_refused")  # fmt: skip
absent("M18 M19", "CUDA runs out of memory; sticky CUDA errors", "they need a GPU")
