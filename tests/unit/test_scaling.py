"""How many processes a backlog wants, over time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cicely.core.scaling import Backlog, Governor, ScaleRule, wanted
from cicely.engines.memory import MemoryEngine
from cicely.worker.scaler import Scaler

RULE = ScaleRule(least=2, most=8)


def test_a_burst_grows_at_once_and_goes_back_one_by_one() -> None:
    governor = Governor(RULE)
    processes, seen = 2, [2]
    for second in range(60):
        waiting = max(0, 500 - 25 * second)
        processes = governor.decide(Backlog(waiting, 0.1), processes=processes, now=float(second))
        if processes != seen[-1]:
            seen.append(processes)
    assert seen == [2, 8, 7, 6, 5, 4, 3, 2]


def test_a_short_calm_takes_nobody_away() -> None:
    governor = Governor(RULE)
    assert governor.decide(Backlog(500), processes=2, now=0.0) == 8
    for second in range(1, 60):
        # A burst each nine seconds: never ten calm ones.
        waiting = 200 if second % 9 == 0 else 0
        assert governor.decide(Backlog(waiting), processes=8, now=float(second)) == 8


def test_short_jobs_weigh_less_and_long_ones_more() -> None:
    assert wanted(RULE, Backlog(100, 0.001), processes=2) == 2
    assert wanted(RULE, Backlog(100, None), processes=2) == 8
    assert wanted(RULE, Backlog(3, 3600.0), processes=2) == 3


def test_between_the_two_marks_nothing_changes() -> None:
    assert wanted(RULE, Backlog(30, 0.1), processes=4) == 4


@given(st.integers(0, 10**6), st.floats(0, 1e6) | st.none(), st.integers(1, 50))
def test_it_stays_between_the_least_and_the_most(waiting: int, mean_s: float | None, processes: int) -> None:
    assert 2 <= wanted(RULE, Backlog(waiting, mean_s), processes=processes) <= 8


def test_what_is_held_back_keeps_those_who_are_busy_and_no_others() -> None:
    assert wanted(RULE, Backlog(0, held_back=10_000, startable=0, idle=1), processes=6) == 5
    assert wanted(RULE, Backlog(0, held_back=10_000, startable=0, idle=6), processes=6) == 2
    assert wanted(RULE, Backlog(0, held_back=10_000, startable=0, idle=9), processes=6) == 2


def test_no_more_are_wanted_than_could_start_a_job_at_once() -> None:
    assert wanted(RULE, Backlog(10_000, startable=3.2), processes=2) == 6
    assert wanted(RULE, Backlog(10_000, startable=3.0, idle=2), processes=2) == 3
    assert wanted(RULE, Backlog(10_000, startable=3.0, idle=8), processes=8) == 3


def test_a_look_that_takes_long_is_followed_by_a_long_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 100.5])
    monkeypatch.setattr("cicely.worker.scaler.time.monotonic", lambda: next(clock))
    scaler = Scaler(RULE, worker="w")
    assert scaler.is_due(0.0)
    scaler.look(MemoryEngine(), ["main"])

    assert scaler.is_due(1.0)
    assert not scaler.is_due(10.9)
    assert scaler.is_due(11.0)
