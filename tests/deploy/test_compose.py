from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.access.file import read_access
from service.access.keys import hash_of
from service.redis.watch import EVENT_BYTES, ranking_log_bytes
from service.settings.ranking_log import RankingLogSettings
from service.settings.root import Settings
from tests.support.programs import needed
from tests.support.redis_server import RedisServer

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
REPLICAS = ("rank-1", "rank-2")
PINNED = re.compile(r"[a-z./]+:[A-Za-z0-9.-]+@sha256:[0-9a-f]{64}")
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
    assert service["cpus"]
    assert all("size=" in mount and "noexec,nosuid,nodev" in mount for mount in service["tmpfs"])
    assert not service.keys() & {"privileged", "network_mode", "pid", "cap_add", "devices"}
    assert "docker.sock" not in str(service)


def test_callers_reach_the_proxy_and_only_that_and_redis_is_reached_by_the_service_and_the_sink() -> None:
    assert {name for name, one in COMPOSE["networks"].items() if one.get("internal")} == {"front", "store", "operators"}
    inside = {
        network: {name for name, service in SERVICES.items() if network in service["networks"]}
        for network in COMPOSE["networks"]
    }
    assert inside["store"] == {"secrets", "redis", "events", *REPLICAS, "page", "sink"}
    assert inside["front"] == {"proxy", *REPLICAS, "behaviours"}
    assert not inside["edge"] & {*REPLICAS, "redis", "events", "sink", "guard", "secrets"}
    assert {name for name, service in SERVICES.items() if "ports" in service} == {
        "proxy", "page", "prometheus", "alertmanager", "grafana"
    }  # fmt: skip


def test_the_page_and_the_documents_are_on_in_the_demo_only() -> None:
    demo = {name for name, service in SERVICES.items() if service.get("profiles") == ["demo"]}
    assert demo == {"page", "behaviours"}
    for name in REPLICAS:
        environment = SERVICES[name]["environment"]
        assert (environment["RANKER_PAGE__ENABLED"], environment["RANKER_HTTP__DOCS_ENABLED"]) == ("false", "false")
        assert environment["RANKER_ADMIN__PORT"] == "8001"
        assert "RANKER_HTTP__BEHAVIOURS_ENABLED" not in environment
    assert SERVICES["page"]["environment"]["RANKER_PAGE__ENABLED"] == "true"


def test_secrets_are_files_that_only_their_reader_mounts() -> None:
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            assert "@" not in str(value), (name, variable)
            assert not variable.endswith(("URL", "SECRET", "KEY")), (name, variable)
    mounts = {
        name: [volume for volume in service.get("volumes", []) if volume.startswith("secret-")]
        for name, service in SERVICES.items()
    }
    assert {name: one for name, one in mounts.items() if one and name != "secrets"} == {
        "redis": ["secret-redis:/run/secrets:ro"],
        "events": ["secret-events:/run/secrets:ro"],
        **{name: ["secret-rank:/run/secrets:ro"] for name in (*REPLICAS, "page")},
        "sink": ["secret-sink:/run/secrets:ro"],
        "behaviours": ["secret-seed:/run/secrets:ro"],
        "prometheus": ["secret-prometheus:/run/secrets:ro"],
    }


def test_callers_need_a_key_except_on_the_page_of_the_demo() -> None:
    for name in REPLICAS:
        environment = SERVICES[name]["environment"]
        assert environment["RANKER_ACCESS__FILE"] == "/run/secrets/access.yaml"
        assert "RANKER_ACCESS__ON_ADMIN_PORT" not in environment
    assert SERVICES["page"]["profiles"] == ["demo"]
    assert SERVICES["page"]["environment"]["RANKER_ACCESS__FILE"] == ""
    assert SERVICES["behaviours"]["command"][-2:] == ["--key-file", "/run/secrets/key"]
    scrape = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    [ranker] = [job for job in scrape["scrape_configs"] if job["job_name"] == "ranker"]
    assert ranker["authorization"] == {"type": "Bearer", "credentials_file": "/run/secrets/key"}
    assert SERVICES["prometheus"]["group_add"] == ["65532"]


def test_every_image_of_others_is_pinned_by_digest_and_the_same_everywhere() -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    named = dict(re.findall(r"\$\{([A-Z]+_IMAGE):-([^}]+)\}", text))
    assert set(named) == {f"{one}_IMAGE" for one in ("PYTHON", "REDIS", "PROMETHEUS", "ALERTMANAGER", "GRAFANA")}
    assert all(PINNED.fullmatch(image) for image in named.values())
    defaults = dict(re.findall(r"^ARG ([A-Z]+_IMAGE)=(\S+)$", DOCKERFILE, re.MULTILINE))
    assert defaults == {name: named[name] for name in ("PYTHON_IMAGE", "REDIS_IMAGE")}
    stages = set(re.findall(r" AS (\S+)", DOCKERFILE))
    bases = set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE))
    assert bases - stages == {"${PYTHON_IMAGE}", "${REDIS_IMAGE}"}


def test_the_proxy_asks_every_replica_whether_it_is_ready_and_is_valid(tmp_path: Path) -> None:
    path = ROOT / "deploy" / "haproxy" / "compose.cfg"
    text = path.read_text(encoding="utf-8")
    assert re.findall(r"^  server (\S+) (\S+)$", text, re.MULTILINE) == 2 * [
        (name, f"{name}:8000") for name in REPLICAS
    ]
    assert re.findall(r"uri (/health/\w+)$", text, re.MULTILINE)[-2:] == ["/health/ready", "/health/live"]
    [interval] = set(map(int, re.findall(r"check inter (\d+)ms", text)))
    assert 2 * interval < Settings().http.drain_delay_ms
    [hard_stop] = map(int, re.findall(r"hard-stop-after (\d+)s", text))
    assert hard_stop < int(SERVICES["proxy"]["stop_grace_period"].removesuffix("s"))
    if shutil.which("haproxy") is not None:
        local = tmp_path / "haproxy.cfg"
        local.write_text(re.sub(r" rank-\d:8000$", " 127.0.0.1:8000", text, flags=re.MULTILINE))
        done = subprocess.run(["haproxy", "-c", "-f", local], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_replicas_drain_before_they_are_killed() -> None:
    http, streams = Settings().http, Settings().streams
    needed = (http.drain_delay_ms + http.drain_timeout_ms + streams.close_timeout_ms) / 1000
    for name in (*REPLICAS, "page"):
        assert int(SERVICES[name]["stop_grace_period"].removesuffix("s")) > needed


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
    assert len(ours) == 7
    assert all(service["init"] is True for service in ours)


def test_service_cannot_write_bundles() -> None:
    for name in (*REPLICAS, "page"):
        assert "releases:/srv/releases:ro" in SERVICES[name]["volumes"]
    spools = [volume for name in (*REPLICAS, "page") for volume in SERVICES[name]["volumes"] if "spool" in volume]
    assert len(set(spools)) == 3  # one each: a start writes the events that it finds there


def test_the_guard_is_off_by_default_and_edits_the_file_that_the_replicas_read() -> None:
    guard = SERVICES["guard"]
    assert guard["profiles"] == ["guard"]
    options = dict(one.removeprefix("--").split("=") for one in guard["command"][1:])
    assert options["experiments"] == SERVICES["rank-1"]["environment"]["RANKER_EXPERIMENTS__FILE"]
    assert {"parquet:/srv/parquet:ro", "releases:/srv/releases"} == set(guard["volumes"])
    assert options["data"] == "/srv/parquet"
    assert SERVICES["rank-1"]["environment"]["RANKER_RANKING_LOG__SHARE"] == "1"  # errors, degraded and latency
    prometheus = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    [job] = [one for one in prometheus["scrape_configs"] if one["job_name"] == "ranker-guard"]
    [found] = job["dns_sd_configs"]
    assert (found["names"], str(found["port"])) == (["guard"], options["metrics-port"])
    assert set(guard["networks"]) & set(SERVICES["prometheus"]["networks"])


def test_behaviours_and_events_never_share_a_memory_limit() -> None:
    environment = SERVICES["rank-1"]["environment"]
    assert environment["RANKER_REDIS__URL_FILE"] == "/run/secrets/redis_url"
    assert environment["RANKER_STREAMS__URL_FILE"] == "/run/secrets/events_url"
    assert SERVICES["redis"]["volumes"] != SERVICES["events"]["volumes"]
    assert SERVICES["events"]["entrypoint"][-1] == "/usr/local/etc/redis/events.conf"


def test_the_streams_fit_into_their_redis_which_drops_nothing_by_itself() -> None:
    options = configuration("events")
    assert options["maxmemory-policy"] == "noeviction"
    assert options["appendonly"] == "yes"
    assert options["maxmemory"] == "512mb"
    chosen = SERVICES["rank-1"]["environment"]
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
    granted = users(name)["ranker"]
    assert [right for right in granted if right.startswith("~")] == keys
    listed = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8").split("### Access list")[1].split("```")[1]
    for subject in subjects:
        needed = re.findall(r"\+\S+", listed.split(f"# {subject}")[1].split("#")[0])
        assert needed
        assert set(needed) <= set(granted), subject


def test_the_sink_has_a_user_with_the_rights_that_its_page_lists_and_keeps_its_files() -> None:
    listed = (ROOT / "docs" / "sink.md").read_text(encoding="utf-8").split("```text")[2].split("#")[0]
    words = {word for line in listed.splitlines() for word in line.split()[2:]} - {">PASSWORD"}
    assert set(users("events")["sink"]) - {"#SINK"} == words
    sink = SERVICES["sink"]
    assert sink["environment"]["RANKER_SINK__URL_FILE"] == "/run/secrets/events_url"
    assert sink["volumes"][0] == "parquet:/srv/parquet"
    assert sink["command"] == ["sink", "--out", "/srv/parquet"]


def configuration(name: str) -> dict[str, str]:
    lines = (ROOT / "deploy" / "redis" / f"{name}.conf").read_text(encoding="utf-8").splitlines()
    return {key: value for key, _, value in (line.partition(" ") for line in lines if line and line[0] != "#")}


def users(name: str) -> dict[str, list[str]]:
    """The rules of each user of a Redis."""
    text = (ROOT / "deploy" / "redis" / f"{name}.acl").read_text(encoding="utf-8")
    return {user: rules.split() for user, rules in re.findall(r"^user (\S+) (.*)$", text, re.MULTILINE)}


@pytest.mark.parametrize("name", ["redis", "events"])
def test_no_user_of_redis_has_rights_without_a_password(name: str) -> None:
    found = users(name)
    assert found["default"] == ["off"]
    assert [right for right in found["health"] if right[0] in "~+%"] == ["+ping"]
    for user, rules in found.items():
        if user not in ("default", "health"):
            assert f"#{user.upper()}" in rules, user
    assert not {right for right in found["people"] if right.startswith("~")}  # only %R~: they may look
    assert configuration(name)["aclfile"] == "/run/secrets/users.acl"


@pytest.mark.redis
def test_passwords_are_made_once_and_open_exactly_what_the_rules_allow(tmp_path: Path) -> None:
    """The script of the service `secrets`, and a real Redis with each of its files of users."""
    first = made_secrets(tmp_path)
    assert made_secrets(tmp_path) == first
    modes = {str(path.relative_to(tmp_path)): path.stat().st_mode & 0o777 for path in tmp_path.glob("*/*")}
    assert modes == {name: 0o640 if name == "prometheus/key" else 0o600 for name in first}
    passwords = {name: text for name, text in first.items() if not name.endswith((".acl", ".yaml", "/key"))}
    secrets = {name: re.findall(r"[0-9a-f]{64}", text) for name, text in passwords.items()}
    assert all(len(one) == 1 for one in secrets.values())
    assert len({one[0] for one in secrets.values()}) == 5
    assert not any(one[0] in first[f"{server}/users.acl"] for one in secrets.values() for server in ("redis", "events"))
    for server, user, name in (("redis", "ranker", "rank/redis_url"), ("events", "ranker", "rank/events_url"),
                               ("events", "sink", "sink/events_url"), ("redis", "people", "redis/people")):  # fmt: skip
        arguments = ("--aclfile", str(tmp_path / server / "users.acl"))
        running = RedisServer(arguments=arguments, program=needed("redis-server", "redis-server")).start_closed()
        try:
            assert running.call_as(user, "wrong", "INFO").startswith(b"-WRONGPASS")
            answer = running.call_as(user, secrets[name][0], "FLUSHALL")
            assert answer.startswith(b"+OK\r\n-NOPERM"), answer
        finally:
            running.close()


def test_an_empty_password_is_never_put_into_a_file_of_users(tmp_path: Path) -> None:
    (tmp_path / "rank").mkdir()
    (tmp_path / "rank" / "redis_url").write_text("redis://ranker:@redis:6379/0")
    done = make_secrets(tmp_path)
    assert done.returncode == 1
    assert "has no password" in done.stderr
    assert not (tmp_path / "redis" / "users.acl").exists()


def test_a_cut_key_is_never_put_into_the_access_file(tmp_path: Path) -> None:
    (tmp_path / "feed").mkdir()
    (tmp_path / "feed" / "key").write_text("rk_")
    done = make_secrets(tmp_path)
    assert done.returncode == 1
    assert "has no key" in done.stderr
    assert not (tmp_path / "rank" / "access.yaml").exists()


def test_callers_of_the_stack_get_keys_that_the_service_knows_and_can_change(tmp_path: Path) -> None:
    made = made_secrets(tmp_path)
    found = {caller.id: caller for caller in read_access(made["rank/access.yaml"].encode()).callers}
    assert {name: set(caller.scopes) for name, caller in found.items()} == {
        "feed": {"rank", "write"}, "seed": {"write"}, "prometheus": {"metrics"}
    }  # fmt: skip
    assert all(caller.quota.requests_per_second for caller in found.values())
    first = {name: made[f"{name}/key"] for name in found}
    assert {name: caller.keys for name, caller in found.items()} == {n: (hash_of(key),) for n, key in first.items()}
    assert not any(key in made["rank/access.yaml"] for key in first.values())
    assert "KEYS_OF" not in made["rank/access.yaml"]

    assert make_secrets(tmp_path, "rotate", "prometheus").returncode == 0
    assert "retire the older one first" in make_secrets(tmp_path, "rotate", "prometheus").stderr
    second = make_secrets(tmp_path, "show", "prometheus").stdout
    assert keys_in_force(tmp_path) == {hash_of(second), hash_of(first["prometheus"])}
    assert (tmp_path / "prometheus" / "key").stat().st_mode & 0o777 == 0o640
    made_secrets(tmp_path)
    assert keys_in_force(tmp_path) == {hash_of(second), hash_of(first["prometheus"])}
    assert make_secrets(tmp_path, "retire", "prometheus").returncode == 0
    assert keys_in_force(tmp_path) == {hash_of(second)}
    assert make_secrets(tmp_path, "show", "../rank/redis_url").returncode == 1


def keys_in_force(folder: Path) -> set[str]:
    """The hashes of Prometheus's keys in the access file."""
    callers = read_access((folder / "rank" / "access.yaml").read_bytes()).callers
    return {one for caller in callers if caller.id == "prometheus" for one in caller.keys}


def make_secrets(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the program of the service `secrets`."""
    for name in ("redis", "events", "rank", "sink", "feed", "seed", "prometheus"):
        (folder / name).mkdir(exist_ok=True)
    environment = {
        "PATH": os.environ["PATH"], "OUT": str(folder), "RULES": str(ROOT / "deploy" / "redis"),
        "CALLERS": str(ROOT / "deploy" / "secrets" / "callers.yaml"),
    }  # fmt: skip
    command = ["sh", str(ROOT / "deploy" / "secrets" / "make-secrets"), *arguments]
    return subprocess.run(command, env=environment, check=False, capture_output=True, text=True)


def made_secrets(folder: Path) -> dict[str, str]:
    """All secrets, as the service `secrets` makes them at each start."""
    done = make_secrets(folder)
    assert done.returncode == 0, done.stderr
    return {str(path.relative_to(folder)): path.read_text() for path in folder.glob("*/*")}


def test_order_is_secrets_then_redis_and_bundles_then_replicas_then_the_proxy_then_behaviours() -> None:
    assert SERVICES["redis"]["depends_on"]["secrets"] == {"condition": "service_completed_successfully"}
    assert SERVICES["rank-1"]["depends_on"]["release"] == {"condition": "service_completed_successfully"}
    assert SERVICES["proxy"]["depends_on"]["rank-2"] == {"condition": "service_healthy"}
    assert SERVICES["behaviours"]["depends_on"]["proxy"] == {"condition": "service_healthy"}


def test_gpu_override_asks_for_the_gpu_and_does_not_start_without() -> None:
    document = yaml.safe_load((ROOT / "docker-compose.gpu.yml").read_text(encoding="utf-8"))
    assert set(document["services"]) == set(REPLICAS)
    rank = document["services"]["rank-1"]
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
def test_serving_lock_has_no_torch(lock: str) -> None:
    assert "torch" not in _versions(lock)


@pytest.mark.parametrize("lock", sorted(path.stem for path in LOCKS.glob("*.txt") if path.stem != "dev"))
def test_every_pin_has_a_hash(lock: str) -> None:
    text = (LOCKS / f"{lock}.txt").read_text(encoding="utf-8")
    assert "==" in text
    for entry in re.split(r"^(?=[a-z])", text, flags=re.MULTILINE):
        assert "==" not in entry or "--hash=sha256:" in entry, entry


def test_every_image_installs_by_hash_from_wheels() -> None:
    installs = [one for one in DOCKERFILE.splitlines() if "python install " in one]
    assert len(installs) == len(re.findall(r"^COPY locks/", DOCKERFILE, re.MULTILINE))
    assert all("--require-hashes" in one and "--only-binary :all:" in one for one in installs)
