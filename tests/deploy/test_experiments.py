from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from contract.experiments.history import experiment_file
from contract.experiments.parse import parse_experiments
from contract.experiments.problems import ExperimentsError
from contract.experiments.ramps import propose
from deploy import experiments
from tests.support.experiment_files import accepted

NEXT_YEAR = datetime(2031, 5, 17, 15, 30, tzinfo=UTC).timestamp()
DAY = 86_400


def _window(document: dict[str, object]) -> tuple[datetime, datetime]:
    config, _ = parse_experiments(document)
    experiment = config.layers[0].experiments[0]
    return experiment.start, experiment.end


def test_committed_file_keeps_every_rule_of_the_format() -> None:
    config, digest = parse_experiments(yaml.safe_load(experiments.SOURCE.read_text(encoding="utf-8")))
    (layer,) = config.layers
    assert layer.key == "rank"
    assert layer.defaults == {"model": "mgnm", "version": "latest"}
    assert [arm.key for arm in layer.experiments[0].arms] == ["control", "treatment"]
    assert len(digest) == 12


def test_copy_runs_on_the_day_it_is_made() -> None:
    start, end = _window(experiments.current(now=NEXT_YEAR))
    assert start == datetime(2031, 5, 17, tzinfo=UTC)
    assert end.timestamp() > NEXT_YEAR + 80 * DAY


def test_copy_differs_from_the_committed_file_in_dates_alone() -> None:
    committed = yaml.safe_load(experiments.SOURCE.read_text(encoding="utf-8"))
    copied = experiments.current(now=NEXT_YEAR)
    for document in (committed, copied):
        for experiment in document["layers"][0]["experiments"]:
            del experiment["start"], experiment["end"]
    assert copied == committed


def test_copy_that_still_runs_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "config" / "experiments.yaml"
    assert experiments.write_current(path, now=NEXT_YEAR)
    before = path.read_bytes()
    assert not experiments.write_current(path, now=NEXT_YEAR + 30 * DAY)
    assert path.read_bytes() == before


def test_copy_is_made_again_when_its_dates_are_over_or_the_source_changed(tmp_path: Path) -> None:
    path = tmp_path / "experiments.yaml"
    experiments.write_current(path, now=NEXT_YEAR)
    assert experiments.write_current(path, now=NEXT_YEAR + 90 * DAY)
    assert experiments.write_current(path, treatment="sasrec", now=NEXT_YEAR + 90 * DAY)
    config, _ = parse_experiments(yaml.safe_load(path.read_text(encoding="utf-8")))
    assert config.layers[0].experiments[0].arms[1].params["model"] == "sasrec"


def test_damaged_copy_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "experiments.yaml"
    path.write_text("layers: [", encoding="utf-8")
    assert experiments.write_current(path, now=NEXT_YEAR)


def test_source_that_breaks_a_rule_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "source.yaml"
    text = experiments.SOURCE.read_text(encoding="utf-8")
    source.write_text(text.replace("buckets: [[0, 5000]]", "buckets: [[0, 4000]]"), encoding="utf-8")
    with pytest.raises(ExperimentsError, match="cover"):
        experiments.current(source=source, now=NEXT_YEAR)


def test_copy_names_the_versions_that_are_meant() -> None:
    layer = experiments.current(versions={"mgnm": "3", "pyramid_mixer": "5"}, now=NEXT_YEAR)["layers"][0]
    assert layer["defaults"]["version"] == "3"
    assert [arm["params"].get("version") for arm in layer["experiments"][0]["arms"]] == [None, "5"]


@pytest.mark.parametrize("days", [1, 83, 90])
def test_copy_that_follows_another_is_one_that_the_service_accepts(tmp_path: Path, days: int) -> None:
    path = tmp_path / "experiments.yaml"
    state, now = None, NEXT_YEAR
    for treatment in ("pyramid_mixer", "sasrec", "sli_rec"):
        assert experiments.write_current(path, treatment=treatment, follow=True, now=now)
        assert not experiments.write_current(path, treatment=treatment, follow=True, now=now + 60)
        state = accepted(state, yaml.safe_load(path.read_text(encoding="utf-8")), int(now * 1000))
        now += days * DAY
    keys = [one["key"] for one in yaml.safe_load(path.read_text(encoding="utf-8"))["layers"][0]["experiments"]]
    assert keys == ["pyramid-vs-mgnm-3", "pyramid-vs-mgnm-2"]  # the last one is stopped, the first one is gone


def test_copy_that_does_not_follow_keeps_the_key_and_would_be_refused(tmp_path: Path) -> None:
    path = tmp_path / "experiments.yaml"
    experiments.write_current(path, now=NEXT_YEAR)
    state = accepted(None, yaml.safe_load(path.read_text(encoding="utf-8")), int(NEXT_YEAR * 1000))
    experiments.write_current(path, treatment="sasrec", now=NEXT_YEAR)
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert document["layers"][0]["experiments"][0]["key"] == "pyramid-vs-mgnm"
    assert propose(state, experiment_file(document), int(NEXT_YEAR * 1000)).problems
