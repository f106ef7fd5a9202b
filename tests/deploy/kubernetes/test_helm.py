"""The chart through the real helm: it refuses wrong values, and copies alerts and dashboards as they are."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from contract.command_line import CommandError
from deploy.kubernetes.helm import Helm, find_helm
from deploy.kubernetes.rendering import CHART, RENDERED, SHAPES, manifests, render, without_copies

ROOT = Path(__file__).resolve().parents[3]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def helm() -> Helm:
    return find_helm()


@pytest.mark.parametrize("shape", SHAPES)
def test_rendered_examples_are_what_helm_makes_of_the_chart(helm: Helm, shape: str) -> None:
    assert without_copies(render(helm, shape)) == (RENDERED / f"{shape}.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("replica=3", "additional properties 'replica' not allowed"),
        ("settings.RANKER_LIMITS__DEADLINE_MS=250", "got number, want string"),
        ("settings.RANKER_HTTP__PORT=x", "RANKER_HTTP__PORT"),
        ("settings.PORT=x", "PORT"),
        ("image.digest=sha256:1", "does not match pattern"),
        ("networkPolicy.callers=null", "name the pods that may rank"),
        ("secret.settings.RANKER_EXPERIMENTS__OVERRIDE_SECRET=override", "name a Secret in secret.existing"),
        ("access.file=callers,monitoring.serviceMonitor.enabled=true", "Prometheus needs a key"),
        ("bundles.signers.a=PRIVATE", "/bundles/signers/a"),
        ("settings.RANKER_HTTP__DRAIN_DELAY_MS=null", "RANKER_HTTP__DRAIN_DELAY_MS"),
    ],
)
def test_wrong_values_are_refused_with_a_reason(helm: Helm, value: str, reason: str) -> None:
    with pytest.raises(CommandError, match=reason):
        helm.template(CHART, SHAPES["small"], "--set", value)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ("sink.enabled=false", "guard needs sink.enabled"),
        ("experiments.onVolume=", "guard needs experiments.onVolume"),
        ("experiments.file=x", "give file or onVolume, not both"),
        ("experiments.onVolume=experiments.yaml", "does not match pattern"),  # the guard needs a folder of its own
        ("bundles.source=image,bundles.image.reference=a,daily.enabled=false", "onVolume needs bundles.source: claim"),
        ("guard.every=often", "/guard/every"),
    ],
)
def test_a_guard_that_could_not_work_is_refused(helm: Helm, values: str, reason: str) -> None:
    with pytest.raises(CommandError, match=reason):
        helm.template(CHART, SHAPES["guard"], "--set", values)


def test_a_guard_that_only_watches_reads_the_experiments_of_the_config_map(helm: Helm) -> None:
    dry = ("--set", "experiments.onVolume=,experiments.file=x,guard.dryRun=true")
    found = manifests(helm.template(CHART, SHAPES["guard"], *dry))
    [guard] = [one for one in found if one["kind"] == "Deployment" and one["metadata"]["name"] == "ranker-guard"]
    [container] = guard["spec"]["template"]["spec"]["containers"]
    assert "--dry-run" in container["args"]
    assert {mount["name"] for mount in container["volumeMounts"] if not mount.get("readOnly")} == {"tmp"}


def test_a_longer_drain_makes_the_kubelet_wait_longer(helm: Helm) -> None:
    def grace(*values: str) -> int:
        found = manifests(helm.template(CHART, SHAPES["small"], *values))
        [deployment] = [one for one in found if one["kind"] == "Deployment"]
        return int(deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"])

    for name in ("RANKER_HTTP__DRAIN_TIMEOUT_MS", "RANKER_HTTP__DRAIN_WHILE_ASKED_MS"):
        assert grace("--set-string", f"settings.{name}=60000") >= grace("--set-string", f"settings.{name}=15000") + 45


def test_the_daily_training_is_refused_without_a_claim_for_its_bundles(helm: Helm) -> None:
    image = ("--set", "bundles.source=image,bundles.image.reference=registry.example/bundles:1")
    with pytest.raises(CommandError, match="daily needs bundles"):
        helm.template(CHART, SHAPES["production"], *image)
    [deployment] = [
        one for one in manifests(helm.template(CHART, SHAPES["small"], *image)) if one["kind"] == "Deployment"
    ]
    volumes = {volume["name"]: volume for volume in deployment["spec"]["template"]["spec"]["volumes"]}
    assert volumes["bundles"]["image"]["reference"] == "registry.example/bundles:1"


def test_alerts_and_dashboards_are_those_of_the_repository(helm: Helm) -> None:
    found = manifests("---\n".join(render(helm, "production")))
    rules = {one["metadata"]["name"]: one["spec"] for one in found if one["kind"] == "PrometheusRule"}
    files = sorted((ROOT / "deploy" / "prometheus" / "rules").glob("*.yml"))
    assert rules == {f"ranker-{path.stem}": yaml.safe_load(path.read_text(encoding="utf-8")) for path in files}
    boards = {
        name: text
        for one in found
        if one["kind"] == "ConfigMap" and "dashboard" in one["metadata"]["name"]
        for name, text in one["data"].items()
    }
    paths = sorted((ROOT / "deploy" / "grafana" / "dashboards").glob("*.json"))
    assert boards == {path.name: path.read_text(encoding="utf-8") for path in paths}
