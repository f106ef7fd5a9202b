"""Every input that fuzzing found, and every good one that it begins with, keeps the rules of its target."""

from __future__ import annotations

import pytest

from tests.fuzz.targets import INPUTS, TARGETS


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_inputs_keep_the_rules(name: str) -> None:
    target = TARGETS[name]
    seeds = list(target.seeds())
    assert seeds
    for data in [*seeds, *(path.read_bytes() for path in sorted((INPUTS / name).glob("*")))]:
        target.run(data)


def test_found_inputs_belong_to_a_target() -> None:
    assert {path.name for path in INPUTS.glob("*") if path.is_dir()} <= set(TARGETS)
