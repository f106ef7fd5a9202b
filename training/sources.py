"""From the name of a data set to its interactions."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from training.datasets import csv_file, generated, ml100k
from training.datasets.interactions import DataError, Interactions
from training.datasets.locate import data_folder, locate
from training.recipe import NAME_PATTERN


class Source(NamedTuple):
    """The folder's name, the interactions, and what people must be told ("" = nothing)."""

    name: str
    interactions: Interactions
    notice: str


def read_source(dataset: str, given: Path | None, out: Path) -> Source:
    """Read a data set by name (`ml-100k`, `generated`) or a CSV file by path.

    Where ml-100k is nowhere, a generated catalogue takes its place, and the notice says so. Where a folder was
    named that does not hold it, that is an error.

    Raises:
        DataError: the data are malformed, or not where they were said to be.
    """
    if dataset == generated.NAME:
        return Source(dataset, generated.load(), "this is a generated catalogue: no real users or items")
    if dataset.endswith((".csv", ".csv.gz")):
        interactions = csv_file.load(Path(dataset))
        if not re.fullmatch(NAME_PATTERN, interactions.name):
            raise DataError(f"{dataset}: its name becomes the data set's: letters, digits, '.', '_', '-'; rename it")
        return Source(interactions.name, interactions, "")
    if dataset != ml100k.NAME:
        raise DataError(
            f"no data set {dataset!r}; there are {ml100k.NAME}, {generated.NAME}, or the path of a .csv file"
        )
    try:
        folder = locate(dataset, given, out / "downloads")
    except DataError as error:
        if given is not None or data_folder() is not None:
            raise
        return Source(
            dataset, generated.load(), f"{error}. GOING ON WITH A GENERATED CATALOGUE: no real users or items"
        )
    return Source(dataset, ml100k.load(folder), "")
