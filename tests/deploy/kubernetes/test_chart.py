"""The rendered chart fits the service: settings, ports, probes, metrics, drain, user. `make helm-check` renders it."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from analysis.commands import guard
from analysis.sink.settings import SinkSettings
from contract.experiments.file import read_experiments
from contract.secret_files import ENDING
from deploy.daily.loop import BUSY, FAILED, REFUSED
from deploy.daily.settings import Settings as DailySettings
from deploy.kubernetes.helm import VERSION
from deploy.kubernetes.rendering import CHART, FOLDER, RENDERED, SHAPES, Manifest, manifests
from service import __version__
from service.access.file import read_access
from service.bundles.signatures import read_signers
from service.metrics.ranking import STAGES
from service.settings.environment import secret_variables, unknown_names, variables
from service.settings.root import DELIMITER, PREFIX, Settings
from tests.support.programs import needed
from training.recipe import load_recipe

ROOT = Path(__file__).resolve().parents[3]
ROUTES = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))["paths"]
METRICS = (ROOT / "tests" / "unit" / "service" / "metrics" / "recorded.txt").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
LOADED = {shape: manifests((RENDERED / f"{shape}.yaml").read_text(encoding="utf-8")) for shape in SHAPES}

SECRETS = {name + ENDING for name in secret_variables()}

each_shape = pytest.mark.parametrize("shape", SHAPES)


def only(shape: str, kind: str, name: str = "ranker") -> Manifest:
    [found] = [one for one in LOADED[shape] if one["kind"] == kind and one["metadata"]["name"] == name]
    return found


def pod(shape: str) -> dict[str, Any]:
    spec: dict[str, Any] = only(shape, "Deployment")["spec"]["template"]["spec"]
    return spec


def container(shape: str) -> dict[str, Any]:
    [found] = pod(shape)["containers"]
    return dict(found)


def environment(shape: str) -> dict[str, str]:
    """The variables of the pod."""
    values: dict[str, str] = dict(only(shape, "ConfigMap", "ranker-settings")["data"])
    return values | {one["name"]: one["value"] for one in container(shape)["env"]}


def settings(shape: str) -> Settings:
    groups: dict[str, dict[str, str]] = {}
    for name, value in environment(shape).items():
        if name in SECRETS:
            name, value = name.removesuffix(ENDING), "redis://redis:6379" if "URL" in name else "0" * 64
        group, _, field = name.removeprefix(PREFIX).lower().partition(DELIMITER)
        groups.setdefault(group, {})[field] = value
    return Settings(**groups)  # type: ignore[arg-type]  # pydantic parses the texts


def numbers(text: str) -> float:
    """The bytes of a Kubernetes quantity."""
    amount, unit = re.fullmatch(r"(\d+)(Mi|Gi)", text).groups()  # type: ignore[union-attr]
    return int(amount) * {"Mi": 2**20, "Gi": 2**30}[unit]


@each_shape
def test_every_variable_of_the_pod_is_a_setting_with_a_valid_value(shape: str) -> None:
    assert unknown_names(environment(shape)) == []
    assert settings(shape).http.host == "0.0.0.0"
    assert settings(shape).streams.url is not None


@each_shape
def test_secrets_come_from_files_that_are_mounted_for_the_group_of_the_user(shape: str) -> None:
    paths = {Path(value) for name, value in environment(shape).items() if name in SECRETS}
    assert len(paths) == len(container(shape)["env"]) >= 2
    [volume] = [one["secret"] for one in pod(shape)["volumes"] if one["name"] == "secrets"]
    [mount] = [one for one in container(shape)["volumeMounts"] if one["name"] == "secrets"]
    assert paths == {Path(mount["mountPath"]) / item["path"] for item in volume["items"]}
    assert (volume["defaultMode"], pod(shape)["securityContext"]["fsGroup"]) == (0o440, 65532)
    secret = [one for one in LOADED[shape] if one["kind"] == "Secret"]
    assert [one["metadata"]["name"] for one in secret] in ([], [volume["secretName"]])
    assert {item["key"] for item in volume["items"]} in [set(one["stringData"]) for one in secret] or not secret


def test_every_setting_of_the_values_is_known() -> None:
    """Also of those that no example turns on."""
    known = {name for name, _ in variables()}
    texts = [path.read_text(encoding="utf-8") for path in (CHART / "values.yaml", *CHART.glob("templates/*"))]
    named = {name for text in texts for name in re.findall(r"RANKER_[A-Z]+__[A-Z0-9_]+", text)}
    assert named
    known |= {f"RANKER_SINK__{name.upper()}" for name in SinkSettings.model_fields} | {"RANKER_SINK__URL_FILE"}
    assert named - known == set()


def test_a_value_cannot_replace_a_setting_that_the_chart_decides() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    kept = set(schema["properties"]["settings"]["propertyNames"]["not"]["enum"])
    template = (CHART / "templates" / "settings.yaml").read_text(encoding="utf-8")
    assert kept == {*re.findall(r"^ +(RANKER_\w+):", template, re.M), "RANKER_REDIS__URL", "RANKER_STREAMS__URL"}


@each_shape
def test_probes_ask_routes_of_the_service_at_its_port(shape: str) -> None:
    ports = {port["name"]: port["containerPort"] for port in container(shape)["ports"]}
    assert ports == {"http": settings(shape).http.port, "admin": settings(shape).admin.port}
    assert settings(shape).admin.host == settings(shape).http.host == "0.0.0.0"
    asked = {name: container(shape)[name]["httpGet"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert [probe["path"] for probe in asked.values()] == ["/health/live", "/health/ready", "/health/live"]
    assert all("get" in ROUTES[probe["path"]] and probe["port"] == "admin" for probe in asked.values())
    assert f"EXPOSE {settings(shape).http.port}" in DOCKERFILE


@each_shape
def test_the_service_and_the_network_policy_lead_to_the_same_ports(shape: str) -> None:
    ports = [one["targetPort"] for one in only(shape, "Service")["spec"]["ports"]]
    assert ports == [one["name"] for one in container(shape)["ports"]] == ["http", "admin"]
    policy = only(shape, "NetworkPolicy")["spec"]
    allowed = [one["port"] for rule in policy["ingress"] for one in rule["ports"]]
    assert allowed == (["http"] if shape == "small" else ports)
    assert all(rule["from"] for rule in policy["ingress"])
    assert policy["policyTypes"] == ["Ingress", "Egress"]


@each_shape
def test_selectors_find_the_pods_of_the_service_and_no_others(shape: str) -> None:
    labels = only(shape, "Deployment")["spec"]["template"]["metadata"]["labels"]
    selectors = [
        only(shape, "Deployment")["spec"]["selector"]["matchLabels"],
        only(shape, "Service")["spec"]["selector"],
        only(shape, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        only(shape, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        *[one["labelSelector"]["matchLabels"] for one in pod(shape)["topologySpreadConstraints"]],
    ]
    assert all(selector.items() <= labels.items() for selector in selectors)
    assert all(selector["app.kubernetes.io/component"] == "serving" for selector in selectors)
    for other in (one for one in LOADED[shape] if one["kind"] == "CronJob"):
        template = other["spec"]["jobTemplate"]["spec"]["template"]
        assert template["metadata"]["labels"]["app.kubernetes.io/component"] == "daily"


@each_shape
def test_the_kubelet_waits_longer_than_the_drain(shape: str) -> None:
    chosen = settings(shape)
    drain = chosen.http.drain_delay_ms + chosen.http.drain_timeout_ms + chosen.streams.close_timeout_ms
    assert pod(shape)["terminationGracePeriodSeconds"] * 1000 >= drain + 5_000
    # The endpoints of a Service take seconds to change everywhere, and the readiness probe is one sign of it.
    probe = container(shape)["readinessProbe"]
    assert chosen.http.drain_delay_ms >= 1000 * probe["periodSeconds"] * probe["failureThreshold"]


@each_shape
def test_a_new_pod_may_take_as_long_as_its_bundles(shape: str) -> None:
    probe = container(shape)["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] * 1000 >= 4 * settings(shape).bundles.load_timeout_ms


@each_shape
def test_the_check_of_a_bundle_fits_into_the_memory_of_the_pod(shape: str) -> None:
    limit = numbers(container(shape)["resources"]["limits"]["memory"])
    assert settings(shape).bundles.max_memory_bytes <= limit - 2**29


def pods(shape: str) -> list[dict[str, Any]]:
    jobs = [one for one in LOADED[shape] if one["kind"] == "CronJob"]
    deployments = [one for one in LOADED[shape] if one["kind"] == "Deployment"]
    specs = [*[one["spec"] for one in deployments], *[job["spec"]["jobTemplate"]["spec"] for job in jobs]]
    return [spec["template"]["spec"] for spec in specs]


@each_shape
def test_a_pod_can_change_nothing_but_what_it_is_given(shape: str) -> None:
    [user] = {int(number) for number in re.findall(r"^USER (\d+):\1$", DOCKERFILE, re.M)} - {0}
    for spec in pods(shape):
        context = spec["securityContext"]
        assert (context["runAsNonRoot"], context["runAsUser"], context["runAsGroup"]) == (True, user, user)
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert spec["shareProcessNamespace"] is True
        assert not spec.keys() & {"hostNetwork", "hostPID", "hostIPC"}
        for one in spec["containers"]:
            assert one["securityContext"] == {
                "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
            }  # fmt: skip
            assert one["resources"]["limits"]["memory"]
        assert all("sizeLimit" in volume["emptyDir"] for volume in spec["volumes"] if "emptyDir" in volume)


@each_shape
def test_the_service_can_write_what_it_needs_and_no_bundles(shape: str) -> None:
    mounts = {one["mountPath"]: one.get("readOnly", False) for one in container(shape)["volumeMounts"]}
    chosen = settings(shape)
    writable = [path for path, is_read_only in mounts.items() if not is_read_only]
    assert str(chosen.streams.spool) in writable
    assert "/tmp" in writable  # the home of the image's user
    assert "HOME=/tmp" in DOCKERFILE
    assert mounts[str(chosen.bundles.root.parent)] is True
    if chosen.experiments.file is not None:
        folders = [path for path in mounts if chosen.experiments.file.is_relative_to(path)]
        assert [mounts[path] for path in folders] == [True]
        assert chosen.experiments.state_copy is not None
        assert str(chosen.experiments.state_copy.parent) in writable


def adapter_rule() -> dict[str, Any]:
    [rule] = yaml.safe_load((FOLDER / "prometheus-adapter.yaml").read_text(encoding="utf-8"))["rules"]["custom"]
    return dict(rule)


@pytest.mark.parametrize("shape", ["production", "guard", "gpu"])
def test_pods_are_scaled_on_a_metric_of_the_service(shape: str) -> None:
    scaler = only(shape, "HorizontalPodAutoscaler")["spec"]
    waits, processor = scaler["metrics"]
    assert waits["pods"]["metric"]["name"] == adapter_rule()["name"]["as"]
    assert processor["resource"]["name"] == "cpu"
    assert scaler["scaleTargetRef"]["name"] == only(shape, "Deployment")["metadata"]["name"]
    assert "replicas" not in only(shape, "Deployment")["spec"]  # an upgrade must not undo what the scaler chose
    texts = adapter_rule()["seriesQuery"] + adapter_rule()["metricsQuery"]
    assert {
        name for name in re.findall(r"ranker_\w+", texts) if not re.search(rf"^{name}[ {{]", METRICS, re.M)
    } == set()
    assert set(re.findall(r'stage="(\w+)"', texts)) <= set(STAGES)


@pytest.mark.prometheus
def test_prometheus_computes_the_mean_wait_of_each_pod(tmp_path: Path) -> None:
    """Pod a: 2 ms for the event loop and 3 ms for the engine; pod b: idle, 0.5 ms for the event loop."""
    query = adapter_rule()["metricsQuery"].replace("<<.GroupBy>>", "pod")
    query = f"round(1000 * ({query}))"  # in whole microseconds
    loop, queue = "ranker_event_loop_wait_seconds", "ranker_stage_duration_seconds"
    steps = {
        ("a", loop): (0.6, 300), ("a", queue): (0.75, 250), ("b", loop): (0.15, 300), ("b", queue): (0, 0),
    }  # fmt: skip
    series = [
        {"series": f'{name}_{part}{{namespace="ranker",pod="{pod_name}",stage="queue"}}', "values": f"0+{step}x20"}
        for (pod_name, name), both in steps.items()
        for part, step in zip(("sum", "count"), both, strict=True)
    ]
    expected = [{"labels": f'{{pod="{name}"}}', "value": value} for name, value in (("a", 5_000), ("b", 500))]
    case = {
        "rule_files": [],
        "evaluation_interval": "15s",
        "tests": [{
            "interval": "15s",
            "input_series": series,
            "promql_expr_test": [{
                "expr": query.replace("<<.LabelMatchers>>", 'namespace="ranker",pod=~"a|b"'),
                "eval_time": "4m",
                "exp_samples": expected,
            }],
        }],
    }  # fmt: skip
    file = tmp_path / "case.yml"
    file.write_text(yaml.safe_dump(case), encoding="utf-8")
    command = [str(needed("promtool", "prometheus")), "test", "rules", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("shape", ["production", "gpu"])
def test_prometheus_scrapes_the_service_as_the_alerts_expect(shape: str) -> None:
    monitor = only(shape, "ServiceMonitor")["spec"]
    [endpoint] = monitor["endpoints"]
    service = only(shape, "Service")
    assert endpoint["path"] in ROUTES
    assert endpoint["port"] == "admin"
    assert "admin" in {one["name"] for one in service["spec"]["ports"]}
    assert endpoint["authorization"]["credentials"]["name"]  # the access file asks for a key
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    alerts = (ROOT / "deploy" / "prometheus" / "rules" / "alerts.yml").read_text(encoding="utf-8")
    assert f'up{{job="{service["metadata"]["labels"][monitor["jobLabel"]]}"}}' in alerts


def written(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_example_of_an_access_file_lets_callers_rank_and_prometheus_scrape() -> None:
    [text] = only("production", "ConfigMap", "ranker-access")["data"].values()
    feed, prometheus = read_access(text.encode()).callers
    assert {"rank", "write"} == set(feed.scopes)
    assert set(prometheus.scopes) == {"metrics"}


def test_the_example_of_signers_has_a_public_key(tmp_path: Path) -> None:
    for name, text in only("production", "ConfigMap", "ranker-signers")["data"].items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert len(read_signers(tmp_path)) == 1


def test_the_example_of_experiments_can_be_served() -> None:
    [text] = only("production", "ConfigMap", "ranker-experiments")["data"].values()
    [layer] = read_experiments(text.encode()).config.layers
    assert layer.defaults["track"] == DailySettings.model_fields["track"].default


@pytest.mark.parametrize("shape", ["production", "gpu"])
def test_the_daily_job_has_settings_of_the_loop_and_ends_as_its_statuses_ask(shape: str, tmp_path: Path) -> None:
    job = only(shape, "CronJob", "ranker-daily")["spec"]
    assert job["concurrencyPolicy"] == "Forbid"
    spec = job["jobTemplate"]["spec"]
    [one] = spec["template"]["spec"]["containers"]
    assert one["command"][:3] == ["python", "-m", "deploy.daily"]
    configuration = only(shape, "ConfigMap", "ranker-daily")["data"]
    daily = DailySettings.model_validate(tomllib.loads(configuration["daily.toml"]))
    assert daily.bundles == settings(shape).bundles.root
    writable = [mount["mountPath"] for mount in one["volumeMounts"] if not mount.get("readOnly")]
    for folder in (daily.data, daily.runs, daily.state, daily.bundles):
        assert str(folder.parent) in writable
    load_recipe(written(tmp_path, configuration["recipe.toml"]))
    failing = spec["podFailurePolicy"]["rules"][0]["onExitCodes"]
    assert failing["containerName"] == one["name"]
    assert {REFUSED, BUSY} <= set(failing["values"])
    assert FAILED not in failing["values"]  # a second call goes on with the failed step


def part(name: str) -> tuple[Manifest, dict[str, Any]]:
    """The Deployment of the sink or the guard, and its container."""
    deployment = only("guard", "Deployment", f"ranker-{name}")
    [one] = deployment["spec"]["template"]["spec"]["containers"]
    return deployment, one


def test_the_sink_and_the_guard_are_off_unless_they_are_asked_for() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    assert (values["sink"]["enabled"], values["guard"]["enabled"]) == (False, False)
    for shape in ("small", "production", "gpu"):
        assert [one["metadata"]["name"] for one in LOADED[shape] if one["kind"] == "Deployment"] == ["ranker"]


def test_the_sink_has_settings_and_the_secret_of_its_own_user() -> None:
    deployment, one = part("sink")
    environment = {variable["name"]: variable["value"] for variable in one["env"]}
    known = {f"RANKER_SINK__{name.upper()}" for name in SinkSettings.model_fields} | {"RANKER_SINK__URL_FILE"}
    assert environment.keys() <= known
    [secret] = [volume["secret"] for volume in deployment["spec"]["template"]["spec"]["volumes"] if "secret" in volume]
    [mount] = [mount for mount in one["volumeMounts"] if mount["name"] == "secrets"]
    [item] = secret["items"]
    assert environment["RANKER_SINK__URL_FILE"] == f"{mount['mountPath']}/{item['path']}"
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}  # one writer
    assert one["args"][0] == "sink"


def test_the_guard_can_edit_the_file_that_the_pods_read_and_nothing_else() -> None:
    deployment, one = part("guard")
    parser = argparse.ArgumentParser()
    guard.add_arguments(parser)
    options = parser.parse_args(one["args"][1:])
    mounts = {mount["name"]: mount for mount in one["volumeMounts"]}
    writable = {name for name, mount in mounts.items() if not mount.get("readOnly", False)}
    assert writable == {"tmp", "bundles"}
    served = settings("guard").experiments.file
    assert served is not None
    assert str(options.experiments.parent) == mounts["bundles"]["mountPath"]
    assert f"/srv/releases/{mounts['bundles']['subPath']}/{options.experiments.name}" == str(served)
    assert not settings("guard").bundles.root.is_relative_to(served.parent)
    assert str(options.data) == mounts["parquet"]["mountPath"] == part("sink")[1]["args"][-1]
    claims = {
        volume["name"]: volume["persistentVolumeClaim"]["claimName"]
        for volume in deployment["spec"]["template"]["spec"]["volumes"]
        if "persistentVolumeClaim" in volume
    }
    [bundles] = [volume for volume in pod("guard")["volumes"] if volume["name"] == "bundles"]
    assert claims == {"bundles": bundles["persistentVolumeClaim"]["claimName"], "parquet": "ranker-parquet"}
    assert (options.metrics_host, settings("guard").ranking_log.share) == ("0.0.0.0", 1)
    assert options.dry_run is False


@pytest.mark.parametrize("name", ["sink", "guard"])
def test_the_sink_and_the_guard_are_probed_scraped_and_let_in_as_the_alerts_expect(name: str) -> None:
    deployment, one = part(name)
    [port] = one["ports"]
    probes = [one[probe]["httpGet"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")]
    assert {(probe["path"], probe["port"]) for probe in probes} == {("/metrics", port["name"])}
    monitor, service = only("guard", "ServiceMonitor", f"ranker-{name}"), only("guard", "Service", f"ranker-{name}")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    policy = only("guard", "NetworkPolicy", f"ranker-{name}")["spec"]
    for selector in (
        deployment["spec"]["selector"]["matchLabels"], service["spec"]["selector"], policy["podSelector"]["matchLabels"]
    ):  # fmt: skip
        assert selector.items() <= labels.items()
        assert selector["app.kubernetes.io/component"] == name
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    [rule] = policy["ingress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": port["name"]}]
    assert bool(policy.get("egress")) == (name == "sink")
    [endpoint] = monitor["spec"]["endpoints"]
    assert endpoint["port"] in {one["name"] for one in service["spec"]["ports"]}
    job = service["metadata"]["labels"][monitor["spec"]["jobLabel"]]
    alerts = (ROOT / "deploy" / "prometheus" / "rules" / "alerts.yml").read_text(encoding="utf-8")
    assert f'up{{job="{job}"}}' in alerts


def test_a_gpu_pod_does_not_serve_without_its_gpu() -> None:
    assert settings("gpu").inference.provider == "cuda"
    assert container("gpu")["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert settings("production").inference.provider == "auto"


def test_images_are_those_of_the_dockerfile_with_the_version_of_the_project() -> None:
    stages = set(re.findall(r"^FROM \S+ AS (\S+)", DOCKERFILE, re.M))
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert chart["appVersion"] == __version__
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    for image in (values["image"], values["daily"]["image"], values["sink"]["image"]):
        assert image["repository"].removeprefix("ranker-") in stages
    assert container("small")["image"] == f"ranker-serve-cpu:{__version__}"
    assert "@sha256:" in container("production")["image"]
    assert VERSION.startswith("v")
