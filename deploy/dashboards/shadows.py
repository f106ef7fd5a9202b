"""The row of shadows: how a bundle that no user sees would have ranked."""

from __future__ import annotations

from deploy.dashboards.panels import Panel, Query, Row, of_service, one, rate

_PAIR = "served, shadow"
_NAMES = "{{served}}, {{shadow}}"
_OF_MODEL = 'served=~"$model@.*"'


def _mean(histogram: str, *matchers: str) -> str:
    count = rate(f"{histogram}_count", _PAIR, _OF_MODEL, *matchers)
    return f"{rate(f'{histogram}_sum', _PAIR, _OF_MODEL, *matchers)} / {count}"


def _sum(side: str) -> str:
    return rate("ranker_shadow_score_difference_sum", _PAIR, _OF_MODEL, f'side="{side}"')


_COUNT = rate("ranker_shadow_score_difference_count", _PAIR, _OF_MODEL)
_SHIFT = f"({_sum('above')} - {_sum('below')}) / {_COUNT}"
_SQUARES = rate("ranker_shadow_score_difference_squares_total", _PAIR, _OF_MODEL)
_SPREAD = f"sqrt(clamp_min({_SQUARES} / {_COUNT} - ({_SHIFT}) ^ 2, 0))"


def _slowest(side: str) -> str:
    buckets = of_service("ranker_shadow_duration_seconds_bucket", _OF_MODEL, f'side="{side}"')
    return f"histogram_quantile(0.99, sum by ({_PAIR}, le) (rate({buckets}[$__rate_interval])))"


SHADOWS = Row(
    "Shadows",
    (
        Panel(
            "Rank correlation",
            "Mean correlation of both orders of a ranking: 1 is the same order, 0 unrelated.",
            one(f"1 - {_mean('ranker_shadow_rank_distance')}", _NAMES),
            top=1,
            signed=True,
        ),
        Panel(
            "Overlap of the best 10",
            "Mean share of the best 10 candidates that are among the best 10 of both.",
            one(_mean("ranker_shadow_overlap"), _NAMES),
            "percentunit",
            top=1,
        ),
        Panel(
            "Scores, from the served ones",
            "Mean and standard deviation of the shadow's score less the served one.",
            (Query(_SHIFT, f"{_NAMES} mean"), Query(_SPREAD, f"{_NAMES} deviation")),
            signed=True,
        ),
        Panel(
            "Latency, p99",
            "Time of the run that scored a ranking, on each side; batches differ in size.",
            (Query(_slowest("served"), f"{_NAMES}: served"), Query(_slowest("shadow"), f"{_NAMES}: shadow")),
            "s",
        ),
        Panel(
            "Compared, dropped, failed",
            "Rankings of the sample, per second.",
            (
                Query(rate("ranker_shadow_rankings_total", _PAIR, _OF_MODEL), f"{_NAMES} compared"),
                Query(
                    rate("ranker_shadow_dropped_total", f"{_PAIR}, reason", _OF_MODEL),
                    f"{_NAMES} dropped: {{{{reason}}}}",
                ),
                Query(rate("ranker_shadow_failures_total", _PAIR, _OF_MODEL), f"{_NAMES} failed"),
            ),
            "ops",
            runbook=("RankerShadowFailing",),
        ),
    ),
)
