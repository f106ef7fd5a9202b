"""The result of a proof as files: JSON, Markdown and a picture."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from analysis.proof.judge import Check
from contract.files import write_whole

Checks = Mapping[str, Sequence[Check]]
"""By population."""

_TITLE: Final = "Proof of the report's statistics (simulated replays)"


def write(folder: Path, checks: Checks, command: str, seconds: float) -> None:
    """Write proof.json, proof.md and proof.svg.

    Args:
        folder: gets the files; exists.
        checks: of each population.
        command: the command line.
        seconds: how long it took.
    """
    from analysis.proof.picture import picture

    document = {
        "command": command,
        "seconds": round(seconds),
        "populations": {
            name: [asdict(one) | {"is_met": one.is_met} for one in found] for name, found in checks.items()
        },
    }
    write_whole(folder / "proof.json", (json.dumps(document, indent=1) + "\n").encode())
    write_whole(folder / "proof.md", ("\n".join(_markdown(checks, command, seconds)) + "\n").encode())
    write_whole(folder / "proof.svg", picture(checks))


def _markdown(checks: Checks, command: str, seconds: float) -> Iterator[str]:
    total = [one for found in checks.values() for one in found]
    yield f"# {_TITLE}"
    yield ""
    yield f"`{command}`, {seconds:.0f} s. {sum(one.is_met for one in total)} of {len(total)} checks are met."
    yield ""
    yield "![False positives of each statistic](proof.svg)"
    for population, found in checks.items():
        yield f"\n## {population}"
        for group in dict.fromkeys(one.group for one in found):
            yield f"\n### {group[0].upper()}{group[1:]}\n"
            yield "| Statistic | Value | Allowed | Met | Replays |"
            yield "| --- | --- | --- | --- | --- |"
            yield from (_row(one) for one in found if one.group == group)


def _row(one: Check) -> str:
    shown = [f"{value:.3g}" if "KS" in one.group else f"{value:.2%}" for value in (one.value, one.least, one.most)]
    met = "yes" if one.is_met else "**no**"
    return f"| {one.name} | {shown[0]} | {shown[1]} to {shown[2]} | {met} | {one.replays:,} |"
