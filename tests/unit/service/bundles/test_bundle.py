"""A bundle is served whole and unaltered, or not at all."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from contract.bundle import manifest as names
from service.bundles.arrays import MAX_GOLDEN_BYTES
from service.bundles.bundle import Bundle, BundleError, load_bundle
from service.bundles.onnx_guard import UnsafeGraph, refuse_unsafe
from tests.support.builders import TinyModel

MAX_BYTES = 10_000_000
TINY = TinyModel()


def load(directory: Path) -> Bundle:
    return load_bundle(directory, max_bytes=MAX_BYTES)


def edit_manifest(directory: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = directory / names.MANIFEST
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document))


def replace(directory: Path, name: str, content: bytes) -> None:
    """Put other bytes in a file and make the manifest agree with them."""
    (directory / name).write_bytes(content)
    TINY.seal(directory)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return TINY.write(tmp_path)


def test_a_good_bundle_is_loaded_with_everything_in_it(directory: Path) -> None:
    bundle = load(directory)
    assert bundle.name == "tiny@1"
    assert bundle.digest == names.digest_of((directory / names.MANIFEST).read_bytes())
    assert bundle.items.ids == tuple(TINY.item_ids)
    assert bundle.users is None
    assert np.array_equal(bundle.popularity, TINY.popularity)
    assert bundle.catalogue["i3"]["title"] == "Film i3"
    assert bundle.encode_model == (directory / names.ENCODE).read_bytes()
    assert set(bundle.golden) == {"encode.items", "candidates", "rows", "scores"}


def test_a_bundle_whose_model_reads_the_user_brings_its_users(tmp_path: Path) -> None:
    bundle = load(TinyModel(users=3).write(tmp_path))
    assert bundle.users is not None
    assert bundle.users.index("u3") == 3


def test_every_altered_file_is_refused_and_named(directory: Path) -> None:
    for name in names.REQUIRED_FILES:
        path = directory / name
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(BundleError, match=name):
            load(directory)
        path.write_bytes(content)
    assert load(directory)


@given(name=st.sampled_from(names.REQUIRED_FILES), place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 8))
def test_a_flipped_bit_or_a_cut_anywhere_is_refused(
    tmp_path_factory: pytest.TempPathFactory, name: str, place: float, bit: int
) -> None:
    directory = TINY.write(tmp_path_factory.mktemp("bundles"))
    content = bytearray((directory / name).read_bytes())
    offset = int(place * len(content))
    if bit == 8:
        del content[offset:]
    else:
        content[offset] ^= 1 << bit
    (directory / name).write_bytes(content)
    with pytest.raises(BundleError, match=f"{name} is not the file"):
        load(directory)


@pytest.mark.parametrize("name", [*names.REQUIRED_FILES, names.MANIFEST])
def test_a_missing_file_is_refused_and_named(directory: Path, name: str) -> None:
    (directory / name).unlink()
    with pytest.raises(BundleError, match=f"{name} is missing"):
        load(directory)


def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"bundle tiny/9: cannot be read"):
        load(tmp_path / "tiny" / "9")


def test_an_unknown_file_beside_the_others_is_refused(directory: Path) -> None:
    (directory / "custom_ops.so").write_bytes(b"\x7fELF")
    with pytest.raises(BundleError, match=r"custom_ops.so.*not in the manifest"):
        load(directory)


@pytest.mark.parametrize("name", ["weights.pkl", "encode.onnx.data"])
def test_a_manifest_that_names_an_unknown_file_is_refused(directory: Path, name: str) -> None:
    edit_manifest(directory, lambda document: document["files"].update({name: "0" * 64}))
    with pytest.raises(BundleError, match="unknown file"):
        load(directory)


def test_a_manifest_that_leaves_a_file_out_is_refused(directory: Path) -> None:
    edit_manifest(directory, lambda document: document["files"].pop(names.GOLDEN))
    with pytest.raises(BundleError, match=r"does not name golden.npz"):
        load(directory)


def test_a_link_is_refused_even_where_it_leads_to_the_right_bytes(directory: Path, tmp_path: Path) -> None:
    path = directory / names.SCORE
    outside = tmp_path / "elsewhere.onnx"
    path.rename(outside)
    path.symlink_to(outside)
    with pytest.raises(BundleError, match=r"score.onnx is a link"):
        load(directory)


def test_a_pipe_in_place_of_a_file_is_refused_and_not_waited_for(directory: Path) -> None:
    (directory / names.SCORE).unlink()
    os.mkfifo(directory / names.SCORE)
    with pytest.raises(BundleError, match="not a regular file"):
        load(directory)


def test_a_bundle_over_the_size_limit_is_refused(directory: Path) -> None:
    size = sum(path.stat().st_size for path in directory.iterdir())
    assert load_bundle(directory, max_bytes=size)
    with pytest.raises(BundleError, match="size limit"):
        load_bundle(directory, max_bytes=size - 1)


def test_a_newer_contract_is_refused_by_its_number(directory: Path) -> None:
    newest = names.CONTRACT_VERSION
    edit_manifest(directory, lambda document: document.update(contract_version=newest + 1, what_is_new={}))
    with pytest.raises(BundleError, match=f"contract version {newest + 1}, this service reads 1 to {newest}"):
        load(directory)


@pytest.mark.parametrize("key", ["model", "sequence", "files", "golden_tolerance", "provenance"])
def test_a_manifest_without_a_field_is_refused_and_the_field_named(directory: Path, key: str) -> None:
    edit_manifest(directory, lambda document: document.pop(key))
    with pytest.raises(BundleError, match=key):
        load(directory)


def test_a_bundle_in_the_place_of_another_version_is_refused(directory: Path) -> None:
    moved = directory.rename(directory.parent / "2")
    with pytest.raises(BundleError, match=r"names tiny/1, which does not match its directory"):
        load(moved)


def rename_input(document: dict[str, Any]) -> None:
    document["encode"]["inputs"][0]["name"] = "history"


def retype_input(document: dict[str, Any]) -> None:
    document["encode"]["inputs"][0]["dtype"] = "float32"


def shorten_input(document: dict[str, Any]) -> None:
    document["encode"]["inputs"][0]["shape"] = ["B", 4]


def forget_state(document: dict[str, Any]) -> None:
    document["state"] = ["nothing"]


def swap_score_inputs(document: dict[str, Any]) -> None:
    document["score"]["inputs"].reverse()


def retype_scores(document: dict[str, Any]) -> None:
    document["score"]["outputs"][0]["dtype"] = "int64"


def explain_nothing(document: dict[str, Any]) -> None:
    document["explanation"] = ["reasons"]


def fix_the_batch(document: dict[str, Any]) -> None:
    document["encode"]["outputs"][2]["shape"] = [1, 3]


@pytest.mark.parametrize(
    "change",
    [
        rename_input, retype_input, shorten_input, forget_state, swap_score_inputs, retype_scores, explain_nothing,
        fix_the_batch,
    ],
)  # fmt: skip
def test_a_signature_that_does_not_fit_is_refused(directory: Path, change: Callable[[dict[str, Any]], None]) -> None:
    edit_manifest(directory, change)
    with pytest.raises(BundleError, match="manifest: "):
        load(directory)


def test_counts_that_differ_from_the_vocabularies_are_refused(directory: Path, tmp_path: Path) -> None:
    edit_manifest(directory, lambda document: document.update(item_count=21))
    with pytest.raises(BundleError, match=r"popularity.npy is not float32 \(22,\)"):
        load(directory)
    np.save(directory / names.POPULARITY, np.zeros(22, np.float32))
    TINY.seal(directory)
    edit_manifest(directory, lambda document: document.update(item_count=21))
    with pytest.raises(BundleError, match=r"items.json has 20 ids"):
        load(directory)
    with_users = TinyModel(model="readers", users=3).write(tmp_path)
    edit_manifest(with_users, lambda document: document.update(user_count=4))
    with pytest.raises(BundleError, match=r"users.json has 3 ids"):
        load(with_users)


def test_a_pickle_in_an_array_file_is_never_opened(directory: Path) -> None:
    ran: list[str] = []

    class Trap:
        def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
            return ran.append, ("ran",)

    replace(directory, names.POPULARITY, pickle.dumps(Trap()))
    with pytest.raises(BundleError):
        load(directory)
    np.save(directory / names.POPULARITY, np.array([Trap()], dtype=object), allow_pickle=True)
    TINY.seal(directory)
    with pytest.raises(BundleError, match="wrong type or size"):
        load(directory)
    assert ran == []


@pytest.mark.parametrize(
    "counts",
    [
        np.zeros(20, np.float32), np.zeros(21, np.int64), np.full(21, np.nan, np.float32), np.full(21, -1, np.float32),
        np.zeros((21, 1), np.float32),
    ],
    ids=["short", "integers", "nan", "negative", "matrix"],
)  # fmt: skip
def test_a_popularity_prior_of_another_kind_is_refused(directory: Path, counts: np.ndarray[Any, Any]) -> None:
    np.save(directory / names.POPULARITY, counts)
    TINY.seal(directory)
    with pytest.raises(BundleError, match=r"popularity.npy"):
        load(directory)


def test_an_array_that_claims_to_be_huge_costs_nothing(directory: Path) -> None:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }"
    content = b"\x93NUMPY\x01\x00" + (len(header) + 1).to_bytes(2, "little") + header + b"\n"
    replace(directory, names.POPULARITY, content)
    with pytest.raises(BundleError, match="wrong type or size"):
        load(directory)


def test_golden_rows_that_unpack_to_more_than_the_limit_are_refused(directory: Path) -> None:
    with zipfile.ZipFile(directory / names.GOLDEN, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("scores.npy", bytes(MAX_GOLDEN_BYTES + 1))
    TINY.seal(directory)
    with pytest.raises(BundleError, match="unpacks to more"):
        load(directory)


@pytest.mark.parametrize(
    "change",
    [
        {"scores": np.zeros(6, np.float64)},
        {"scores": np.full(6, np.nan, np.float32)},
        {"rows": np.full(6, 2)},
        {"candidates": np.zeros(5, np.int64)},
        {"encode.items": np.zeros((2, 4), np.int64)},
        {"more": np.zeros(1, np.int64)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_golden_rows_of_another_kind_are_refused(directory: Path, change: dict[str, Any]) -> None:
    np.savez(directory / names.GOLDEN, **{**TINY.golden(), **change})
    TINY.seal(directory)
    with pytest.raises(BundleError, match=r"golden.npz|array file"):
        load(directory)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (names.ITEMS, b"[]"),
        (names.ITEMS, b'{"ids": ["a", "a"]}'),
        (names.ITEMS, b"{" * 100_000),
        (names.CATALOGUE, b'{"items": [1]}'),
        (names.CATALOGUE, b"[" * 100_000),
        (names.GOLDEN, b"PK"),
        (names.POPULARITY, b""),
        (names.ENCODE, b"<html>"),
        (names.SCORE, b""),
    ],
)
def test_a_file_of_another_format_is_refused(directory: Path, name: str, content: bytes) -> None:
    replace(directory, name, content)
    with pytest.raises(BundleError):
        load(directory)


def test_a_header_that_is_no_python_is_refused(directory: Path) -> None:
    """numpy's tokenizer has an error of its own for it."""
    content = (directory / names.POPULARITY).read_bytes()
    replace(directory, names.POPULARITY, content.replace(b"}", b"(", 1))
    with pytest.raises(BundleError):
        load(directory)


@pytest.mark.parametrize("flag", [0, 1], ids=["a broken stream", "an encrypted member"])
def test_an_archive_that_cannot_be_unpacked_is_refused(directory: Path, flag: int) -> None:
    """zlib and zipfile have errors of their own for it."""
    file = io.BytesIO()
    np.savez_compressed(file, **TINY.golden())
    content = bytearray(file.getvalue())
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        first = archive.infolist()[0]
    central = content.index(b"PK\x01\x02")
    content[central + 8] |= flag
    content[first.header_offset + 6] |= flag
    start = (
        first.header_offset
        + 30
        + len(first.filename)
        + int.from_bytes(content[first.header_offset + 28 :][:2], "little")
    )
    content[start : start + 8] = b"\xff" * 8
    replace(directory, names.GOLDEN, bytes(content))
    with pytest.raises(BundleError):
        load(directory)


def test_a_catalogue_is_optional(directory: Path) -> None:
    (directory / names.CATALOGUE).unlink()
    TINY.seal(directory)
    assert load(directory).catalogue == {}


def external(location: str) -> TensorProto:
    tensor = TensorProto(name="vectors", data_type=TensorProto.FLOAT, dims=[21, 4])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/passwd", "weights.bin"])
def test_external_data_is_refused_wherever_it_leads(directory: Path, location: str) -> None:
    model = TINY.encode_graph()
    del model.graph.initializer[:]
    model.graph.initializer.append(external(location))
    replace(directory, names.ENCODE, model.SerializeToString())
    with pytest.raises(BundleError, match=r"encode.onnx: external data"):
        load(directory)


def test_external_data_inside_an_attribute_a_subgraph_or_a_sparse_tensor_is_refused() -> None:
    constant = helper.make_node("Constant", [], ["c"], value=external("weights.bin"))
    inner = helper.make_graph([constant], "inner", [], [])
    sparse = helper.make_sparse_tensor(external("weights.bin"), external("weights.bin"), [21, 4])
    models = [
        helper.make_model(helper.make_graph([constant], "outer", [], [])),
        helper.make_model(
            helper.make_graph([helper.make_node("If", ["x"], ["y"], then_branch=inner)], "outer", [], [])
        ),
        helper.make_model(helper.make_graph([], "outer", [], [], sparse_initializer=[sparse])),
    ]
    for model in models:
        with pytest.raises(UnsafeGraph, match="external data"):
            refuse_unsafe(model.SerializeToString())


def test_an_operator_of_a_custom_domain_is_refused(directory: Path) -> None:
    model = TINY.score_graph()
    model.graph.node[0].domain = "evil.ops"
    replace(directory, names.SCORE, model.SerializeToString())
    with pytest.raises(BundleError, match=r"score.onnx: operators of domain 'evil.ops'"):
        load(directory)


def test_a_function_that_the_model_defines_may_have_its_own_domain() -> None:
    body = helper.make_node("Relu", ["x"], ["y"])
    opset = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    function = helper.make_function("own", "Twice", ["x"], ["y"], [body], opset[:1])
    graph = helper.make_graph([helper.make_node("Twice", ["x"], ["y"], domain="own")], "g", [], [])
    refuse_unsafe(helper.make_model(graph, functions=[function], opset_imports=opset).SerializeToString())
    function.node[0].domain = "evil.ops"
    with pytest.raises(UnsafeGraph, match=r"evil.ops"):
        refuse_unsafe(helper.make_model(graph, functions=[function], opset_imports=opset).SerializeToString())


@given(content=st.binary(max_size=200))
def test_any_bytes_are_judged_and_never_crash_the_check(content: bytes) -> None:
    for candidate in (content, TINY.score_graph().SerializeToString()[: len(content) * 10] + content):
        with suppress(UnsafeGraph):
            refuse_unsafe(candidate)
