"""prepare: filter, order and index a data set."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    command.add_argument("dataset", help="ml-100k, another known name, generated, or the path of your file or folder")
    command.add_argument("--data", type=Path, help="folder that contains the raw data set (default: $RANKER_DATA, ...)")
    command.add_argument("--out", type=Path, default=Path("data"), help="folder of prepared data sets (default data)")
    command.add_argument("--core", type=int, help="minimum interactions per user and item (default: the data set's)")
    command.add_argument(
        "--skip-bad-lines", action="store_true", help="of own files: skip, count and list them (default: an error)"
    )
    command.add_argument("--mapping", type=Path, help="TOML file: their columns (default: NAME.toml beside the file)")
    command.add_argument(
        "--map", action="append", default=[], metavar="KEY=VALUE", help="one key of the mapping, as columns.user=uid"
    )
    command.add_argument(
        "--after", type=Path, metavar="FOLDER",
        help="append to the vocabularies of these prepared data, or of this run: train --from needs it",
    )  # fmt: skip
    command.add_argument("--report", action="store_true", help="the prepared folder as a JSON line, for a program")


def run(options: argparse.Namespace) -> int:
    """Prepare the data set; returns the exit status."""
    from contract.behaviours.file import SkippedLines
    from training.data.known import NOTHING_KNOWN, read_known
    from training.data.plausibility import told
    from training.data.prepare import prepare
    from training.data.sources import MappingOptions, counts_table, read_source

    known = NOTHING_KNOWN if options.after is None else read_known(options.after)
    skipped = SkippedLines(Path(options.dataset))
    mapping = MappingOptions(options.mapping, tuple(options.map))
    on_skip = skipped if options.skip_bad_lines else None
    source = read_source(options.dataset, options.data, options.out, on_skip, mapping)
    for line in skipped.told():
        print(line, file=sys.stderr)
    if source.notice:
        print(f"NOTICE: {source.notice}")
    core = source.core if options.core is None else options.core
    provenance, reused = prepare(source.interactions, options.out / source.name, core=core, known=known)
    counts = provenance["counts"]
    print(
        f"{provenance['dataset']}: {counts['users']:,} users, {counts['items']:,} items, {counts['interactions']:,} "
        f"interactions after the {core}-core, of {counts['interactions_before']:,}"
    )
    Console(highlight=False).print(counts_table(provenance, source.published))
    for line in told(provenance["plausibility"], counts):
        print(line)
    if "repeat_share" in provenance:
        print(f"{provenance['repeat_share']:.1%} of the targets repeat what their user did before (docs/evaluation.md)")
    print(f"{'unchanged' if reused else 'written'}: {options.out / source.name}")
    if options.report:
        print(json.dumps({"prepared": source.name}))
    return 0
