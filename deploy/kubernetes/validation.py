"""Manifests against schemas: those of Kubernetes from a package, those of custom resources from this folder.

kubernetes-validate has no schema of the Prometheus operator's resources. `schemas/` has the fields that the chart uses
of them, written by hand from the operator's API reference.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import jsonschema
import kubernetes_validate

from deploy.kubernetes.rendering import Manifest

VERSIONS: Final = ("1.31", "1.37")
"""The oldest and the newest release of Kubernetes to validate for."""
_SCHEMAS: Final = Path(__file__).with_name("schemas")


def problems(manifest: Manifest) -> list[str]:
    """Return what schemas refuse about a manifest."""
    name = f"{manifest['kind']} {manifest['metadata']['name']}"
    own = _SCHEMAS / f"{manifest['kind']}.json"
    if manifest["apiVersion"].startswith("monitoring.coreos.com/"):
        validator = jsonschema.Draft202012Validator(json.loads(own.read_text(encoding="utf-8")))
        return [f"{name}: {error.json_path}: {error.message}" for error in validator.iter_errors(manifest)]
    return [problem for version in VERSIONS for problem in _of_kubernetes(manifest, version, name)]


def _of_kubernetes(manifest: Manifest, version: str, name: str) -> list[str]:
    try:
        kubernetes_validate.validate(manifest, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{name}, Kubernetes {version}: {error.json_path}: {error.message}"]
    return []
