"""Alerts travel from a real Prometheus through a real Alertmanager to the receiver of their severity."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.alertmanager_server import Alertmanager
from tests.support.prometheus_server import Prometheus
from tests.support.redis_server import free_port

pytestmark = [pytest.mark.prometheus, pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture
def alertmanager() -> Iterator[Alertmanager]:
    server = Alertmanager()
    try:
        yield server
    finally:
        server.close()


def _alert(name: str, severity: str, **labels: str) -> dict[str, str]:
    return {"alertname": name, "severity": severity, **labels}


def _names(messages: list[dict[str, Any]]) -> set[str]:
    return {alert["labels"]["alertname"] for message in messages for alert in message["alerts"]}


def test_prometheus_sends_what_fires_with_its_runbook(alertmanager: Alertmanager) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    prometheus = Prometheus(nowhere, nowhere, alertmanager.address)
    try:
        messages = alertmanager.received.messages
        alertmanager.wait_until(lambda: "heartbeat" in messages, "a heartbeat")
    finally:
        prometheus.close()
    (alert,) = messages["heartbeat"][0]["alerts"]
    assert alert["labels"]["alertname"] == "RankerHeartbeat"
    assert alert["annotations"]["runbook_url"].endswith("/alerts.md#rankerheartbeat")


def test_a_page_and_a_ticket_go_to_receivers_of_their_own(alertmanager: Alertmanager) -> None:
    alertmanager.post(_alert("RankerErrors", "page", route="/rank"), _alert("RankerSpoolDamaged", "ticket"))
    messages = alertmanager.received.messages
    alertmanager.wait_until(lambda: {"page", "ticket"} <= messages.keys(), "both messages")
    assert _names(messages["page"]) == {"RankerErrors"}
    assert _names(messages["ticket"]) == {"RankerSpoolDamaged"}


def test_replicas_of_one_problem_share_a_message(alertmanager: Alertmanager) -> None:
    alertmanager.post(*(_alert("RankerNotReady", "page", instance=name) for name in "abc"))
    messages = alertmanager.received.messages
    # Without a wait of the group, the first message may leave before all three have arrived; the next one has them all.
    alertmanager.wait_until(lambda: any(len(one["alerts"]) == 3 for one in messages.get("page", [])), "all in one")


def test_the_fastest_burn_rate_silences_the_slower_ones_of_its_route_only(alertmanager: Alertmanager) -> None:
    alertmanager.post(
        _alert("RankerErrors", "page", route="/rank", burn="14.4"),
        _alert("RankerErrors", "page", route="/rank", burn="6"),
        _alert("RankerErrors", "ticket", route="/rank", burn="1"),
        _alert("RankerErrors", "ticket", route="/feedback", burn="1"),
        _alert("RankerSlow", "ticket", burn="1"),
    )
    wanted = {
        ("RankerErrors", "/rank", "14.4"): "active",
        ("RankerErrors", "/rank", "6"): "suppressed",
        ("RankerErrors", "/rank", "1"): "suppressed",
        ("RankerErrors", "/feedback", "1"): "active",
        ("RankerSlow", "1"): "active",
    }
    alertmanager.wait_until(lambda: alertmanager.states() == wanted, f"{wanted}")


def test_effects_of_a_greater_fault_are_silent(alertmanager: Alertmanager) -> None:
    alertmanager.post(
        _alert("RankerTargetDown", "page", instance="a"),
        _alert("RankerLogLinesDropped", "ticket", instance="a"),
        _alert("RankerLogLinesDropped", "ticket", instance="b"),
        _alert("RankerStoreDown", "page", instance="b", kind="reads"),
        _alert("RankerDegraded", "page", reason="store_unavailable", burn="14.4"),
        _alert("RankerDegraded", "page", reason="popularity", burn="14.4"),
        _alert("RankerExposuresDroppedUnevenly", "page", experiment="e"),
        _alert("RankerExposuresDropped", "ticket", experiment="e", variant="control"),
    )
    wanted = {
        ("RankerTargetDown", "a"): "active",
        ("RankerLogLinesDropped", "a"): "suppressed",
        ("RankerLogLinesDropped", "b"): "active",
        ("RankerStoreDown", "b", "reads"): "active",
        ("RankerDegraded", "14.4", "store_unavailable"): "suppressed",
        ("RankerDegraded", "14.4", "popularity"): "active",
        ("RankerExposuresDroppedUnevenly", "e"): "active",
        ("RankerExposuresDropped", "control", "e"): "suppressed",
    }
    alertmanager.wait_until(lambda: alertmanager.states() == wanted, f"{wanted}")
