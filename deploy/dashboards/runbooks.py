"""The address of each alert's section in the runbook, as the alert rules name it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import yaml

RULES = Path(__file__).resolve().parents[1] / "prometheus" / "rules"


def runbook(alert: str) -> str:
    """Return the `runbook_url` of an alert.

    Raises:
        KeyError: no rule has this name.
    """
    return _addresses()[alert]


@cache
def _addresses() -> dict[str, str]:
    documents = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(RULES.glob("*.yml"))]
    rules = [rule for document in documents for group in document["groups"] for rule in group["rules"]]
    return {rule["alert"]: rule["annotations"]["runbook_url"] for rule in rules if "alert" in rule}
