"""Objects from the start are left out of collections; later ones are collected, and each pause is observed."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.metrics import Metrics
from service.process.garbage import rare_collections

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture(autouse=True)
def nothing_is_frozen() -> Iterator[None]:
    """As in a new process; tests/conftest.py has frozen what was imported."""
    gc.unfreeze()
    yield
    gc.freeze()


class Node:
    def __init__(self) -> None:
        self.itself = self


def test_objects_of_the_start_are_not_visited_later_ones_are_collected_less_often_and_all_is_as_before_at_the_end() -> (
    None
):
    """One test: each time that it begins, the objects of all tests are visited."""
    early = Node()
    before = gc.get_threshold(), list(gc.callbacks), gc.get_freeze_count()
    with rare_collections(lambda _generation, _seconds: None):
        assert gc.get_freeze_count() > 1_000
        assert not any(one is early for one in gc.get_objects())
        late = Node()
        assert any(one is late for one in gc.get_objects())
        is_there = weakref.ref(late)
        del late
        gc.collect()
        assert is_there() is None
        assert gc.get_threshold()[0] > before[0][0]
        assert gc.get_threshold()[1:] == before[0][1:]
    assert (gc.get_threshold(), list(gc.callbacks), gc.get_freeze_count()) == before


def test_garbage_of_a_start_is_left_until_the_process_serves() -> None:
    began = "from service.process import early; early.begin(); import service.command_line as c, gc; "
    show = "print(gc.isenabled())"
    assert run(began + show) == ["False"]
    serves = "from service.process.garbage import rare_collections as rare\nwith rare(print): " + show
    assert run(began + serves) == ["True"]
    supervises = f"import service.process.supervisor as s; s.supervise = lambda *a, **b: {show}; "
    assert run(began + supervises + "c.main(['--workers', '2'])")[0].startswith('{"text":"True"')


def run(code: str) -> list[str]:
    """Return the lines that a new process prints."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.splitlines()


@pytest.mark.slow
def test_each_pause_is_observed_by_generation() -> None:
    metrics = Metrics()
    with rare_collections(metrics.garbage_collected):
        gc.collect(0)
        gc.collect(2)
        gc.collect(2)
    gc.collect(2)  # no longer observed
    text = metrics.render().decode()
    for generation, count in (("0", 1), ("1", 0), ("2", 2)):
        assert f'ranker_gc_pause_seconds_count{{generation="{generation}"}} {count:.1f}' in text
    total = next(line for line in text.splitlines() if line.startswith('ranker_gc_pause_seconds_sum{generation="2"}'))
    assert 0 < float(total.split()[1]) < 60
