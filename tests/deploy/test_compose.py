from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.redis.watch import EVENT_BYTES, ranking_log_bytes
from service.settings.ranking_log import RankingLogSettings
from service.settings.streams import StreamsSettings

ROOT = Path(__file__).resolve().parents[2]
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))[
    "services"
]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
LOCKS = ROOT / "locks"


def _versions(lock: str) -> dict[str, str]:
    text = (LOCKS / f"{lock}.txt").read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", text, re.MULTILINE))


@pytest.mark.parametrize("name", SERVICES)
def test_container_can_change_nothing_but_what_it_is_given(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["pids_limit"] <= 256
    assert service["mem_limit"]
    assert all("size=" in mount and "nosuid" in mount for mount in service["tmpfs"])
    assert not service.keys() & {"privileged", "network_mode", "pid", "cap_add", "devices"}
    assert "docker.sock" not in str(service)


def test_redis_is_reachable_by_the_service_alone() -> None:
    document = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    assert document["networks"]["store"] == {"internal": True}
    for name in ("redis", "events"):
        assert SERVICES[name]["networks"] == ["store"]
        assert "ports" not in SERVICES[name]
    inside = {name for name, service in SERVICES.items() if "store" in service["networks"]}
    assert inside == {"redis", "events", "rank", "sink"}


def test_published_ports_are_local_unless_asked_otherwise() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("${RANKER_BIND:-127.0.0.1}:") for port in ports)


def test_our_programs_are_not_process_1() -> None:
    """The kernel drops a signal to process 1 that comes before its handler."""
    ours = [
        service
        for service in SERVICES.values()
        if service["image"].startswith(("ranker-serve", "ranker-offline", "ranker-analysis"))
    ]
    assert len(ours) == 4
    assert all(service["init"] is True for service in ours)


def test_service_cannot_write_bundles() -> None:
    assert SERVICES["rank"]["volumes"] == ["releases:/srv/releases:ro", "spool:/srv/spool"]


def test_behaviours_and_events_never_share_a_memory_limit() -> None:
    environment = SERVICES["rank"]["environment"]
    assert environment["RANKER_REDIS__URL"] == "redis://redis:6379/0"
    assert environment["RANKER_STREAMS__URL"] == "redis://events:6379/0"
    assert SERVICES["redis"]["volumes"] != SERVICES["events"]["volumes"]
    assert SERVICES["events"]["entrypoint"][-1] == "/usr/local/etc/redis/events.conf"


def test_the_streams_fit_into_their_redis_which_drops_nothing_by_itself() -> None:
    options = configuration("events")
    assert options["maxmemory-policy"] == "noeviction"
    assert options["appendonly"] == "yes"
    assert options["maxmemory"] == "512mb"
    assert StreamsSettings().max_length * sum(EVENT_BYTES.values()) <= 512 * 2**20
    chosen = SERVICES["rank"]["environment"]
    log = RankingLogSettings(
        share=float(chosen["RANKER_RANKING_LOG__SHARE"]), max_length=int(chosen["RANKER_RANKING_LOG__MAX_LENGTH"])
    )
    others = int(chosen["RANKER_STREAMS__MAX_LENGTH"]) * sum(EVENT_BYTES.values())
    assert 0 < ranking_log_bytes(log) <= 512 * 2**20 - others
    assert SERVICES["events"]["mem_limit"] == "768m"


@pytest.mark.parametrize(
    ("name", "keys", "subjects"),
    [
        ("redis", ["~bhv:*", "~item:*"], ["behaviours", "the page's list of users", "looks at memory"]),
        (
            "events",
            ["~ab:*", "~fb:*", "~rank:log:*"],
            ["exposures, feedback and rankings", "the state of the experiments", "looks at memory"],
        ),
    ],
)
def test_a_redis_holds_its_own_keys_only_and_grants_what_the_service_needs(
    name: str, keys: list[str], subjects: list[str]
) -> None:
    granted = configuration(name)["user"].split()
    assert [right for right in granted if right.startswith("~")] == keys
    listed = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8").split("### Access list")[1].split("```")[1]
    for subject in subjects:
        needed = re.findall(r"\+\S+", listed.split(f"# {subject}")[1].split("#")[0])
        assert needed
        assert set(needed) <= set(granted), subject


def test_the_sink_has_a_user_with_the_rights_that_its_page_lists_and_keeps_its_files() -> None:
    listed = (ROOT / "docs" / "sink.md").read_text(encoding="utf-8").split("```text")[2].split("#")[0]
    (granted,) = re.findall(r"^user sink (.*)", (ROOT / "deploy/redis/events.conf").read_text(encoding="utf-8"), re.M)
    words = {word for line in listed.splitlines() for word in line.split()[2:]} - {">PASSWORD"}
    assert set(granted.split()) - {"nopass"} == words
    sink = SERVICES["sink"]
    assert sink["environment"]["RANKER_SINK__URL"].startswith("redis://sink:")
    assert sink["volumes"] == ["parquet:/srv/parquet"]
    assert sink["command"] == ["sink", "--out", "/srv/parquet"]


def configuration(name: str) -> dict[str, str]:
    lines = (ROOT / "deploy" / "redis" / f"{name}.conf").read_text(encoding="utf-8").splitlines()
    pairs = (line.partition(" ") for line in lines if line and line[0] != "#" and not line.startswith("user sink"))
    return {key: value for key, _, value in pairs}


def test_order_is_bundles_then_service_then_behaviours() -> None:
    assert SERVICES["rank"]["depends_on"]["release"] == {"condition": "service_completed_successfully"}
    assert SERVICES["behaviours"]["depends_on"]["rank"] == {"condition": "service_healthy"}


def test_gpu_override_asks_for_the_gpu_and_does_not_start_without() -> None:
    document = yaml.safe_load((ROOT / "docker-compose.gpu.yml").read_text(encoding="utf-8"))
    rank = document["services"]["rank"]
    assert rank["build"]["target"] == "serve-gpu"
    assert rank["environment"] == {"RANKER_INFERENCE__PROVIDER": "cuda"}
    assert rank["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]


def test_images_start_programs_without_a_shell_and_run_as_a_numeric_user() -> None:
    starts = re.findall(r"^\s*(?:ENTRYPOINT|HEALTHCHECK[^\[\n]*CMD|CMD)\s+(.*)$", DOCKERFILE, re.MULTILINE)
    assert len(starts) >= 5
    assert all(start.startswith("[") for start in starts)
    assert set(re.findall(r"^USER (\S+)", DOCKERFILE, re.MULTILINE)) == {"0:0", "65532:65532"}
    for stage in re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]:
        if "ENTRYPOINT" in stage:
            users = re.findall(r"^USER (\S+)", stage, re.MULTILINE)
            assert users[-1:] != ["0:0"], stage.splitlines()[0]


def test_everything_that_an_image_copies_is_in_the_build_context() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    sent = {line.strip("!/") for line in ignored if line.startswith("!")}
    copied = {path.split("/")[0] for path in re.findall(r"^COPY ([^-]\S*)", DOCKERFILE, re.MULTILINE)}
    assert copied == sent


def test_serving_images_hold_no_model_code() -> None:
    app = DOCKERFILE.split(" AS app-serve")[1].split("FROM ")[0]
    assert re.findall(r"^COPY (\S+)", app, re.MULTILINE) == ["contract/", "service/"]


@pytest.mark.parametrize("lock", ["serve-cpu", "serve-gpu", "offline", "analysis"])
def test_what_is_tested_is_what_is_served(lock: str) -> None:
    tested = _versions("dev")
    differing = {name for name, version in _versions(lock).items() if name in tested and tested[name] != version}
    assert differing == set()


@pytest.mark.parametrize("lock", ["dev", "serve-cpu", "serve-gpu", "offline"])
def test_lock_holds_one_onnx_runtime_and_names_no_registry(lock: str) -> None:
    text = (LOCKS / f"{lock}.txt").read_text(encoding="utf-8")
    runtimes = {"onnxruntime", "onnxruntime-gpu"} & _versions(lock).keys()
    assert len(runtimes) == (2 if lock == "dev" else 1)  # dev: one per machine, by markers (tests/test_tree.py)
    assert "://" not in text
    assert "+cpu" not in text


@pytest.mark.parametrize("lock", ["serve-cpu", "serve-gpu", "analysis"])
def test_serving_lock_has_hashes_and_no_torch(lock: str) -> None:
    text = (LOCKS / f"{lock}.txt").read_text(encoding="utf-8")
    assert "torch" not in _versions(lock)
    for entry in re.split(r"^(?=[a-z])", text, flags=re.MULTILINE):
        assert "==" not in entry or "--hash=sha256:" in entry, entry
