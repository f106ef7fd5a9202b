from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from contract.experiments.file import read_experiments
from contract.experiments.problems import ExperimentsError
from service.command_line import main
from service.experiments.check import check_experiments
from tests.support.experiment_files import NOW_MS, servable

E0 = "layers__0__experiments__0"


class Files:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, name: str, document: object) -> Path:
        path = self._folder / name
        text = document if isinstance(document, str) else yaml.safe_dump(document, sort_keys=False)
        path.write_text(text, encoding="utf-8")
        return path

    def check(self, *documents: object) -> tuple[int, str]:
        paths = [self.write(f"{place}.yaml", document) for place, document in enumerate(documents)]
        status, lines = check_experiments(paths, NOW_MS)
        return status, "\n".join(lines)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def _line_of(path: Path, text: str) -> int:
    return next(number for number, line in enumerate(path.read_text().splitlines(), 1) if text in line)


def test_allowed_edit_ends_with_status_0_and_its_changes(files: Files) -> None:
    status, said = files.check(servable(), servable(**{f"{E0}__slots": [[0, 2000], [3000, 9000]]}))
    assert status == 0
    first, last = said.splitlines()
    assert first.startswith("~ layers.rank.experiments.pyramid-vs-mgnm.slots:")
    assert "can be accepted (changes: 1, digest " in last


def test_refused_edit_ends_with_status_1_its_line_and_its_field(files: Files, tmp_path: Path) -> None:
    status, said = files.check(servable(), servable(**{f"{E0}__salt": "other"}))
    line = _line_of(tmp_path / "1.yaml", "salt: other")
    assert status == 1
    assert said == f"{tmp_path}/1.yaml: line {line}: rank.pyramid-vs-mgnm: salt cannot change once it runs"


def test_file_in_json_is_told_with_lines_too(files: Files, tmp_path: Path) -> None:
    document = servable(**{f"{E0}__salt": "other"})
    text = json.dumps(document, indent=2, default=lambda time: time.strftime("%Y-%m-%dT%H:%M:%SZ"))
    errors = files.check(servable(), text)[1]
    line = _line_of(tmp_path / "1.yaml", '"other"')
    assert errors.startswith(f"{tmp_path}/1.yaml: line {line}: ")


def interleaving(key: str, params: dict[str, Any]) -> dict[str, Any]:
    """An experiment that interleaves, in slots that no other one has."""
    one: dict[str, Any] = {**servable()["layers"][0]["experiments"][0], "key": key, "salt": key, "kind": "interleave"}
    one["arms"][1]["params"] = params
    return one


THREE_ARMS = servable()["layers"][0]["experiments"][1]["arms"]

REFUSED_ALONE: dict[str, tuple[dict[str, Any], str, str]] = {
    "format": ({f"{E0}__status": "paused"}, "status: paused", "layers.0.experiments.0.status: "),
    "interleaving of three models": (
        {f"{E0}__kind": "interleave", f"{E0}__arms": THREE_ARMS, "overrides__units": {}}, "arms:",
        "rank.pyramid-vs-mgnm: interleaving takes 2 arms, not 3",
    ),
    "interleaving of one model": (
        {f"{E0}__kind": "interleave", f"{E0}__arms__1__params": {}, "overrides__units": {}}, "arms:",
        "rank.pyramid-vs-mgnm: both arms name the same model, so there is nothing to interleave",
    ),
    "interleaving without a model": (
        {"layers__1__experiments": [interleaving("look", {"diversity": 0.5})]}, "kind: interleave",
        "blend.look: only a layer with a model can interleave",
    ),
    "arm with the name of all users": (
        {f"{E0}__kind": "interleave", f"{E0}__arms__1__key": "interleaved", "overrides__units": {}}, "arms:",
        "rank.pyramid-vs-mgnm: 'interleaved' is the arm of the users, not of a model",
    ),
    "parameter that nothing reads": (
        {"layers__0__defaults__top_k": 2},
        "top_k: 2",
        "rank: nothing reads param top_k: a layer with a model has only model, version, track, cold, targets and rules",
    ),
    "misspelt parameter": (
        {"layers__0__defaults": {"model": "mgnm", "verison": "7"}, f"{E0}__arms__1__params": {"model": "x"}},
        "verison: ",
        "rank: nothing reads param verison",
    ),
    "unknown way to place new items": (
        {"layers__0__defaults__cold": "first"}, "cold: first", "rank: param cold must be last, prior or interleave"
    ),
    "unknown way to place new items in an arm": (
        {"layers__0__defaults__cold": "last", f"{E0}__arms__1__params": {"model": "x", "cold": "first"}},
        "cold: first", "rank.pyramid-vs-mgnm:treatment: param cold must be last, prior or interleave",
    ),
    "weight of a target that is not a number": (
        {"layers__0__defaults__targets": {"click": "much"}}, "targets:",
        "rank: param targets: click: the weight must be a number",
    ),
    "weight of a target that is infinite, in an arm": (
        {"layers__0__defaults__targets": {}, f"{E0}__arms__1__params": {"targets": {"like": math.inf}}}, "like: .inf",
        "not plain data: layers.0.experiments.0.arms.1.params.targets.like is not a finite number",
    ),
    "weight of a target that is too large, in an arm": (
        {"layers__0__defaults__targets": "", f"{E0}__arms__1__params": {"model": "x", "targets": "like=1e7"}},
        "targets: like=1e7", "rank.pyramid-vs-mgnm:treatment: param targets: like: the weight must be finite, and from",
    ),
    "name that no target has": (
        {"layers__0__defaults__targets": {"Click now": 1.0}}, "targets:",
        "rank: param targets: 'Click now' is not a name of a target",
    ),
    "set of rules that the file does not have": (
        {"layers__0__defaults__rules": "", f"{E0}__arms__1__params": {"model": "x", "rules": "spread"}},
        "rules: spread", "rank.pyramid-vs-mgnm:treatment: param rules 'spread' is not a set of rules of this file",
    ),
    "rule with a number out of range": (
        {"rules": {"spread": [{"diversity": {"by": "author", "decay": 2}}]}},
        "decay: 2", "rules.spread.0.diversity.decay: Input should be less than or equal to 1",
    ),
    "version that YAML reads as a number": (
        {"layers__0__defaults__version": 1.1, f"{E0}__arms__1__params__version": 1.2},
        "version: 1.1",
        "rank: param version must be text: write it in quotes",
    ),
    "version without a model": (
        {"layers__1__defaults": {"diversity": 0.5, "ver": 1}, "layers__0__defaults": {"model": "mgnm"},
         "layers__1__defaults__version": "3", f"{E0}__arms__1__params": {"model": "x"}},
        "version: ",
        "blend: nothing reads param version in a layer without a model",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED_ALONE)
def test_file_that_asks_for_what_is_not_done_is_refused_with_its_line(name: str, files: Files, tmp_path: Path) -> None:
    edits, text, problem = REFUSED_ALONE[name]
    status, errors = files.check(servable(**edits))
    assert status == 1
    assert errors.startswith(f"{tmp_path}/0.yaml: line {_line_of(tmp_path / '0.yaml', text)}: {problem}")


def test_file_without_any_model_is_refused(files: Files) -> None:
    document = servable(overrides__units={})
    document["layers"] = document["layers"][1:]
    assert "one layer must name a model" in files.check(document)[1]


def test_layer_without_a_model_may_hold_parameters_for_the_caller(files: Files) -> None:
    assert files.check(servable(layers__1__defaults={"diversity": 0.0, "top_k": 2}))[0] == 0


def test_interleaving_of_two_models_can_be_accepted(files: Files) -> None:
    assert files.check(servable(**{f"{E0}__kind": "interleave"}))[0] == 0


def test_interleaving_that_is_stopped_may_stay_as_a_record(files: Files) -> None:
    three = {"layers__0__experiments__1__kind": "interleave", "layers__0__experiments__1__status": "stopped"}
    assert files.check(servable(**three))[0] == 0


def test_old_file_that_this_version_would_not_accept_can_still_be_followed(files: Files) -> None:
    stopped = {f"layers__0__experiments__{place}__status": "stopped" for place in (0, 1)}
    assert files.check(servable(layers__0__defaults__top_k=2), servable(**stopped))[0] == 0


def test_byte_order_mark_and_windows_line_ends_change_nothing() -> None:
    text = yaml.safe_dump(servable())
    plain = read_experiments(text.encode())
    assert read_experiments(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode()).digest == plain.digest
    with pytest.raises(ExperimentsError, match=r"line \d+: layers.0.experiments.0.status"):
        read_experiments(text.replace("status: running", "status: paused", 1).replace("\n", "\r\n").encode())


def test_command_line_needs_no_settings(
    files: Files, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANKER_MISSPELT", "1")
    good, bad = files.write("good.yaml", servable()), files.write("bad.yaml", "schema: [")
    assert main(["--check-experiments", str(good)]) == 0
    assert main(["--check-experiments", str(bad), str(good)]) == 1
    assert f"{bad}: line 2: did not find" in capsys.readouterr().err
    assert main(["--check-experiments", str(good.parent / "nowhere.yaml")]) == 1
    assert main(["--check-experiments", *[str(good)] * 3]) == 2
