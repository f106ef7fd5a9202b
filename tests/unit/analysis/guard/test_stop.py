from pathlib import Path

import pytest
import yaml

from analysis.guard import stop as stop_module
from analysis.guard.stop import stop
from contract.command_line import CommandError
from contract.experiments.history import ExperimentFile
from contract.experiments.parse import parse_experiments
from contract.experiments.ramps import propose
from deploy.experiments import current

TEXT = """\
# who to ask: the feed team
schema: 1
revision: "one"
enabled: true
unit: {type: user_id, max_bytes: 128}
layers:
  - key: rank
    salt: layer-salt
    defaults: {model: mgnm}
    experiments:
      - {key: other, kind: ab, salt: other-salt, status: running, start: 2026-11-01T00:00:00Z, owner: x,
         end: 2026-12-01T00:00:00Z, slots: [[5000, 6000]],
         arms: [{key: control, buckets: [[0, 5000]], params: {}}, {key: b, buckets: [[5000, 10000]], params: {}}]}
      - key: first        # status: running is not here
        kind: ab
        salt: first-salt
        status: "running" # until Christmas
        start: 2026-11-01T00:00:00Z
        end: 2026-12-01T00:00:00Z
        owner: running
        slots: [[0, 5000]]
        arms:
          - {key: control, buckets: [[0, 5000]], params: {}}
          - {key: treatment, buckets: [[5000, 10000]], params: {model: pyramid_mixer}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "experiments.yaml"
    path.write_text(TEXT)
    return path


@pytest.mark.parametrize(
    ("key", "before", "after"),
    [
        ("first", 'status: "running" # until', 'status: "stopped" # until'),
        ("other", "salt: other-salt, status: running", "salt: other-salt, status: stopped"),
    ],
)
def test_only_the_status_of_the_one_experiment_changes(file: Path, key: str, before: str, after: str) -> None:
    stop(file, key)
    assert file.read_text() == TEXT.replace(before, after)
    assert TEXT.count(before) == 1


def test_the_service_accepts_the_edit(tmp_path: Path) -> None:
    document, now = current(), 1_795_608_000_000
    document["layers"][0]["experiments"][0] |= {"start": "2026-11-01T00:00:00Z", "end": "2026-12-31T00:00:00Z"}
    path = tmp_path / "experiments.yaml"
    path.write_text(yaml.safe_dump(document))
    key = document["layers"][0]["experiments"][0]["key"]
    accepted = propose(None, _file(path), now).state
    stop(path, key)
    verdict = propose(accepted, _file(path), now + 1)
    assert verdict.problems == ()
    stopped = path.read_bytes()
    assert not stop(path, key)  # a second time changes nothing
    assert path.read_bytes() == stopped


def _file(path: Path) -> ExperimentFile:
    document = yaml.safe_load(path.read_text())
    return ExperimentFile(*parse_experiments(document), document)


@pytest.mark.parametrize("key", ["none", "rank", "control"])
def test_an_experiment_that_is_not_there_changes_nothing(file: Path, key: str) -> None:
    with pytest.raises(CommandError, match=f"no running experiment '{key}'"):
        stop(file, key)
    assert file.read_text() == TEXT


def test_a_status_that_other_parts_of_the_file_share_is_not_changed(tmp_path: Path) -> None:
    """One word is the status of both experiments; the service refuses aliases, and so does the guard."""
    shared = TEXT.replace("salt: other-salt, status: running", "salt: other-salt, status: &now running")
    shared = shared.replace('status: "running" # until', "status: *now # until")
    path = tmp_path / "experiments.yaml"
    path.write_text(shared)
    with pytest.raises(CommandError, match="line 17: aliases are not allowed"):
        stop(path, "first")
    assert path.read_text() == shared


def test_an_edit_that_changes_more_than_the_status_is_not_written(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edited = stop_module._stopped

    def careless(text: str, path: Path, experiment: str) -> str:
        return edited(text, path, experiment).replace("status: running", "status: stopped")

    monkeypatch.setattr(stop_module, "_stopped", careless)
    with pytest.raises(CommandError, match="would change more than its status"):
        stop(file, "first")
    assert file.read_text() == TEXT


@pytest.mark.parametrize("text", ["", "layers: [", "layers: []", "[1]", TEXT.replace("slots: [[0, 5000]]", "slots: 7")])
def test_a_damaged_file_is_named_and_left_as_it_is(tmp_path: Path, text: str) -> None:
    path = tmp_path / "experiments.yaml"
    path.write_text(text)
    with pytest.raises(CommandError, match=r"experiments.yaml: "):
        stop(path, "first")
    assert path.read_text() == text
