"""One exported bundle that scores new items, for every test of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from contract.bundle.context import ContextSpec
from exporter.export import export_run
from tests.unit.exporter.fake_runs import config_of, write_run
from tests.unit.models.cases import CONTEXT

CONFIG = config_of("fmlp") | {"blocks": 1, "side": ["genres", "year"], "out_side": True, "id_dropout": 0.2}
PRIOR = {"quantile": 0.75, "clicks": 12, "shown": 480}
GENRES, YEARS = [f"genre {code}" for code in range(1, 6)], [str(1990 + code) for code in range(1, 11)]


def new_items_run(directory: Path, context: tuple[ContextSpec, ...] = ()) -> Path:
    """Write a run whose model describes new items, with the names of its features and a prior."""
    run = write_run(directory, "fmlp", CONFIG, context=context)
    described = {
        "genres": {"cardinality": 6, "width": 3, "names": ["", *GENRES]},
        "year": {"cardinality": 11, "width": 1, "names": ["", *YEARS]},
    }
    (run / "features.json").write_text(json.dumps(described))
    facts = json.loads((run / "run.json").read_text()) | {"new_item_prior": PRIOR}
    (run / "run.json").write_text(json.dumps(facts))
    return run


@pytest.fixture(scope="session")
def new_items_bundle(tmp_path_factory: pytest.TempPathFactory, operators_read_once: None) -> Path:
    home = tmp_path_factory.mktemp("new-items")
    return export_run(new_items_run(home / "run"), home / "bundles", min_table_bytes=1_000).bundle


@pytest.fixture(scope="session")
def context_bundle(tmp_path_factory: pytest.TempPathFactory, operators_read_once: None) -> Path:
    """Export a bundle that reads the context of requests."""
    home = tmp_path_factory.mktemp("in-context")
    run = write_run(home / "run", "fmlp", CONFIG, context=CONTEXT)
    return export_run(run, home / "bundles", min_table_bytes=1_000).bundle


@pytest.fixture(scope="session")
def new_items_in_context_bundle(tmp_path_factory: pytest.TempPathFactory, operators_read_once: None) -> Path:
    """Export a bundle that reads the context of requests, and scores new items in it: five graphs instead of two."""
    home = tmp_path_factory.mktemp("new-in-context")
    return export_run(new_items_run(home / "run", CONTEXT), home / "bundles", min_table_bytes=1_000).bundle
