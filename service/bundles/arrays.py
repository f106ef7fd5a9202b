"""The arrays of a bundle: read without pickle, and without allocating what a header only claims."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Collection, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from contract.bundle.manifest import GOLDEN
from service.bundles.files import BundleError

Array = NDArray[Any]  # Any: int64 or float32, by the manifest

MAX_GOLDEN_BYTES: Final = 67_108_864  # unpacked; an exporter writes about ten thousand
_MAX_HEADER_BYTES: Final = 65_536  # numpy refuses headers of more than 10,000
_TYPES: Final = {np.dtype(np.int64), np.dtype(np.float32)}
_PACKINGS: Final = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}  # what numpy writes; others unpack without a limit


def read_npy(content: bytes | memoryview) -> Array:
    """Return a view of a .npy file whose size matches its header; `numpy.load` would allocate the claimed size.

    Raises:
        BundleError: another type, another size, or a version that numpy no longer writes.
    """
    file = io.BytesIO(bytes(content[:_MAX_HEADER_BYTES]))
    version = np.lib.format.read_magic(file)
    reader = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if reader is None:
        raise BundleError("an array file has an unknown version")
    shape, fortran, dtype = reader(file)
    if (
        dtype not in _TYPES
        or (fortran and len(shape) > 1)
        or len(content) - file.tell() != (math.prod(shape) * dtype.itemsize)
    ):
        raise BundleError("an array file has a wrong type or size")
    return np.frombuffer(content, dtype=dtype, offset=file.tell()).reshape(shape)


def read_npz(content: bytes, expected: Collection[str]) -> Mapping[str, Array]:
    """Read the arrays of golden.npz; at most MAX_GOLDEN_BYTES are unpacked, even if the archive claims a smaller size.

    Raises:
        BundleError: other arrays than the expected ones, too large, or packed in another way than numpy does.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > MAX_GOLDEN_BYTES:
            raise BundleError(f"{GOLDEN} unpacks to more than {MAX_GOLDEN_BYTES} bytes")
        found = sorted(member.filename.removesuffix(".npy") for member in members)
        if found != sorted(expected):
            raise BundleError(f"{GOLDEN} contains {found}, expected {sorted(expected)}"[:300])
        if any(member.compress_type not in _PACKINGS for member in members):
            raise BundleError(f"{GOLDEN} is packed in an unsupported way")
        return {member.filename.removesuffix(".npy"): read_npy(_unpacked(archive, member)) for member in members}


def _unpacked(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """Unpack as many bytes as the directory claims; `archive.read` would unpack all there are and then cut them."""
    with archive.open(member) as file:
        return file.read(member.file_size)
