"""Exemplars in the OpenMetrics format: the latest of each bucket, over all processes."""

from __future__ import annotations

from prometheus_client.openmetrics.parser import text_string_to_metric_families

from service.metrics import Metrics

DURATION = "ranker_request_duration_seconds"


def exemplars(text: str) -> dict[str, tuple[str, float]]:
    """Return trace id and value by the upper bound of the bucket."""
    return {
        sample.labels["le"]: (sample.exemplar.labels["trace_id"], sample.exemplar.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.exemplar and family.name == DURATION
    }


def test_the_latest_trace_of_each_bucket_is_shown_whichever_process_had_it() -> None:
    one, other = Metrics(), Metrics()
    for metrics, seconds, trace_id in ((one, 0.004, "a1"), (other, 0.004, "b1"), (one, 0.4, "a2"), (one, 99, "a3")):
        metrics.request_finished("/rank", 200, "control", seconds)
        metrics.traced("/rank", 200, "control", seconds, trace_id)
    one.traced("/rank", 503, "control", 0.1, "refused")
    text = one.render_openmetrics([other.dump()]).decode()
    assert exemplars(text) == {"0.005": ("b1", 0.004), "0.5": ("a2", 0.4), "+Inf": ("a3", 99.0)}
    assert "# {" not in one.render([other.dump()]).decode()
