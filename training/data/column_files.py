"""Columns of numbers that are written batch by batch and become one npz file: memory stays that of a batch."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Final

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from contract.progress import Progress

Column = NDArray[np.int64]
_PIECE: Final = 1 << 20  # bytes compressed at once


class ColumnFiles:
    """Raw int64 columns below a folder, one file each.

    Attributes:
        rows: written so far.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        folder.mkdir()
        self._folder = folder
        self._files: dict[str, IO[bytes]] = {name: (folder / name).open("wb") for name in names}
        self.rows = 0

    def add(self, columns: dict[str, Column]) -> None:
        """Append a batch; columns of other names are ignored."""
        for name, file in self._files.items():
            file.write(np.ascontiguousarray(columns[name], dtype="<i8").data)
        self.rows += len(columns[next(iter(self._files))])

    def chunks(self, names: Sequence[str], size: int = 1_000_000) -> Iterator[list[Column]]:
        """Yield chunks of some of the columns, in the order of rows."""
        for file in self._files.values():
            file.flush()
        for start in range(0, self.rows, size):
            count = min(size, self.rows - start)
            yield [np.fromfile(self._folder / name, "<i8", count, offset=8 * start) for name in names]

    def save(self, path: Path, **arrays: Column) -> None:
        """Write an npz file with all columns and the given arrays, and remove the raw files."""
        size = 8 * self.rows * len(self._files)
        with (
            zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
            Progress(f"compressing {path.stem}", size) as progress,
        ):
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as target:
                    npy.write_array(target, array, allow_pickle=False)
            for name, file in self._files.items():
                file.close()
                with archive.open(f"{name}.npy", "w", force_zip64=True) as target:
                    header = {"descr": "<i8", "fortran_order": False, "shape": (self.rows,)}
                    npy.write_array_header_1_0(target, header)
                    with (self._folder / name).open("rb") as source:
                        while piece := source.read(_PIECE):
                            target.write(piece)
                            progress.advance(len(piece))
        shutil.rmtree(self._folder)
