"""The plan that a report reads; for the holdout, held-out users are its control."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from analysis.verdict.setup import from_file, from_shares, unplanned
from contract.command_line import CommandError
from contract.experiments.fields import CONTROL
from tests.support.experiment_data import EXPERIMENT, write_plan
from tests.support.experiment_files import example


def test_the_holdout_of_a_file_is_an_experiment_of_held_out_and_measured_users(tmp_path: Path) -> None:
    file = tmp_path / "experiments.yaml"
    file.write_text(yaml.safe_dump(example(holdout={"salt": "h", "buckets": [[0, 100], [9_980, 10_000]]})))
    setup = from_file(file, "_holdout")
    assert (setup.control, setup.shares, setup.salt) == ("held_out", {"held_out": 120, "measured": 120}, "h")
    assert (setup.bucket, setup.ranges) == (
        "slot", {"held_out": ((0, 100), (9_980, 10_000)), "measured": ((100, 220),)}
    )  # fmt: skip
    assert setup.treatments(["held_out", "measured"]) == ("measured",)


def test_a_file_without_a_holdout_has_no_such_experiment(tmp_path: Path) -> None:
    file = tmp_path / "experiments.yaml"
    file.write_text(yaml.safe_dump(example(holdout=None)))
    with pytest.raises(CommandError, match="no experiment '_holdout'"):
        from_file(file, "_holdout")


def test_held_out_users_are_the_control_without_a_file_too() -> None:
    assert (unplanned("_holdout").control, unplanned("x").control) == ("held_out", CONTROL)
    assert from_shares("_holdout", "held_out=1,measured=1").control == "held_out"
    with pytest.raises(CommandError, match="one arm must be named held_out"):
        from_shares("_holdout", "control=1,measured=1")


def test_the_plan_of_an_experiment_is_that_of_the_file(tmp_path: Path) -> None:
    setup = from_file(write_plan(tmp_path / "plan.yaml", "aa", (7_000, 3_000)), EXPERIMENT)
    assert setup.alike
    assert setup.shares == {"control": 7_000, "treatment": 3_000}
    assert setup.ranges == {"control": ((0, 7_000),), "treatment": ((7_000, 10_000),)}
    assert (setup.salt, setup.primary) == ("experiment-1", ("playtime", "finish_rate"))
    assert setup.treatments([]) == ("treatment",)
    assert setup.unplanned(["control", "extra"]) == ("extra",)


def test_an_experiment_that_interleaves_has_no_report_of_arms(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"its users see both arms, .* use python -m analysis interleave"):
        from_file(write_plan(tmp_path / "plan.yaml", "interleave"), EXPERIMENT)
