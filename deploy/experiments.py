"""A copy of the experiment file that runs today: `python -m deploy.experiments OUT.yaml`.

An experiment lasts at most 90 days; a clone of this repository lives longer. The demo and `docker-compose.yml`
therefore run `deploy/experiments.yaml` with its dates moved to start today (docs/adr/0051-experiment-dates.md). An
existing file is stopped and followed by one with new keys and salts.
"""

from __future__ import annotations

import argparse
import copy
import re
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from contract.command_line import run
from contract.experiments.fields import TIME_FORMAT
from contract.experiments.parse import parse_experiments
from contract.experiments.problems import ExperimentsError

SOURCE = Path(__file__).with_name("experiments.yaml")
_NUMBER = re.compile(r"-\d+$")
DAYS = 84  # whole weeks, and under the 90 days that an experiment may last


def current(
    *,
    treatment: str | None = None,
    versions: Mapping[str, str] | None = None,
    header_enabled: bool | None = None,
    source: Path = SOURCE,
    now: float | None = None,
) -> dict[str, Any]:
    """Return the document of the experiment file with every running experiment's dates moved to contain today.

    Args:
        treatment: the model of the treatment arm; None keeps the file's.
        versions: versions by model, for models whose "latest" could be another bundle.
        header_enabled: whether a signed override header counts; None keeps the file's.
        source: the file to start from.
        now: seconds since the epoch; None reads the clock.

    Raises:
        ExperimentsError: the result breaks a rule of the format.
    """
    document: dict[str, Any] = yaml.safe_load(source.read_text(encoding="utf-8"))
    midnight = datetime.fromtimestamp(time.time() if now is None else now, UTC).replace(
        hour=0, minute=0, second=0, microsecond=0
    )
    for experiment in _experiments(document):
        experiment["start"] = midnight.strftime(TIME_FORMAT)
        experiment["end"] = (midnight + timedelta(days=DAYS)).strftime(TIME_FORMAT)
        for arm in experiment["arms"]:
            if treatment is not None and arm["key"] == "treatment":
                arm["params"] = {**arm["params"], "model": treatment}
    for params in _params(document):
        if "model" in params:
            params["version"] = (versions or {}).get(params["model"], params["version"])
    if header_enabled is not None:
        document["overrides"] = {**document.get("overrides", {}), "header_enabled": header_enabled}
    parse_experiments(document)
    return document


def write_current(
    path: Path,
    *,
    treatment: str | None = None,
    versions: Mapping[str, str] | None = None,
    header_enabled: bool | None = None,
    follow: bool = False,
    now: float | None = None,
) -> bool:
    """Write today's copy of the experiment file, unless the existing one differs only in dates that are still valid.

    A file that still runs is not changed, so that a restart keeps the digest. Returns whether it was written.

    Args:
        path: file to write.
        treatment: as `current` has it.
        versions: as `current` has it.
        header_enabled: as `current` has it.
        follow: whether the service remembers the existing file: its experiments are then stopped, and the new
            ones get new keys and salts, because a key and a salt can be used once (docs/experiments.md).
        now: seconds since the epoch; None reads the clock.
    """
    document = current(treatment=treatment, versions=versions, header_enabled=header_enabled, now=now)
    before = _valid(path)
    if before is not None and _still_runs(before, document, time.time() if now is None else now):
        return False
    if follow and before is not None:
        _follow(document, before)
        parse_experiments(document)
    path.parent.mkdir(parents=True, exist_ok=True)
    pending = path.with_name(path.name + ".new")
    pending.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    pending.replace(path)
    return True


def _valid(path: Path) -> dict[str, Any] | None:
    try:
        document: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        parse_experiments(document)
    except (OSError, yaml.YAMLError, ExperimentsError):
        return None
    return document


def _still_runs(known: dict[str, Any], document: dict[str, Any], now: float) -> bool:
    today = datetime.fromtimestamp(now, UTC)
    config, _ = parse_experiments(known)
    running = [one for layer in config.layers for one in layer.experiments if one.status == "running"]
    return all(one.start <= today < one.end for one in running) and _comparable(known) == _comparable(document)


def _comparable(document: dict[str, Any]) -> dict[str, Any]:
    """Return a file without the parts that differ between copies: dates, stopped experiments, the numbers of keys."""
    plain = copy.deepcopy(document)
    for layer in plain["layers"]:
        layer["experiments"] = [one for one in layer.get("experiments", []) if one["status"] != "stopped"]
    for experiment in _experiments(plain):
        experiment["start"] = experiment["end"] = None
        for name in ("key", "salt"):
            experiment[name] = _NUMBER.sub("", experiment[name])
    return plain


def _follow(document: dict[str, Any], before: dict[str, Any]) -> None:
    """Turn a file into one that may follow another: running experiments are stopped, and no key or salt is reused."""
    last = {layer["key"]: layer.get("experiments", []) for layer in before["layers"]}
    number = 1 + max([_number(one["key"]) for one in _experiments(before)], default=0)
    for experiment in _experiments(document):
        for name in ("key", "salt"):
            experiment[name] = f"{experiment[name]}-{number}"
    for layer in document["layers"]:
        ended = [{**one, "status": "stopped"} for one in last.get(layer["key"], []) if one["status"] != "stopped"]
        layer["experiments"] = [*layer.get("experiments", []), *ended]


def _number(key: str) -> int:
    """Return the number of the copy that a key belongs to; the first copy has no number."""
    found = _NUMBER.search(key)
    return int(found[0][1:]) if found else 1


def _experiments(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [experiment for layer in document["layers"] for experiment in layer.get("experiments", [])]


def _params(document: dict[str, Any]) -> list[dict[str, Any]]:
    arms = [arm["params"] for experiment in _experiments(document) for arm in experiment["arms"]]
    return [*(layer["defaults"] for layer in document["layers"]), *arms]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the copy that the command line names; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m deploy.experiments", description=__doc__)
    parser.add_argument("out", type=Path, help="file to write")
    parser.add_argument("--treatment", help="model of the treatment arm")
    options = parser.parse_args(arguments)
    return run("experiments", lambda: _write(options))


def _write(options: argparse.Namespace) -> int:
    written = write_current(options.out, treatment=options.treatment, follow=True)
    print(f"{options.out}: {'written' if written else 'still running, not changed'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
