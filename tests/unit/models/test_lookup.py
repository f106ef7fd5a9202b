"""A model of one's own is found by the path of its class or an installed entry point, or refused with the reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from models.catalog import MODELS
from models.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from models.checks.catalogue import facts, histories, inputs_of, scores_of
from models.lookup import find_model

MODULE = """
from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from models.base import DatasetFacts, Encoded, Scored, SequentialRecommender


@dataclass(frozen=True)
class Config:
    length: int = 8
    width: int = 4


class MeanVector(SequentialRecommender):
    serving_class = "A"
    config_class = Config

    def __init__(self, config: Config, facts: DatasetFacts) -> None:
        super().__init__()
        self.length, self.item_count = config.length, facts.item_count
        self.items = nn.Embedding(facts.item_count + 1, config.width, padding_idx=0)

    def encode(self, inputs):
        return Encoded({"user": self.items(inputs["items"]).sum(dim=1)}, {})

    def score(self, state, candidates, rows):
        return Scored((state["user"][rows] * self.items(candidates)).sum(-1), {})


class FMLP(MeanVector):
    pass


class NoConfig(MeanVector):
    config_class = None


class NoDataclass(MeanVector):
    config_class = dict


class NoScore(SequentialRecommender):
    serving_class = "A"
    config_class = Config

    def encode(self, inputs):
        return Encoded({}, {})


class NoClass(MeanVector):
    def __init__(self, config, facts):
        super().__init__(config, facts)
        del self.item_count


class NoCost(SequentialRecommender):
    config_class = Config
    encode, score = MeanVector.encode, MeanVector.score


class Other:
    pass


number = 5
"""

Write = Callable[[str, str], None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    monkeypatch.syspath_prepend(tmp_path)
    counts = iter(range(100))

    def written(name: str, content: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
        monkeypatch.syspath_prepend(tmp_path / str(next(counts)))  # forgets what the folders had

    return written


@pytest.fixture
def mine(write: Write, request: pytest.FixtureRequest) -> str:
    """The name of a module with the classes; its own in each test, as imported modules stay."""
    module = f"mine_{abs(hash(request.node.nodeid))}"
    write(f"{module}.py", MODULE)
    return module


def installed(write: Write, package: str, lines: str) -> None:
    write(f"{package}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    write(f"{package}-1.0.dist-info/entry_points.txt", f"[ranker.models]\n{lines}\n")


def test_every_model_of_the_catalogue_is_found_by_its_name() -> None:
    assert {name: find_model(name).entry for name in MODELS} == MODELS
    assert {find_model(name).name for name in MODELS} == set(MODELS)


def test_the_path_of_a_class_is_a_model_with_the_name_of_the_class(mine: str) -> None:
    found = find_model(f"{mine}:MeanVector")
    model = found.entry.build({"width": 6}, facts()).eval()
    assert found.name == "mean_vector"
    assert scores_of(model, inputs_of(model, histories([3]), [1])).shape == (1, 30)
    with pytest.raises(ValueError, match="unknown key 'widht'; there are length, width"):
        found.entry.build({"widht": 6}, facts())


def test_an_entry_point_of_an_installed_package_is_a_model_with_its_name(mine: str, write: Write) -> None:
    installed(write, "newest", f"newest_first = {mine}:MeanVector")
    assert find_model("newest_first").name == "newest_first"
    assert find_model("newest_first").entry == find_model(f"{mine}:MeanVector").entry
    with pytest.raises(ValueError, match=r"no model 'newest_last'; there are popularity, .*, newest_first, and module"):
        find_model("newest_last")


def test_two_packages_with_a_model_of_one_name_are_refused(mine: str, write: Write) -> None:
    installed(write, "one", f"newest = {mine}:MeanVector")
    installed(write, "two", f"newest = {mine}:NoScore")
    with pytest.raises(ValueError, match=r"several installed packages have this model: (one|two) \(mine_.*two|one"):
        find_model("newest")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("missing", "has no missing"),
        ("number", "not a subclass of models.base.SequentialRecommender"),
        ("Other", "not a subclass of models.base.SequentialRecommender"),
        ("NoScore", "has no score"),
        ("NoConfig", "set config_class"),
        ("NoDataclass", "config_class is not a dataclass"),
        ("NoCost", "set serving_class"),
        ("FMLP", "the catalogue has a model 'fmlp': rename the class"),
    ],
)
def test_a_class_that_is_no_model_is_refused_with_the_reason(mine: str, name: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        find_model(f"{mine}:{name}")


def test_a_model_that_does_not_set_what_training_reads_is_refused(mine: str) -> None:
    with pytest.raises(ValueError, match="NoClass sets no item_count"):
        find_model(f"{mine}:NoClass").entry.build({}, facts())


@pytest.mark.parametrize("path", ["mine:", ":Mine", "mine:A:B", "../mine:A", "mine:a.b()", "mine :A"])
def test_a_malformed_path_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="is not the path of a class"):
        find_model(path)


def test_a_module_that_cannot_be_imported_is_named_with_its_error(write: Write) -> None:
    write("broken_model.py", "import a_package_that_is_missing\n")
    write("failing_model.py", "raise RuntimeError('two\\nlines')\n")
    with pytest.raises(ValueError, match="cannot import absent: ModuleNotFoundError"):
        find_model("absent:Model")
    with pytest.raises(ValueError, match=r"cannot import broken_model: .*a_package_that_is_missing"):
        find_model("broken_model:Model")
    with pytest.raises(ValueError, match="cannot import failing_model: RuntimeError: two lines"):
        find_model("failing_model:Model")


def test_a_checkpoint_names_the_class_and_comes_back_by_it(mine: str, tmp_path: Path) -> None:
    path = f"{mine}:MeanVector"
    model = find_model(path).entry.build({}, facts()).eval()
    save_checkpoint(tmp_path / "checkpoint", path, {}, facts(), model)
    name, loaded = load_checkpoint(tmp_path / "checkpoint")
    inputs = inputs_of(model, histories([3]), [1])
    assert name == "mean_vector"
    assert torch.equal(scores_of(loaded, inputs), scores_of(model, inputs))
    document = json.loads((tmp_path / "checkpoint" / "model.json").read_text())
    assert document["model"] == path
    (tmp_path / "checkpoint" / "model.json").write_text(json.dumps(document | {"model": f"{mine}:Gone"}))
    with pytest.raises(CheckpointError, match=f"{mine}:Gone: .* has no Gone"):
        load_checkpoint(tmp_path / "checkpoint")
