"""The exporter writes bundles that follow the contract and that the service serves."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from contract.bundle import manifest as names
from contract.bundle.manifest import Manifest, digest_of, read_manifest
from contract.bundle.vocabulary import Vocabulary
from exporter.__main__ import main, seal_of
from exporter.bundle import write as writing
from exporter.bundle.golden import golden_rows, golden_tolerance
from exporter.bundle.release import Release
from exporter.bundle.write import write_bundle
from exporter.errors import ExportError
from exporter.export import Exported, export_run
from exporter.parity.verify import Parity, golden_scores
from exporter.signing import make_key
from service.bundles.bundle import load_bundle
from service.bundles.files import UntrustedBundleError
from service.inference.engine import OnnxEngine
from tests.support.references import reference_of
from tests.unit.exporter.fake_runs import ITEMS, USERS, config_of, write_run

pytestmark = [pytest.mark.onnx, pytest.mark.usefixtures("operators_read_once")]

ROOT = Path(__file__).parents[2]
SMALL = config_of("mgnm") | {"levels": 1, "rnn_width": 0}  # half the operators to export


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, operators_read_once: None) -> Exported:
    home = tmp_path_factory.mktemp("exported")
    return export_run(write_run(home / "run", "mgnm", SMALL), home / "bundles")


@pytest.fixture(scope="module")
def tabled(tmp_path_factory: pytest.TempPathFactory, operators_read_once: None) -> Exported:
    """The same run with a limit so low that its tables leave the graphs, and signed."""
    home = tmp_path_factory.mktemp("tabled")
    make_key(home / "key")
    seal = seal_of(home / "key")
    return export_run(write_run(home / "run", "mgnm", SMALL), home / "bundles", min_table_bytes=200, seal=seal)


@pytest.fixture(scope="module")
def manifest(exported: Exported) -> Manifest:
    return read_manifest(exported.bundle)


@pytest.fixture(scope="module")
def release(exported: Exported) -> Release:
    golden = golden_rows(exported.run)
    scores, _ = golden_scores(exported.run.model, exported.traced, golden)
    return Release(exported.run, exported.traced, exported.report, golden, scores)


def test_bundle_lies_where_model_and_version_say(exported: Exported, manifest: Manifest) -> None:
    assert exported.bundle.parts[-3:] == ("bundles", "mgnm", "1")
    assert (manifest.model, manifest.version) == ("mgnm", "1")


def test_manifest_names_every_file_with_its_digest(exported: Exported, manifest: Manifest) -> None:
    found = {path.name: digest_of(path.read_bytes()) for path in exported.bundle.iterdir()}
    del found[names.MANIFEST]
    assert found == manifest.files
    assert set(found) == {*names.REQUIRED_FILES, names.USERS, names.CATALOGUE, names.REFERENCE}


def test_the_service_reads_the_record_of_the_runs_validation(exported: Exported) -> None:
    assert load_bundle(exported.bundle, max_bytes=10_000_000).reference == reference_of()


def test_the_record_can_be_left_out(release: Release, tmp_path: Path) -> None:
    bundle = write_bundle(replace(release, has_reference=False), tmp_path)
    assert names.REFERENCE not in read_manifest(bundle).files
    assert load_bundle(bundle, max_bytes=10_000_000).reference is None


@pytest.mark.slow
def test_a_bundle_can_be_signed_by_its_export(exported: Exported, tabled: Exported) -> None:
    signers = tabled.bundle.parents[2] / "key.pub"
    assert load_bundle(tabled.bundle, max_bytes=10_000_000, signers=signers).tables
    with pytest.raises(UntrustedBundleError):
        load_bundle(exported.bundle, max_bytes=10_000_000, signers=signers)


def test_bundle_without_tables_keeps_the_older_contract(exported: Exported, manifest: Manifest) -> None:
    """A service that reads version 1 refuses a field that it does not know."""
    assert manifest.contract_version == names.OLDEST_CONTRACT_VERSION
    assert "tables" not in json.loads((exported.bundle / names.MANIFEST).read_bytes())


@pytest.mark.slow
def test_large_tables_are_files_that_the_manifest_describes(tabled: Exported) -> None:
    manifest = read_manifest(tabled.bundle)
    assert manifest.contract_version == 2
    assert {table.file for table in manifest.tables} == {name for name in manifest.files if name.startswith("table_")}
    for table in manifest.tables:
        found = np.load(tabled.bundle / table.file, allow_pickle=False)
        assert (found.dtype.name, found.shape) == (table.dtype, table.shape)
        assert not (tabled.bundle / table.file).stat().st_mode & 0o222
    shared = [table for table in manifest.tables if table.graphs == ("encode", "score")]
    assert [table.shape[0] for table in shared] == [ITEMS + 1]
    assert [table.shape[0] for table in manifest.tables_of("encode")] == [ITEMS + 1, USERS + 1]


def test_manifest_says_what_the_run_was(manifest: Manifest) -> None:
    assert (manifest.item_count, manifest.user_count) == (ITEMS, USERS)
    assert manifest.sequence.names == ("items", "user")
    assert manifest.state == ("interests",)
    assert manifest.explanation == ("level",)
    assert manifest.metrics == {"ndcg@10": 0.25}
    assert manifest.provenance.run_id == "run"
    assert manifest.provenance.recipe_digest == "0123456789ab"
    assert manifest.parameters > 0


def test_graphs_hold_all_weights_and_standard_operators_only(exported: Exported) -> None:
    for name in (names.ENCODE, names.SCORE):
        proto = onnx.load(exported.bundle / name, load_external_data=False)
        assert not any(onnx.external_data_helper.uses_external_data(tensor) for tensor in proto.graph.initializer)
        assert {node.domain for node in proto.graph.node} == {""}
        assert not proto.functions


def test_service_loads_the_bundle_and_gets_the_golden_scores(exported: Exported, manifest: Manifest) -> None:
    engine = OnnxEngine(load_bundle(exported.bundle, max_bytes=1 << 30), "cpu", threads=1)
    assert engine.verify_golden() <= manifest.golden_tolerance
    engine.warm_up([1, 4])


def test_golden_rows_cover_empty_short_and_full_histories(exported: Exported) -> None:
    with np.load(exported.bundle / names.GOLDEN, allow_pickle=False) as arrays:
        lengths = (arrays["encode.items"] > 0).sum(axis=1)
        counts = np.bincount(arrays["rows"])
        users = arrays["encode.user"]
    length = exported.run.sequence.length
    assert {0, 1, 2, length - 1, length} <= set(lengths.tolist())
    assert len(set(counts.tolist())) > 2
    assert (users == 0).any()
    assert (users > 0).any()


def test_vocabularies_and_popularity_are_those_of_the_run(exported: Exported) -> None:
    assert Vocabulary.parse((exported.bundle / names.ITEMS).read_bytes()).ids == exported.run.items.ids
    counts = np.load(exported.bundle / names.POPULARITY, allow_pickle=False)
    assert counts.dtype == np.float32
    assert counts.shape == (ITEMS + 1,)


def test_model_card_tells_data_protocol_metrics_recipe_and_limits(exported: Exported) -> None:
    card = (exported.bundle / names.MODEL_CARD).read_text()
    for heading in ("Intended use", "Data", "Protocol and metrics", "Recipe", "Limits", "Parity"):
        assert f"## {heading}" in card
    for fact in ("made-up", "leave one out", "ndcg@10", "0.2500", "Serving class B", "0123456789ab"):
        assert fact in card
    assert "Popularity and chance are not recorded" in card  # an older version evaluated the run


def test_bundle_is_read_and_run_without_torch(exported: Exported) -> None:
    """The image that serves has neither torch nor onnx."""
    program = (
        "import sys\n"
        "for name in ('torch', 'onnx', 'onnxscript', 'models', 'exporter'): sys.modules[name] = None\n"
        "from pathlib import Path\n"
        "from service.bundles.bundle import load_bundle\n"
        "from service.inference.engine import OnnxEngine\n"
        "bundle = load_bundle(Path(sys.argv[1]), max_bytes=1 << 30)\n"
        "assert OnnxEngine(bundle, 'cpu', threads=1).verify_golden() <= bundle.manifest.golden_tolerance\n"
    )
    subprocess.run([sys.executable, "-c", program, str(exported.bundle)], cwd=ROOT, check=True, timeout=60)


def test_versions_count_up_and_are_never_overwritten(release: Release, tmp_path: Path) -> None:
    assert write_bundle(release, tmp_path).name == "1"
    assert write_bundle(release, tmp_path, "7").name == "7"
    assert write_bundle(release, tmp_path, "v2-beta").name == "v2-beta"
    assert write_bundle(release, tmp_path).name == "8"
    before = (tmp_path / "mgnm" / "7" / names.MANIFEST).read_bytes()
    with pytest.raises(ExportError, match="exists already"):
        write_bundle(release, tmp_path, "7")
    assert (tmp_path / "mgnm" / "7" / names.MANIFEST).read_bytes() == before
    assert not list((tmp_path / "mgnm").glob(".*"))


def test_version_without_a_manifest_is_not_taken_over(release: Release, tmp_path: Path) -> None:
    (tmp_path / "mgnm" / "3").mkdir(parents=True)
    assert write_bundle(release, tmp_path).name == "4"
    with pytest.raises(ExportError, match="exists already"):
        write_bundle(release, tmp_path, "3")


@pytest.mark.parametrize("version", ["../1", "", "a/b", ".hidden", "x" * 33])
def test_version_that_is_no_plain_name_is_refused(release: Release, tmp_path: Path, version: str) -> None:
    with pytest.raises(ExportError, match="not a valid name for a version"):
        write_bundle(release, tmp_path, version)
    assert not list(tmp_path.iterdir())


def test_the_folder_of_the_tracks_is_not_a_version(release: Release, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="'tracks' cannot be a version"):
        write_bundle(release, tmp_path, "tracks")


def test_manifest_is_written_last_into_a_directory_that_is_not_yet_a_version(
    release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path] = []

    def last(directory: Path, manifest: Manifest) -> None:
        assert set(manifest.files) == {path.name for path in directory.iterdir()}
        assert directory.name.startswith(".")
        assert not (tmp_path / "mgnm" / "1").exists()
        seen.append(directory)
        names.write_manifest(directory, manifest)

    monkeypatch.setattr(writing, "write_manifest", last)
    target = write_bundle(release, tmp_path)
    assert seen
    assert not seen[0].exists()
    assert read_manifest(target).version == "1"


def test_interrupted_export_leaves_nothing_behind(
    release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(directory: Path, manifest: Manifest) -> None:
        assert not (directory / names.MANIFEST).exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(writing, "write_manifest", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_bundle(release, tmp_path)
    assert not list((tmp_path / "mgnm").iterdir())


def test_bundle_can_be_read_by_another_user(exported: Exported) -> None:
    assert exported.bundle.stat().st_mode & 0o777 == 0o755


def test_place_that_cannot_be_written_is_one_line(release: Release, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ExportError, match="file"):
        write_bundle(release, tmp_path / "file")


@pytest.mark.parametrize(
    ("measured", "largest", "expected"),
    [(1e-7, 1.0, 1e-4), (2e-5, 1.0, 4e-4), (1e-7, 100.0, 1e-3), (9e-5, 1e6, 1e-2)],
)
def test_golden_tolerance_follows_parity_and_the_size_of_scores(
    measured: float, largest: float, expected: float
) -> None:
    report = [Parity("case", 1, 1, 0.0, measured, 0.0)]
    assert golden_tolerance(report, np.array([0.5, -largest], dtype=np.float32)) == pytest.approx(expected)


def test_command_line_prints_the_parity_table_and_the_bundle(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", "popularity")
    assert main([str(run), "--out", str(tmp_path / "bundles"), "--version", "5"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.splitlines()[0].split() == ["case", "rows", "candidates", "state", "scores", "explanation"]
    assert f"{tmp_path / 'bundles' / 'popularity' / '5'}: encode" in said.out
    assert names.USERS not in read_manifest(tmp_path / "bundles" / "popularity" / "5").files


def test_command_line_says_in_one_line_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "nowhere"), "--out", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [f"exporter: {tmp_path / 'nowhere'}: no such run directory"]


def test_command_line_refuses_a_taken_version_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", "popularity")
    (tmp_path / "bundles" / "popularity" / "1").mkdir(parents=True)
    assert main([str(run), "--out", str(tmp_path / "bundles"), "--version", "1"]) == 1
    assert "exists already" in capsys.readouterr().err


def test_catalogue_keeps_titles_as_they_are(exported: Exported) -> None:
    titles = json.loads((exported.bundle / names.CATALOGUE).read_bytes())["items"]
    assert titles["film-1"] == {"title": "Film film-1 | part"}
