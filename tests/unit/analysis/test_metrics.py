from __future__ import annotations

from analysis.metrics import BY_NAME, MEANS, METRICS


def test_names_are_unique() -> None:
    assert len(BY_NAME) == len(METRICS)


def test_a_ratio_reads_columns_of_mean_metrics() -> None:
    ratios = [metric for metric in METRICS if metric.kind == "ratio"]
    assert [metric.name for metric in ratios] == ["finish_rate", "like_rate", "follow_rate"]
    assert {column for metric in ratios for column in metric.columns} <= set(MEANS)


def test_a_mean_reads_the_column_of_its_name() -> None:
    assert all(BY_NAME[name].columns == (name,) for name in MEANS)


def test_three_primaries_and_a_guardrail_that_must_not_rise() -> None:
    assert [metric.name for metric in METRICS if metric.role == "primary"] == [
        "active_days",
        "stay_duration",
        "playtime",
    ]
    assert [(metric.name, metric.direction) for metric in METRICS if metric.role == "guardrail"] == [
        ("dislike", "down")
    ]


def test_heavy_tails_are_winsorised() -> None:
    assert {metric.name for metric in METRICS if metric.winsorised} == {"playtime", "stay_duration", "comment", "share"}
