"""Rules after scoring in the report, from the ranking log."""

from __future__ import annotations

import duckdb
import pytest

from analysis.tables.database import Database
from analysis.verdict.moved import Applied, rules_applied, told


@pytest.fixture
def opened() -> Database:
    connection = duckdb.connect()
    connection.execute(
        "CREATE TABLE ranking (unit VARCHAR, arm VARCHAR, rules VARCHAR, moved STRUCT(rule VARCHAR, items INTEGER)[])"
    )
    return Database(connection)


def test_sets_are_counted_by_arm_with_what_each_rule_moved(opened: Database) -> None:
    opened.connection.execute(
        """INSERT INTO ranking VALUES
        ('u', 'control', NULL, NULL),
        ('v', 'treatment', 'spread', [{'rule': 'age_limit', 'items': 0}, {'rule': 'boost:topic', 'items': 4}]),
        ('w', 'treatment', 'spread', [{'rule': 'age_limit', 'items': 1}, {'rule': 'boost:topic', 'items': 5}]),
        ('x', 'treatment', 'spread', NULL)"""
    )
    found = rules_applied(opened)
    assert found == (Applied("treatment", "spread", 2, 3, {"age_limit": 1, "boost:topic": 9}),)
    assert told(found) == (
        "treatment: spread on 2 of 3 logged rankings, candidates moved a ranking: age_limit 0.5 and boost:topic 4.5"
    )


def test_without_rules_there_is_nothing_to_tell(opened: Database) -> None:
    assert rules_applied(opened) == ()
