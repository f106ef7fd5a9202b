"""The row of how far scores and inputs are from what they were."""

from __future__ import annotations

from deploy.dashboards.panels import MODEL, Panel, Query, Row, of_service, one, rate

_ITEMS = "ranker_drift_items_total"
_OBSERVED = "ranker_drift_observations_total"


def _unknown(kind: str) -> Query:
    matchers = MODEL, f'kind="{kind}"'
    part, whole = rate(_ITEMS, "bundle", *matchers, 'known="no"'), rate(_ITEMS, "bundle", *matchers)
    return Query(f"{part} / {whole}", f"{{{{bundle}}}} {kind}s")


def _expected(kind: str) -> Query:
    share = of_service("ranker_drift_reference_unknown_share", MODEL, f'kind="{kind}"')
    return Query(f"max by (bundle) ({share})", f"{{{{bundle}}}} {kind}s on validation")


def _from_reference(of: str) -> str:
    """Return the share of each bucket, less its share of the bundle's reference."""
    matchers = MODEL, f'of="{of}"'
    shares = f"{rate(_OBSERVED, 'bundle, up_to', *matchers)} / on (bundle) group_left () " + rate(
        _OBSERVED, "bundle", *matchers
    )
    expected = f"max by (bundle, up_to) ({of_service('ranker_drift_reference_share', *matchers)})"
    return f"{shares} - on (bundle, up_to) {expected}"


DRIFT = Row(
    "Drift",
    (
        Panel(
            "Distance from a reference",
            "Population stability index of 10 minutes: above 0.25 from earlier traffic, the input has changed.",
            one(
                f"max by (bundle, of, reference) ({of_service('ranker_drift_psi', MODEL)})",
                "{{bundle}} {{of}}, {{reference}}",
            ),
            runbook=("RankerDrift",),
        ),
        Panel(
            "Share of unknown items",
            "Candidates and behaviours that the bundle does not know.",
            (_unknown("candidate"), _unknown("behaviour"), _expected("candidate"), _expected("behaviour")),
            "percentunit",
            top=1,
            runbook=("RankerDrift",),
        ),
        Panel(
            "Scores, from the reference",
            "Share of each bucket of scores, less its share on validation (on golden rows for older bundles).",
            one(_from_reference("score"), "{{bundle}} up to {{up_to}}"),
            "percentunit",
            signed=True,
        ),
        Panel(
            "Lengths of histories, from the reference",
            "Share of each bucket of lengths, less its share on validation (on golden rows for older bundles).",
            one(_from_reference("length"), "{{bundle}} up to {{up_to}}"),
            "percentunit",
            signed=True,
        ),
        Panel(
            "Ages",
            "Rankings by seconds since the newest behaviour that the model read.",
            one(rate(_OBSERVED, "bundle, up_to", MODEL, 'of="age"'), "{{bundle}} up to {{up_to}}"),
            "ops",
        ),
    ),
)
