"""Fuzzes one target, guided by coverage: `.checks/bin/python -m tests.fuzz TARGET --seconds 60`.

An input that breaks a rule is written to tests/fuzz/inputs/TARGET/, from where the default tests run it forever.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import atheris

with atheris.instrument_imports(include=["contract", "service"]):
    from tests.fuzz.targets import INPUTS, TARGETS

_MAX_BYTES = 8_192  # of one input
_TIMEOUT_SECONDS = 5
_MEMORY_MB = 2_048


def main() -> None:
    """Fuzz until the time is over or a rule is broken; exits with libFuzzer's status."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0, help="0 draws one and prints it")
    options = parser.parse_args()
    target = TARGETS[options.target]
    kept = INPUTS / options.target
    kept.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as corpus:
        for number, seed in enumerate(target.seeds()):
            (Path(corpus) / f"seed-{number}").write_bytes(seed)
        arguments = [
            sys.argv[0], corpus, str(kept), f"-max_total_time={options.seconds}", f"-seed={options.seed}",
            f"-max_len={_MAX_BYTES}", f"-timeout={_TIMEOUT_SECONDS}", f"-rss_limit_mb={_MEMORY_MB}",
            f"-artifact_prefix={kept}/", "-print_final_stats=1",
        ]  # fmt: skip
        atheris.Setup(arguments, target.run)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
