"""Bundles from disk: every file is read once, and only checked bundles leave this module.

A bundle may come from anywhere. None of its content is executed here: no pickle, no ONNX session, no path from it.
Each file's bytes are hashed, compared with the manifest, and the same bytes are parsed and later run
(service/bundles/files.py), so a file that is rewritten after the check changes nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from contract.bundle import manifest as names
from contract.bundle.context import CONTEXT, CONTEXT_ROWS, ContextCoder, context_inputs
from contract.bundle.manifest import Manifest, ManifestError, TensorSpec, digest_of, parse_manifest
from contract.bundle.reference import Reference, parse_reference
from contract.bundle.signature import MAX_BYTES as MAX_SIGNATURE_BYTES
from contract.bundle.signature import SIGNATURE
from contract.bundle.vocabulary import Vocabulary
from service.bundles.arrays import Array, read_npy, read_npz
from service.bundles.files import BundleError, Content, open_directory, read_files, read_small
from service.bundles.new_items import NewItems, check_new_golden, new_golden, read_new_items
from service.bundles.onnx_guard import UnsafeGraph, refuse_unsafe
from service.bundles.tables import Tables, read_tables

_MAX_MANIFEST_BYTES: Final = 1_048_576
_NOT_HELD: Final = frozenset({names.MODEL_CARD})  # for people; checked like the rest
_MAX_ID_BYTES: Final = 800  # of an id in a vocabulary's JSON: 128 bytes, each escaped, and punctuation

__all__ = ["Bundle", "BundleError", "load_bundle"]


@dataclass(frozen=True, eq=False)
class Bundle:
    """A verified bundle: all of it is in memory, or mapped from the files that were checked."""

    manifest: Manifest
    digest: str  # SHA-256 of the manifest's bytes, which contain the digest of every other file
    items: Vocabulary
    users: Vocabulary | None
    popularity: NDArray[np.float32]  # (items + 1,): training counts by item index, [0] = 0
    catalogue: Mapping[str, Mapping[str, Any]]  # item id -> title and other facts of the data; for people
    encode_model: bytes
    score_model: bytes
    golden: Mapping[str, Array]
    tables: Tables = field(default_factory=Tables)
    new_items: NewItems | None = None  # if it scores items that training never met
    context: ContextCoder | None = None  # if it reads the context of requests
    reference: Reference | None = None  # what the model met on validation

    @property
    def name(self) -> str:
        """Return `model@version`."""
        return f"{self.manifest.model}@{self.manifest.version}"

    def unknown_context(self, requests: int) -> dict[str, Array]:
        """Return the inputs of `score` for requests of one row each, in no known context; none if it reads none."""
        if self.context is None:
            return {}
        codes = np.zeros((requests, len(self.manifest.context)), dtype=np.int64)
        return {**context_inputs(codes, np.arange(requests, dtype=np.int64))}

    def golden_context(self) -> dict[str, Array]:
        """Return the inputs of `score` for the golden requests; none if it reads no context."""
        return {} if self.context is None else {name: self.golden[name] for name in (CONTEXT, CONTEXT_ROWS)}


def load_bundle(
    directory: Path, *, max_bytes: int, map_tables: bool = True, reads_ids: bool = True, signers: Path | None = None
) -> Bundle:
    """Read and verify the bundle in `<model>/<version>/`.

    Args:
        directory: its last two names must be the manifest's model and version.
        max_bytes: a bundle with larger files, packed or unpacked, is refused.
        map_tables: map its tables from their files; else they are read into memory.
        reads_ids: read the ids of items and users, most of the time with a large catalogue; else there are none. Their
            files are checked in any case.
        signers: public keys; without the signature of one of them nothing of the bundle is parsed. None accepts all.

    Raises:
        UntrustedBundleError: no signer signed it.
        BundleError: missing, incomplete, altered, of a newer contract, or otherwise not fit to be served.
    """
    with _reading(directory):
        with open_directory(directory) as listing:
            content = read_small(listing, names.MANIFEST, min(max_bytes, _MAX_MANIFEST_BYTES))
            if signers is not None:
                _check_signer(listing, content, signers)
            manifest = _manifest(content, directory)
            files, tables = _files(listing, manifest, max_bytes - len(content), map_tables)
        read = read_tables(directory.absolute(), manifest.tables, tables)
        return _bundle(manifest, digest_of(content), files, read, reads_ids)


@contextmanager
def _reading(directory: Path) -> Iterator[None]:
    """Turn every error of reading into a BundleError that names the directory."""
    place = "/".join(directory.parts[-2:])
    try:
        yield
    except BundleError as error:
        raise type(error)(f"bundle {place}: {error}") from error
    except OSError as error:
        raise BundleError(f"bundle {place}: cannot be read ({error.strerror or type(error).__name__})") from error
    except Exception as error:  # numpy, zipfile, zlib and tokenize raise a dozen errors for bytes that are not arrays
        raise BundleError(f"bundle {place}: {str(error)[:200] or type(error).__name__}") from error


def _check_signer(listing: int, manifest: bytes, signers: Path) -> None:
    from service.bundles.signatures import check_signature, read_signers  # imports cryptography

    signed = SIGNATURE in os.listdir(listing)
    check_signature(
        manifest, read_small(listing, SIGNATURE, MAX_SIGNATURE_BYTES) if signed else None, read_signers(signers)
    )


def _manifest(content: bytes, directory: Path) -> Manifest:
    try:
        manifest = parse_manifest(content)
    except ManifestError as error:
        raise BundleError(str(error)) from error
    path = directory.absolute()
    if (path.parent.name, path.name) != (manifest.model, manifest.version):
        raise BundleError(f"manifest: names {manifest.model}/{manifest.version}, which does not match its directory")
    return manifest


def _files(
    listing: int, manifest: Manifest, room: int, map_tables: bool
) -> tuple[dict[str, bytes], dict[str, Content]]:
    """Read the files that the manifest names, each with the digest of the manifest; return the tables separately.

    There may be no other files.
    """
    expected, tables = set(manifest.files), {table.file for table in manifest.tables}
    needed = {*names.REQUIRED_FILES, *tables, *(names.NEW_ITEM_FILES if manifest.new_items is not None else ())}
    known = {*needed, *names.OPTIONAL_FILES}
    if missing := needed - expected:
        raise BundleError(f"manifest: does not name {min(missing)}")
    if unknown := expected - known:
        raise BundleError(f"manifest: names an unknown file {min(unknown)[:64]!r}")
    if extra := set(os.listdir(listing)) - expected - {names.MANIFEST, SIGNATURE}:
        raise BundleError(f"{min(extra)[:64]!r} is not in the manifest")
    found = read_files(listing, manifest.files, room, not_held=_NOT_HELD, mapped=tables if map_tables else ())
    held = {name: content for name, content in found.items() if name not in tables and isinstance(content, bytes)}
    return held, {name: found[name] for name in tables}


def _bundle(manifest: Manifest, digest: str, files: Mapping[str, bytes], tables: Tables, reads_ids: bool) -> Bundle:
    _check_signature(manifest)
    for name in (names.ENCODE, names.SCORE):
        try:
            refuse_unsafe(files[name])
        except UnsafeGraph as error:
            raise BundleError(f"{name}: {error}") from error
    new_items = read_new_items(files, manifest)
    popularity = _popularity(files[names.POPULARITY], manifest)  # first: its size bounds the number of items
    return Bundle(
        manifest=manifest,
        digest=digest,
        items=_vocabulary(files[names.ITEMS], names.ITEMS, manifest.item_count) if reads_ids else Vocabulary(()),
        users=_users(files, manifest) if reads_ids else None,
        popularity=popularity,
        catalogue=_catalogue(files.get(names.CATALOGUE)),
        encode_model=files[names.ENCODE],
        score_model=files[names.SCORE],
        golden=_golden(files[names.GOLDEN], manifest),
        tables=tables,
        new_items=new_items,
        context=ContextCoder(manifest.context) if manifest.context else None,
        reference=parse_reference(files[names.REFERENCE]) if names.REFERENCE in files else None,
    )


def _check_signature(manifest: Manifest) -> None:
    """Check that the inputs and outputs of the two graphs match the sequence spec and each other."""
    length = manifest.sequence.length
    inputs = tuple(
        TensorSpec(name=name, dtype="int64", shape=("B", length) if name in manifest.sequence.columns else ("B",))
        for name in manifest.sequence.names
    )
    encoded, scored = _by_name(manifest.encode.outputs), _by_name(manifest.score.outputs)
    flat = tuple(TensorSpec(name=name, dtype="int64", shape=("M",)) for name in ("candidates", "rows"))
    if not manifest.state or not set(manifest.state) <= set(encoded):
        raise BundleError("manifest: state names no output of encode")
    state = tuple(encoded[name] for name in manifest.state)
    _check_specs("encode inputs", manifest.encode.inputs, inputs)
    _check_specs("score inputs", manifest.score.inputs, (*state, *flat, *context_signature(manifest)))
    scores = (TensorSpec(name="scores", dtype="float32", shape=("M",)),)
    _check_specs("score outputs", manifest.score.outputs[:1], scores)
    if not set(manifest.explanation) <= (set(encoded) | set(scored)) - {*manifest.state, "scores"}:
        raise BundleError("manifest: explanation names no output of its own")
    for name in manifest.targets:
        if name not in manifest.explanation or name not in scored:
            raise BundleError(f"manifest: target {name} is not an explanation of score")
        _check_specs(f"target {name}", (scored[name],), (TensorSpec(name=name, dtype="float32", shape=("M",)),))
    if any(not spec.shape or isinstance(spec.shape[0], int) for spec in (*encoded.values(), *scored.values())):
        raise BundleError("manifest: every output needs a symbolic first dimension")


def context_signature(manifest: Manifest) -> tuple[TensorSpec, ...]:
    """Return the last inputs of `score` and `score_new`: those of the context, if the bundle reads any."""
    if not manifest.context:
        return ()
    codes = TensorSpec(name=CONTEXT, dtype="int64", shape=("R", len(manifest.context)))
    return (codes, TensorSpec(name=CONTEXT_ROWS, dtype="int64", shape=("R",)))


def _by_name(specs: tuple[TensorSpec, ...]) -> dict[str, TensorSpec]:
    return {spec.name: spec for spec in specs}


def _check_specs(place: str, found: tuple[TensorSpec, ...], expected: tuple[TensorSpec, ...]) -> None:
    """Compare names, dtypes and shapes; symbolic dimensions may have any name."""

    def plain(specs: tuple[TensorSpec, ...]) -> list[tuple[object, ...]]:
        shapes = [tuple(size if isinstance(size, int) else "?" for size in spec.shape) for spec in specs]
        return [(spec.name, spec.dtype, shape) for spec, shape in zip(specs, shapes, strict=True)]

    if plain(found) != plain(expected):
        raise BundleError(f"manifest: {place} are {plain(found)}, expected {plain(expected)}"[:300])


def _vocabulary(content: bytes, name: str, count: int) -> Vocabulary:
    if len(content) > _MAX_ID_BYTES * (count + 1):
        raise BundleError(f"{name} is larger than {count} ids can be")
    vocabulary = Vocabulary.parse(content)
    if len(vocabulary) != count:
        raise BundleError(f"{name} has {len(vocabulary)} ids, but the manifest has {count}")
    return vocabulary


def _users(files: Mapping[str, bytes], manifest: Manifest) -> Vocabulary | None:
    if "user" not in manifest.sequence.row_inputs:
        return None
    if names.USERS not in files:
        raise BundleError(f"manifest: the model reads the user, but {names.USERS} is not named")
    return _vocabulary(files[names.USERS], names.USERS, manifest.user_count)


def _popularity(content: bytes, manifest: Manifest) -> NDArray[np.float32]:
    counts = read_npy(content)
    if counts.dtype != np.float32 or counts.shape != (manifest.item_count + 1,):
        raise BundleError(f"{names.POPULARITY} is not float32 ({manifest.item_count + 1},)")
    if not np.isfinite(counts).all() or (counts < 0).any():
        raise BundleError(f"{names.POPULARITY} has a count that is negative or not finite")
    return counts


def _catalogue(content: bytes | None) -> Mapping[str, Mapping[str, Any]]:
    document = json.loads(content) if content is not None else {"items": {}}
    items = document.get("items") if isinstance(document, dict) else None
    if not isinstance(items, dict) or not all(isinstance(entry, dict) for entry in items.values()):
        raise BundleError(f"{names.CATALOGUE}: expected {{'items': {{id: {{...}}}}}}")
    return items


def _golden(content: bytes, manifest: Manifest) -> Mapping[str, Array]:
    expected = {f"encode.{spec.name}": spec for spec in manifest.encode.inputs}
    expected |= _by_name((*manifest.score.inputs[len(manifest.state) :], manifest.score.outputs[0]))
    arrays = read_npz(content, expected.keys() | new_golden(manifest).keys())
    rows = len(arrays[f"encode.{manifest.encode.inputs[0].name}"])
    requests = len(arrays[CONTEXT_ROWS]) if manifest.context else rows
    _check_golden(arrays, expected, rows, requests)
    check_new_golden(arrays, manifest, rows, requests)
    if manifest.context:
        _check_golden_context(arrays, manifest, rows)
    return arrays


def _check_golden_context(arrays: Mapping[str, Array], manifest: Manifest, rows: int) -> None:
    sizes = np.array([spec.cardinality for spec in manifest.context])
    codes, places = arrays[CONTEXT], arrays[CONTEXT_ROWS]
    if not bool(((codes >= 0) & (codes < sizes)).all() and ((places >= 0) & (places < rows)).all()):
        raise BundleError(f"{names.GOLDEN}: a code of the context or its row is out of range")


def _check_golden(arrays: Mapping[str, Array], expected: Mapping[str, TensorSpec], rows: int, requests: int) -> None:
    for name, spec in expected.items():
        size = rows if name.startswith("encode.") else len(arrays["scores"])
        size = requests if name in (CONTEXT, CONTEXT_ROWS) else size
        if arrays[name].dtype != spec.dtype or arrays[name].shape != (size, *spec.shape[1:]) or not size:
            raise BundleError(f"{names.GOLDEN}: {name} is {arrays[name].dtype} {arrays[name].shape}")
    if not np.isfinite(arrays["scores"]).all():
        raise BundleError(f"{names.GOLDEN}: an expected score is not finite")
    if not bool(((arrays["rows"] >= 0) & (arrays["rows"] < requests)).all()):
        raise BundleError(f"{names.GOLDEN}: a candidate belongs to no row")
