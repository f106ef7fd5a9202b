"""From the name of a data set to its interactions."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from rich.table import Column, Table

from contract.behaviours.csv_rows import Problem
from training.data.datasets import amazon, csv_file, generated, kuairand, ml1m, ml100k
from training.data.datasets.interactions import NAME_PATTERN, DataError, Interactions
from training.data.datasets.locate import ARCHIVES, data_folder, locate
from training.data.files import own
from training.data.files.large_log import LargeLog
from training.data.files.parts import ENDINGS, is_own, mapping_of, stem

DEFAULT_CORE: Final = 5
_MORE: Final = ("context", "impressions", "impressions_positive")


class Published(NamedTuple):
    """Published counts, to compare with ours."""

    where: str
    users: int
    items: int
    interactions: int


class DataSet(NamedTuple):
    """One data set: its reader, its files (the first marks the folder), its filter, its known counts."""

    load: Callable[[Path], Interactions]
    files: tuple[str, ...]
    core: int = DEFAULT_CORE
    published: tuple[Published, ...] = ()


class MappingOptions(NamedTuple):
    """The mapping that the command line names: a file, and single keys as KEY=VALUE."""

    file: Path | None = None
    overrides: tuple[str, ...] = ()


NO_MAPPING: Final = MappingOptions()


class Source(NamedTuple):
    """The folder's name, the interactions, and a notice for people ("" = none)."""

    name: str
    interactions: Interactions | LargeLog
    notice: str
    core: int = DEFAULT_CORE
    published: tuple[Published, ...] = ()


DATA_SETS: Final = {
    ml100k.NAME: DataSet(
        ml100k.load,
        ml100k.FILES,
        published=(Published("GroupLens", 943, 1_682, 100_000), Published("its 5-core", 943, 1_349, 99_287)),
    ),
    ml1m.NAME: DataSet(
        ml1m.load,
        ml1m.FILES,
        published=(Published("GroupLens", 6_040, 3_706, 1_000_209), Published("its 5-core", 6_040, 3_416, 999_611)),
    ),
    amazon.BEAUTY: DataSet(
        amazon.beauty,
        (amazon.REVIEWS, amazon.ITEMS),
        published=(Published("2014, 5-core", 22_363, 12_101, 198_502),),
    ),
    amazon.TOYS: DataSet(
        amazon.toys,
        (amazon.REVIEWS, amazon.ITEMS),
        published=(
            Published("2014, 5-core", 19_412, 11_924, 167_597),
            Published("MGNM, Table 1: another cut", 313_557, 241_657, 6_212_901),
        ),
    ),
    amazon.INSTRUMENTS: DataSet(
        amazon.instruments,
        (amazon.REVIEWS,),
        published=(
            Published("2018, 5-core", 24_772, 9_922, 206_153),
            Published("MGNM, Table 1: another cut", 60_739, 56_301, 946_627),
        ),
    ),
    kuairand.NAME: DataSet(
        kuairand.load,
        kuairand.FILES,
        core=1,
        published=(
            Published("the log, with repeats", 25_156, 6_361, 228_329),
            Published("MGNM, Table 1, Micro-video: another log", 60_813, 292_286, 14_952_659),
        ),
    ),
}


def read_source(
    dataset: str,
    given: Path | None,
    out: Path,
    on_skip: Callable[[Problem], None] | None = None,
    mapping: MappingOptions = NO_MAPPING,
) -> Source:
    """Read a data set by name (a key of DATA_SETS, or `generated`) or own files by path.

    If ml-100k is not found, a generated catalogue is returned under its own name, with a notice. A named folder without
    the data is an error, and so is a missing data set without an official archive.

    Args:
        dataset: name or path.
        given: the folder that contains the data set, if one was named.
        out: folder of prepared data sets; downloads go below it.
        on_skip: called with each bad line of own files, which is then skipped; None stops at the first one.
        mapping: of the columns of own files.

    Raises:
        DataError: the data are malformed, or not in the named folder.
    """
    if dataset == generated.NAME:
        return Source(dataset, generated.load(), "this is a generated catalogue: no real users or items")
    if dataset not in DATA_SETS:
        return _own(dataset, out, mapping, on_skip)
    known = DATA_SETS[dataset]
    try:
        folder = locate(dataset, known.files, given, out / "downloads")
    except DataError as error:
        if dataset not in ARCHIVES or given is not None or data_folder() is not None:
            raise
        return Source(
            generated.NAME,
            generated.load(),
            f"{error}. CONTINUING WITH A GENERATED CATALOGUE, {generated.NAME!r}: no real users or items",
        )
    return Source(dataset, known.load(folder), "", known.core, known.published)


def _own(dataset: str, out: Path, options: MappingOptions, on_skip: Callable[[Problem], None] | None) -> Source:
    """Read own files: a CSV file with our own column names by its own reader, others by their mapping."""
    path = Path(dataset)
    if not is_own(dataset):
        raise DataError(
            f"no data set {dataset!r}; there are {', '.join(DATA_SETS)}, {generated.NAME}, or the path of a file "
            f"({', '.join(f'.{ending}' for ending in ENDINGS)}, also with .gz or .zst) or of a folder of such files"
        )
    if not re.fullmatch(NAME_PATTERN, stem(path)):
        raise DataError(f"{dataset}: its name becomes the data set's: letters, digits, '.', '_', '-'; rename it")
    if csv_file.is_csv(dataset) and not path.is_dir() and options == NO_MAPPING and mapping_of(path) is None:
        return Source(stem(path), csv_file.load(path, on_skip), "")
    log, mapping = own.open_log(path, options.file, options.overrides, on_skip)
    return Source(stem(path), own.load(log, mapping, path, out), "")


def counts_table(provenance: dict[str, Any], published: tuple[Published, ...]) -> Table:
    """Return the counts of prepared data next to the published ones."""
    counts = provenance["counts"]
    ours = [
        Published("read", *(counts[f"{name}_before"] for name in ("users", "items", "interactions"))),
        Published("prepared", *(counts[name] for name in ("users", "items", "interactions"))),
    ]
    table = Table("counts", *(Column(name, justify="right") for name in ("users", "items", "interactions")))
    for where, *numbers in (*ours, *published):
        table.add_row(where, *(f"{number:,}" for number in numbers))
    notes = [f"{name.replace('_', ' ')} {count:,}" for name, count in provenance["read"].items() if count]
    notes += [f"{name.replace('_', ' ')} {counts[name]:,}" for name in _MORE if counts.get(name)]
    if not counts["has_times"]:
        notes.append("unknown times are made up; only their order is real")
    table.caption = "; ".join(notes) or None
    return table
