"""The targets of fuzzing: each takes any bytes and raises where a rule is broken.

A reader may refuse bytes with its own error and no other. Where there are two readers of one format, they agree.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from contract.behaviours.records import RECORD, pack
from contract.bundle.manifest import ManifestError, parse_manifest
from contract.bundle.signature import SignatureError, parse_signatures
from contract.bundle.vocabulary import Vocabulary
from contract.experiments.file import read_experiments
from contract.experiments.problems import ExperimentsError
from service.access.file import AccessFileError, read_access
from service.bundles.arrays import MAX_GOLDEN_BYTES, read_npy, read_npz
from tests.e2e.corpus.recorded import body_of, recorded
from tests.property.test_behaviours import check_against_slow
from tests.property.test_rank_decoder import check
from tests.unit.service.connection.test_heads import LINES, Parsed, knowing, request

INPUTS: Final = Path(__file__).with_name("inputs")
_EXAMPLES: Final = Path(__file__).parents[2] / "deploy"


class Target(NamedTuple):
    """One reader of bytes."""

    run: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]  # good inputs to begin with


def rank_body(data: bytes) -> None:
    """The fast decoder of `POST /rank` and the friendly one accept and refuse the same."""
    check(data)


def stored_behaviours(data: bytes) -> None:
    """A value of Redis gives the records that a slow reference finds."""
    check_against_slow([data])


def known_head(data: bytes) -> None:
    """A head that is found without a parser is what the parser makes of it."""
    found = _HEADS.find(data)
    if found is not None:
        [(url, headers, body)] = Parsed(data).whole
        assert url == b"/rank"
        assert sorted(found.headers) == sorted(headers)
        assert data[found.body_at :] == body


def manifest(data: bytes) -> None:
    """A manifest is read or refused."""
    with suppress(ManifestError):
        parse_manifest(data)


def vocabulary(data: bytes) -> None:
    """A file of ids is read or refused."""
    with suppress(ValueError):
        Vocabulary.parse(data)


def signatures(data: bytes) -> None:
    """A file of signatures is read or refused."""
    with suppress(SignatureError):
        parse_signatures(data)


def arrays(data: bytes) -> None:
    """Arrays are read or refused, and are never larger than their file."""
    size = 0
    with suppress(Exception):  # of which numpy and zipfile have a dozen; the loader of bundles turns them all into one
        size = read_npy(data).nbytes
    assert size <= len(data)
    with suppress(Exception):
        size = sum(array.nbytes for array in read_npz(data, ["a"]).values())
    assert size <= MAX_GOLDEN_BYTES


def experiments(data: bytes) -> None:
    """An experiment file is read or refused, with the problems."""
    try:
        read_experiments(data)
    except ExperimentsError as error:
        found = error.found
    else:
        return
    assert found


def access(data: bytes) -> None:
    """An access file is read or refused, with the problems."""
    try:
        read_access(data)
    except AccessFileError as error:
        problems = error.problems
    else:
        return
    assert problems


_HEADS: Final = knowing()


def _bodies() -> Iterable[bytes]:
    return [body_of(line) for group in ("rankings", "bodies") for line in recorded(group).values()]


def _array_files() -> Iterable[bytes]:
    array, archive = io.BytesIO(), io.BytesIO()
    np.save(array, np.arange(3, dtype=np.int64))
    np.savez(archive, a=np.arange(3, dtype=np.float32))
    return [array.getvalue(), archive.getvalue()]


def _heads() -> Iterable[bytes]:
    return [request(LINES), request([*LINES, b"x-request-id: abc", b"traceparent: 00-ab-cd-01"], b"[]")]


TARGETS: Final = {
    "rank_body": Target(rank_body, _bodies),
    "stored_behaviours": Target(stored_behaviours, lambda: [pack(np.zeros(3, dtype=RECORD))]),
    "known_head": Target(known_head, _heads),
    "manifest": Target(manifest, lambda: [(INPUTS / "manifest" / "good").read_bytes()]),
    "vocabulary": Target(vocabulary, lambda: [b'{"ids": ["a", "b"]}']),
    "signatures": Target(signatures, lambda: [b"ed25519 " + b"0" * 16 + b" " + b"0" * 128 + b"\n"]),
    "arrays": Target(arrays, _array_files),
    "experiments": Target(experiments, lambda: [(_EXAMPLES / "experiments.yaml").read_bytes()]),
    "access": Target(access, lambda: [b"callers: [{id: a, keys: [sha256:" + b"0" * 64 + b"], scopes: [rank]}]"]),
}
