"""Queues in the order they are named; in a queue by priority, then by who waited longer."""

from __future__ import annotations

from cicely.core.outcome import Failed, HandedBack
from cicely.testing.conformance.bench import (
    demand,
    ids,
    job,
    session,
    settle,
    start,
    sweep,
    take,
    take_one,
)
from cicely.testing.conformance.harness import Harness


def test_whoever_was_ready_first_goes_first(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="c")])
    harness.advance(1)
    engine.enqueue([job(id="a")])
    harness.advance(1)
    engine.enqueue([job(id="b")])

    assert ids(take(engine, 3)) == ["c", "a", "b"]


def test_jobs_of_one_call_keep_their_order(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    names = [f"{(7 * n) % 50:02}" for n in range(50)]
    engine.enqueue([job(id=name) for name in names])

    assert ids(take(engine, 50)) == names


def test_the_higher_priority_goes_first(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id=f"p{priority}", priority=priority) for priority in (0, 9, 5, 1)])

    assert ids(take(engine, 4)) == ["p9", "p5", "p1", "p0"]


def test_no_waiting_outweighs_a_strict_priority(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="old", priority=4)])
    harness.advance(100_000)
    engine.enqueue([job(id="new", priority=5)])

    assert ids(take(engine, 2)) == ["new", "old"]


def test_priority_holds_across_tasks_and_kinds(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a"), job(id="b", task="other", priority=6), job(id="c", priority=7)])

    assert ids(take(engine, 3)) == ["c", "b", "a"]


def test_a_due_job_takes_its_place_by_its_due_time(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="due", delay_s=10)])
    harness.advance(5)
    engine.enqueue([job(id="before")])
    harness.advance(10)
    engine.enqueue([job(id="after")])
    sweep(engine)

    assert ids(take(engine, 3)) == ["before", "due", "after"]


def test_a_job_handed_back_returns_to_its_old_place(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    harness.advance(10)
    engine.enqueue([job(id="b")])

    settle(engine, HandedBack(claim.token))

    assert ids(take(engine, 2)) == ["a", "b"]


def test_a_retried_job_goes_behind_those_that_waited_longer(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    settle(engine, Failed(claim.token, "error", retry_in_s=10))
    harness.advance(5)
    engine.enqueue([job(id="b")])
    harness.advance(10)

    assert take_one(engine).job_id == "b"
    assert take_one(engine).job_id == "a"


def test_the_first_queue_goes_first(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a", queue="second", priority=9), job(id="b", queue="first")])
    wanted = demand(2, queues=("first", "second"))

    assert ids(engine.claim("s", wanted)) == ["b", "a"]


def test_the_second_queue_is_served_when_the_first_has_none_that_fits(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a", queue="first", task="unknown"), job(id="b", queue="second")])
    wanted = demand(1, queues=("first", "second"))

    assert ids(engine.claim("s", wanted)) == ["b"]
