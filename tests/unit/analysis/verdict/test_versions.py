"""Arms that change their version: what the report tells, and when it warns."""

from __future__ import annotations

from analysis.verdict.versions import Served, moved_together, told
from tests.support.event_tables import DAY, T0


def served(arm: str, version: str, day: float, until: float = 14) -> Served:
    return Served(arm, "m", version, T0 + round(day * DAY), T0 + round(until * DAY), 10)


def test_arms_that_keep_their_version_have_no_gate() -> None:
    assert moved_together([served("control", "1", 0), served("treatment", "2", 0)]) is None


def test_arms_that_move_on_together_pass() -> None:
    found = moved_together(
        [served(arm, str(day), day + late) for arm, late in (("control", 0), ("b", 0.5)) for day in range(5)]
    )
    assert found is not None
    assert (found.state, found.finding) == (
        "pass",
        "The arms changed their versions together: control 4 and b 4 times.",
    )


def test_arm_that_is_left_behind_is_a_warning() -> None:
    found = moved_together([served("control", "1", 0), served("b", "1", 0), served("b", "2", 3)])
    assert found is not None
    assert found.state == "warn"
    assert found.finding.startswith("b moved to m@2 on 2026-01-04 08:00, control did not move within 2 days")


def test_change_at_the_end_of_the_data_is_not_judged_yet() -> None:
    found = moved_together([served("control", "1", 0, 14), served("b", "1", 0, 13), served("b", "2", 13, 14)])
    assert found is not None
    assert found.state == "pass"


def test_versions_are_told_arm_by_arm() -> None:
    assert told([served("b", "1", 0), served("b", "2", 1), served("control", "7", 0)]) == (
        "b m@1 from 2026-01-01 08:00 (10 exposures) and m@2 from 2026-01-02 08:00 (10 exposures); "
        "control m@7 from 2026-01-01 08:00 (10 exposures)"
    )
