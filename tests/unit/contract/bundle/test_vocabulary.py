from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.behaviours.records import item_keys
from contract.bundle.vocabulary import Vocabulary


@pytest.fixture(autouse=True, params=["dictionary", "packed"])
def kept_as(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of keeping ids; the size decides."""
    if request.param == "packed":
        monkeypatch.setattr("contract.bundle.vocabulary.PACK_FROM", 1)
    return str(request.param)


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)


def test_first_id_has_index_one_and_unknown_ids_have_zero() -> None:
    vocabulary = Vocabulary(["b", "a"])
    assert (len(vocabulary), vocabulary.index("b"), vocabulary.index("a"), vocabulary.index("c")) == (2, 1, 2, 0)
    assert vocabulary.indices(["a", "?", "b", "", "a"]).tolist() == [2, 0, 1, 0, 2]


@given(st.lists(texts, unique=True, max_size=30), st.lists(texts, max_size=30))
def test_looking_up_by_key_is_looking_up_by_id(known: list[str], asked: list[str]) -> None:
    vocabulary = Vocabulary(known)
    asked += known
    by_key = vocabulary.indices_of_keys(item_keys(asked))
    assert by_key.dtype == np.int64
    assert by_key.tolist() == vocabulary.indices(asked).tolist()
    assert all(vocabulary.ids[index - 1] == text for text, index in zip(asked, by_key, strict=True) if index)


@pytest.mark.parametrize("key", [0, 1, 2**63, 2**64 - 1])
def test_foreign_key_is_unknown_wherever_it_would_sort(key: int) -> None:
    assert Vocabulary(["a", "b", "c"]).indices_of_keys(np.array([key], dtype=np.uint64)).tolist() == [0]


def test_empty_vocabulary_knows_nothing() -> None:
    vocabulary = Vocabulary([])
    assert vocabulary.indices_of_keys(item_keys(["a", "b"])).tolist() == [0, 0]
    assert vocabulary.indices([]).shape == (0,)


@pytest.mark.parametrize("ids", [["a", "a"], [""], ["a", "", "b"]])
def test_repeated_or_empty_ids_are_refused(ids: list[str]) -> None:
    with pytest.raises(ValueError, match="unique and not empty"):
        Vocabulary(ids)


def test_two_ids_that_share_a_key_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contract.bundle.vocabulary.item_keys", lambda ids: np.zeros(len(list(ids)), dtype=np.uint64))
    with pytest.raises(ValueError, match="share one 64-bit key"):
        Vocabulary(["a", "b"])


@given(st.lists(texts, unique=True, max_size=20))
def test_vocabulary_is_read_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, ids: list[str]) -> None:
    path = tmp_path_factory.mktemp("vocabulary") / "items.json"
    Vocabulary(ids).write(path)
    assert tuple(Vocabulary.parse(path.read_bytes()).ids) == tuple(ids)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"ids": "ab"}',
        b'{"ids": [1]}',
        b'{"ids": [null]}',
        b'{"ids": ["a", "a"]}',
        b'{"ids": ["\\ud800"]}',
        b"[" * 100_000,
    ],
    ids=range(10),
)
def test_file_that_is_no_vocabulary_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whose words differ with the fault
        Vocabulary.parse(content)


def test_ids_keep_their_script_in_the_file(tmp_path: Path) -> None:
    Vocabulary(["用户7"]).write(tmp_path / "items.json")
    content = (tmp_path / "items.json").read_text(encoding="utf-8")
    assert "用户7" in content
    assert json.loads(content) == {"ids": ["用户7"]}
