"""The rules after scoring that each arm's rankings had, and how many candidates they moved, by the ranking log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from analysis.tables.database import Database
from analysis.text import count, in_words


@dataclass(frozen=True)
class Applied:
    """A set of rules in an arm.

    Args:
        arm: the assigned one.
        rules: name of the set.
        rankings: logged rankings that it was applied to.
        of: all logged rankings of the arm.
        moved: candidates that each rule moved, in all of them.
    """

    arm: str
    rules: str
    rankings: int
    of: int
    moved: Mapping[str, int]


def rules_applied(opened: Database) -> tuple[Applied, ...]:
    """Return the sets in the table `ranking`, which `analysis.units.counts` has made, by arm."""
    all_of = dict(opened.rows("SELECT arm, count(*) FROM ranking GROUP BY arm"))
    moved: dict[tuple[str, str], dict[str, int]] = {}
    each = "SELECT arm, rules, unnest(moved) AS one FROM ranking"
    query = f"SELECT arm, rules, one.rule, sum(one.items)::BIGINT FROM ({each}) GROUP BY ALL ORDER BY ALL"
    for arm, rules, rule, items in opened.rows(query):
        moved.setdefault((arm, rules), {})[rule] = items
    sets = opened.rows("SELECT arm, rules, count(*) FROM ranking WHERE moved IS NOT NULL GROUP BY ALL ORDER BY ALL")
    return tuple(Applied(arm, rules, n, all_of[arm], moved.get((arm, rules), {})) for arm, rules, n in sets)


def told(applied: Sequence[Applied]) -> str:
    """Return the sets for people, arm by arm."""
    return "; ".join(
        f"{one.arm}: {one.rules} on {count(one.rankings)} of {count(one.of)} logged rankings, candidates moved a "
        f"ranking: {in_words([f'{rule} {items / one.rankings:.1f}' for rule, items in one.moved.items()])}"
        for one in applied
    )
