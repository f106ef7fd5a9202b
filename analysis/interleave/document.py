"""The report of an interleaving as Markdown."""

from __future__ import annotations

from typing import Final

from analysis.interleave.credit import CREDITS
from analysis.interleave.estimate import Finding, Preference, signed
from analysis.report.markdown import plain
from analysis.text import count, p_text

_HEADINGS: Final = ("Credit", "Role", "Mean", "95% interval", "p", "Users", "Prefer {}", "Prefer control", "Neither")
_READING: Final = (
    "A ranking's credit is 1 if the treatment has more items with credit, \N{MINUS SIGN}1 if the control has, else 0. "
    "Only items that one team placed count.",
    "A user's credit is the mean over rankings with teams. The test is a one-sample t-test over users.",
    "The primary credit decides. p-values of secondary credits are not adjusted.",
    "The interval is valid at one reading, at a size that was planned before.",
    "Interleaving compares lists. Active days and stay duration need an A/B test.",
)


def document(found: Finding) -> str:
    """Return the Markdown."""
    mark = " (simulated)" if found.simulated else ""
    headings = [heading.format(plain(found.treatment)) for heading in _HEADINGS]
    lines = [headings, ["---"] * len(headings), *[_cells(row) for row in found.rows]]
    parts = [
        f"# {plain(found.experiment)}: interleaving{mark}",
        f"**{plain(found.sentence)}**",
        "\n".join(f"| {' | '.join(line)} |" for line in lines),
        f"## Data{mark}",
        "\n".join(f"- {plain(name)}: {plain(text)}" for name, text in found.facts),
        "## How to read it",
        "\n".join(f"- {plain(f'{row.credit}: {CREDITS[row.credit]}.')}" for row in found.rows),
        "\n".join(f"- {text}" for text in _READING),
    ]
    return "\n\n".join(parts) + "\n"


def _cells(row: Preference) -> list[str]:
    interval = "-" if row.low is None or row.high is None else f"{signed(row.low)} to {signed(row.high)}"
    users = [count(number) for number in (row.users, row.for_treatment, row.for_control, row.neither)]
    name = row.credit.replace("_", " ")
    return [name, row.role, signed(row.mean), interval, "-" if row.p is None else p_text(row.p), *users]
