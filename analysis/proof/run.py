"""Runs the replays of a population on several processes. Their number changes the last digits only."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np

from analysis.proof.effects import Found, looks, planted
from analysis.proof.population import Column, Population
from analysis.proof.replays import CHUNK, assign
from analysis.proof.statistics import PValues, p_values


class Results(NamedTuple):
    """All replays of a population, in their order."""

    p_values: PValues
    planted: Found
    looks: tuple[Column, Column]


def replay(
    population: Population, replays: int, workers: int = 1, on_done: Callable[[int], None] = lambda _: None
) -> Results:
    """Run replays 0 to `replays`.

    Args:
        population: the users.
        replays: how many salts.
        workers: processes.
        on_done: called with how many are done.
    """
    parts = [range(begin, min(begin + CHUNK, replays)) for begin in range(0, replays, CHUNK)]
    if workers == 1:
        results = [_counted(_part(population, part), part, on_done) for part in parts]
    else:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            futures = [pool.submit(_part, population, part) for part in parts]
            results = [_counted(one.result(), part, on_done) for one, part in zip(futures, parts, strict=True)]
    return _joined(results)


def _counted(result: Results, part: range, on_done: Callable[[int], None]) -> Results:
    on_done(part.stop)
    return result


def _part(population: Population, replays: range) -> Results:
    arms = assign(population, replays)
    return Results(p_values(population, arms), planted(population, arms), looks(population, arms))


def _joined(parts: list[Results]) -> Results:
    names = dict.fromkeys(name for part in parts for name in part.p_values)
    found = {name: [p for part in parts for p in part.p_values.get(name, [])] for name in names}
    effect = Found(*(np.concatenate([getattr(part.planted, one.name) for part in parts]) for one in fields(Found)))
    fixed, valid = (np.concatenate([part.looks[place] for part in parts]) for place in (0, 1))
    return Results(found, effect, (fixed, valid))
