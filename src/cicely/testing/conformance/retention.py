"""Ended jobs are kept for as long as they asked, then deleted in bounded steps."""

from __future__ import annotations

from cicely.core.states import State
from cicely.testing.conformance.bench import (
    counts,
    fail,
    job,
    start,
    state_of,
    succeed,
    sweep,
)
from cicely.testing.conformance.harness import Harness


def test_an_ended_job_is_kept_for_its_time(harness: Harness) -> None:
    engine = harness.engine()
    succeed(engine, job(id="a", keep_s=100))
    harness.advance(99)

    swept = sweep(engine)

    assert swept.deleted == 0
    assert state_of(engine) is State.SUCCEEDED


def test_an_ended_job_is_deleted_after_its_time(harness: Harness) -> None:
    engine = harness.engine()
    succeed(engine, job(id="a", keep_s=100))
    harness.advance(101)

    swept = sweep(engine)

    assert swept.deleted == 1
    assert engine.get(["a"]) == [None]
    assert counts(engine) == {}


def test_retention_counts_from_the_end(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id="a", keep_s=100)])
    harness.advance(1000)
    engine.steer("cancel", ["a"])
    harness.advance(99)

    assert sweep(engine).deleted == 0


def test_a_failed_job_is_kept_for_a_time_of_its_own(harness: Harness) -> None:
    engine = harness.engine()
    fail(engine, job(id="a", keep_s=10, keep_failed_s=1000))
    harness.advance(999)
    kept = sweep(engine).deleted
    harness.advance(2)

    assert (kept, sweep(engine).deleted) == (0, 1)


def test_a_live_job_is_never_deleted(harness: Harness) -> None:
    engine = harness.engine()
    start(engine, job(id="running", keep_s=1, keep_failed_s=1))
    engine.enqueue([job(id="ready", keep_s=1, keep_failed_s=1)])
    engine.enqueue([job(id="scheduled", keep_s=1, keep_failed_s=1, delay_s=10_000_000)])
    harness.advance(1_000_000)

    swept = sweep(engine)

    assert swept.deleted == 0
    assert sum(counts(engine).values()) == 3


def test_deleting_is_bounded(harness: Harness) -> None:
    engine = harness.engine()
    names = [f"j{n}" for n in range(5)]
    engine.enqueue([job(id=name, keep_s=10) for name in names])
    engine.steer("cancel", names)
    harness.advance(11)

    first = engine.sweep(3)
    second = engine.sweep(3)

    assert (first.deleted, first.more) == (3, True)
    assert second.deleted == 2


def test_a_repeated_sweep_finds_nothing_left(harness: Harness) -> None:
    engine = harness.engine()
    succeed(engine, job(id="a", keep_s=10))
    harness.advance(11)
    sweep(engine)

    swept = sweep(engine)

    assert (swept.promoted, swept.expired, swept.deleted) == (0, 0, 0)
    assert not swept.more
