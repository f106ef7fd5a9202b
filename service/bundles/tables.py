"""Tables of a bundle: arrays in separate files, mapped and not read, so that all processes share one copy.

Later changes of a mapped file are visible in memory. `Tables.were_changed` finds a file that was edited in place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from contract.bundle.manifest import TableSpec
from service.bundles.arrays import Array, read_npy
from service.bundles.files import BundleError, Content, MappedFile, Stamp, stamp_of
from service.bundles.weights import NotFinite, check_values


@dataclass(frozen=True, eq=False)
class Tables:
    """A bundle's tables by name, checked.

    Attributes:
        arrays: as described by the manifest; read-only.
        stamps: of the files that are mapped.
    """

    arrays: Mapping[str, Array] = field(default_factory=dict)
    stamps: Mapping[Path, Stamp] = field(default_factory=dict)

    def were_changed(self) -> bool:
        """Return whether a mapped file was edited in place; one that was replaced or removed is mapped as it was."""
        return any(_was_edited(path, stamp) for path, stamp in self.stamps.items())


def read_tables(directory: Path, specs: Sequence[TableSpec], files: Mapping[str, Content]) -> Tables:
    """Return the tables of a bundle from its checked files.

    Raises:
        BundleError: one is not as the manifest describes it, or has a number that is not finite.
    """
    arrays = {spec.name: _table(spec, files[spec.file]) for spec in specs}
    mapped = {spec.file: files[spec.file] for spec in specs}
    stamps = {directory / name: file.stamp for name, file in mapped.items() if isinstance(file, MappedFile)}
    return Tables(arrays, stamps)


def _table(spec: TableSpec, content: Content) -> Array:
    found = read_npy(content.content if isinstance(content, MappedFile) else content)
    if (found.dtype.name, found.shape) != (spec.dtype, spec.shape) or not found.flags.aligned:
        raise BundleError(f"{spec.file} is {found.dtype.name} {found.shape}, not as in the manifest")
    try:
        check_values(spec.file, found.reshape(-1))
    except NotFinite as error:
        raise BundleError(str(error)) from error
    return found


def _was_edited(path: Path, stamp: Stamp) -> bool:
    try:
        found = stamp_of(path.lstat())
    except OSError:
        return False
    return found != stamp and found.inode == stamp.inode
