"""The value files, and the manifests that helm makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

from deploy.kubernetes.helm import Helm

FOLDER: Final = Path(__file__).resolve().parent
CHART: Final = FOLDER / "chart"
RENDERED: Final = FOLDER / "rendered"
_VALUES: Final = FOLDER / "values"
SHAPES: Final = {
    "small": [_VALUES / "small.yaml"],
    "production": [_VALUES / "production.yaml"],
    "guard": [_VALUES / "production.yaml", _VALUES / "guard.yaml"],
    "gpu": [_VALUES / "production.yaml", _VALUES / "gpu.yaml"],
}
"""The value files of each kind of release."""
_COPIES: Final = "# Source: ranker/templates/copies.yaml"
_NOTE: Final = "# Written by `make helm-check RENDER=1`. Alerts and dashboards, which the chart copies, are left out.\n"

Manifest = dict[str, Any]  # YAML


def render(helm: Helm, shape: str) -> list[str]:
    """Return the documents of a release as text.

    Raises:
        CommandError: helm refuses the chart or the values.
    """
    documents = helm.template(CHART, SHAPES[shape]).split("\n---\n")
    return [document.removeprefix("---\n").strip() + "\n" for document in documents]


def without_copies(documents: list[str]) -> str:
    """Return the text that is kept under version control."""
    return _NOTE + "---\n" + "---\n".join(one for one in documents if not one.startswith(_COPIES))


def manifests(text: str) -> list[Manifest]:
    """Return the manifests of a text."""
    return [document for document in yaml.safe_load_all(text) if document]
