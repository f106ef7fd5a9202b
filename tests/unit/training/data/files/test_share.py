"""How much of a file is read, for the progress of `prepare`."""

from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from training.data.files.parts import open_part
from training.data.sizes import unpacked_bytes

ROWS = 40_000  # of a file: several batches


def _written(path: Path) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"user": [str(row) for row in range(ROWS)]}), path)
        return path
    line = "u{}\n" if "csv" in path.name else '{{"user": "u{}"}}\n'
    content = ("user\n" if "csv" in path.name else "") + "".join(line.format(row) for row in range(ROWS))
    path.write_bytes(gzip.compress(content.encode()) if path.suffix == ".gz" else content.encode())
    return path


@pytest.mark.parametrize("name", ["log.csv", "log.csv.gz", "log.jsonl", "log.jsonl.gz", "log.parquet"])
def test_the_share_that_is_read_grows_to_the_whole_file(tmp_path: Path, name: str) -> None:
    part = open_part(_written(tmp_path / name))
    shares = [part.share for _ in part.batches(["user"], [], pytest.fail)]
    assert len(shares) == 3
    assert shares == sorted(shares)
    assert 0.2 < shares[0] < 0.6
    assert shares[-1] == pytest.approx(1.0)


def test_sizes_that_no_file_tells_are_zero(tmp_path: Path) -> None:
    (tmp_path / "log.csv.zst").write_bytes(b"x")
    assert unpacked_bytes(tmp_path / "log.csv.zst") == 0
    assert unpacked_bytes(tmp_path / "absent.csv") == 0
