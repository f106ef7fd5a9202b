"""The proof, short: fewer users and replays than `make prove`, the same code and gates; and that each gate can fail."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.metrics import BY_NAME, MEANS
from analysis.proof.effects import LOOKS, looks, planted, welch
from analysis.proof.judge import Check, failures, judge
from analysis.proof.population import Population
from analysis.proof.replays import assign, salt_of
from analysis.proof.run import replay
from analysis.proof.statistics import p_values
from analysis.statistics.estimates import Sample, estimate
from contract.experiments.buckets import bucket, buckets

USERS, REPLAYS = 1_500, 100


@pytest.fixture(scope="module")
def population() -> Population:
    """Users who differ: who watches much finishes more, and so did before. One in ten has no history."""
    draw = np.random.default_rng(4)
    taste = draw.normal(size=USERS)
    history = draw.random(USERS) < 0.9
    columns = {f"{name}{suffix}": np.zeros(USERS) for name in MEANS for suffix in ("", "_pre")}
    for suffix, present in (("", True), ("_pre", history)):
        plays = draw.poisson(8 * np.exp(0.7 * taste)) * present
        columns |= {
            f"play{suffix}": plays.astype(np.float64),
            f"finish{suffix}": draw.binomial(plays, 1 / (1 + np.exp(-taste))).astype(np.float64),
            f"like{suffix}": draw.binomial(plays, 0.2 / (1 + np.exp(-3 * taste))).astype(np.float64),
            f"playtime{suffix}": plays * draw.gamma(2, 10, USERS),
        }
    return Population("small", tuple(f"u{n}".encode() for n in range(USERS)), columns, history)


def test_many_units_have_the_buckets_that_each_has() -> None:
    units = ["1", "42", "user-000123", "用户7", "a.b", "🙂"]
    for stage in ("slot", "arm"):
        found = buckets("feed-rank-2026a", stage, [unit.encode() for unit in units])
        assert found.tolist() == [bucket("feed-rank-2026a", stage, unit) for unit in units]


def test_arms_of_a_replay_are_those_of_the_services_hash(population: Population) -> None:
    arms = assign(population, [3])[0]
    assert arms.tolist() == [bucket(salt_of(3), "arm", unit.decode()) >= 5_000 for unit in population.units]


@pytest.mark.parametrize("name", ["playtime", "play", "like", "finish_rate", "like_rate"])
def test_p_values_from_sums_are_those_of_the_report(population: Population, name: str) -> None:
    metric, arms = BY_NAME[name], assign(population, range(3))
    found = p_values(population, arms)
    values = [population.columns[column] for column in metric.columns]
    before = [population.columns[f"{column}_pre"] for column in metric.columns]
    for place, row in enumerate(arms):
        sides = (~row, row)
        plain = estimate(*(Sample(*(one[side] for one in values)) for side in sides))
        adjusted = estimate(
            *(
                Sample(
                    values[0][side],
                    values[1][side] if len(values) > 1 else None,
                    before[0][side],
                    before[1][side] if len(before) > 1 else None,
                    population.history[side],
                )
                for side in sides
            )
        )
        assert plain is not None
        assert adjusted is not None
        assert found[f"{name}, plain"][place] == pytest.approx(plain.p, abs=1e-9)
        assert found[f"{name}, cuped"][place] == pytest.approx(adjusted.p, abs=1e-9)


def test_readings_are_those_of_the_report(population: Population) -> None:
    fixed, valid = looks(population, assign(population, range(2)))
    assert fixed.shape == valid.shape == (2, LOOKS)
    value, row = population.columns["playtime"], assign(population, [0])[0]
    sums = [(int(side.sum()), float(value[side].sum()), float((value[side] ** 2).sum())) for side in (~row, row)]
    found = estimate(*(Sample(value[side]) for side in (~row, row)))
    assert found is not None
    assert fixed[0, -1] == pytest.approx(found.p, abs=1e-9)
    alone, _ = welch(*(np.array([one]) for one in sums), planned=USERS)
    assert alone[0] == pytest.approx(found.p, abs=1e-9)
    assert (valid >= fixed).all()


def test_the_planted_effect_is_in_the_treatment_only(population: Population) -> None:
    arms = assign(population, range(4))
    found = planted(population, arms)
    assert (found.low < found.lift).all()
    assert (found.lift < found.high).all()
    nothing = planted(population, ~arms)
    assert not np.allclose(found.lift, nothing.lift)


@pytest.mark.slow
def test_every_gate_is_met_by_the_reports_statistics(population: Population) -> None:
    checks = judge(*replay(population, REPLAYS))
    assert failures({"small": [one for one in checks if "must be found" not in one.group]}) == []
    assert {one.group for one in checks} == {
        "false positives", "false positives, must be found", "uniform p-values (KS)", "planted +3% playtime",
        "14 readings, no effect",
    }  # fmt: skip
    naive = {one.name: one.value for one in checks if "must be found" in one.group}
    assert naive["finish, naive per play"] > 0.10
    assert naive["like, naive per play"] > 0.10


@pytest.mark.slow
def test_wrong_statistics_are_found(population: Population) -> None:
    """Arms that depend on the user: all gates of false positives must fail."""
    order = np.argsort(np.argsort(population.columns["playtime"]))
    arms = np.random.default_rng(1).random((60, USERS)) < 0.45 + 0.1 * order / USERS
    found = judge(p_values(population, arms), planted(population, arms[:2]), looks(population, arms))
    wrong = {one.name for one in found if not one.is_met and one.group == "false positives"}
    assert {"playtime, plain", "play, plain"} <= wrong


@pytest.mark.slow
def test_the_numbers_do_not_depend_on_the_number_of_processes(population: Population) -> None:
    few = Population(
        population.name, population.units, {**population.columns, "like": np.zeros(USERS)}, population.history
    )
    one, two = replay(few, 60), replay(few, 60, workers=2)
    assert one.p_values.keys() == two.p_values.keys()
    for name, values in one.p_values.items():
        assert values == pytest.approx(two.p_values[name], abs=1e-9)
    assert np.allclose(one.planted.lift, two.planted.lift)
    assert np.allclose(one.looks[1], two.looks[1])


def test_a_number_outside_its_range_is_named() -> None:
    checks = [Check("false positives", "play, plain", 0.2, 0.035, 0.065, 2_000)]
    assert failures({"x": checks}) == ["x: false positives, play, plain: 0.2 is not from 0.035 to 0.065"]
