"""A session takes what it asks for: kinds, slots, and beyond them short jobs into a buffer."""

from __future__ import annotations

import os

from cicely.core.job import Kind
from cicely.core.states import State
from cicely.engines.contract import Ask, Demand
from cicely.testing.conformance.bench import demand, ids, job, session, state_of
from cicely.testing.conformance.harness import Harness


def test_only_the_kinds_that_are_asked_for_are_taken(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a", kind=Kind.ISOLATED), job(id="b"), job(id="c", kind=Kind.ASYNC)])
    wanted = demand(5, kinds=(Kind.SYNC, Kind.ASYNC))

    assert ids(engine.claim("s", wanted)) == ["b", "c"]
    assert state_of(engine, "a") is State.READY


def test_each_ask_has_its_own_slots(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id=f"s{n}") for n in range(3)])
    engine.enqueue([job(id=f"a{n}", kind=Kind.ASYNC) for n in range(3)])
    asks = (Ask((Kind.SYNC,), 1), Ask((Kind.ASYNC,), 2))

    intake = engine.claim("s", Demand(os.urandom(8), ("main",), asks))

    assert sorted(ids(intake)) == ["a0", "a1", "s0"]


def test_two_asks_do_not_take_the_same_job(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a"), job(id="b")])
    asks = (Ask((Kind.SYNC,), 1), Ask((Kind.SYNC, Kind.ASYNC), 5))

    intake = engine.claim("s", Demand(os.urandom(8), ("main",), asks))

    assert ids(intake) == ["a", "b"]


def test_a_session_takes_only_tasks_that_it_knows(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s", tasks=frozenset({"other"})))
    engine.enqueue([job(id="a"), job(id="b", task="other")])

    assert ids(engine.claim("s", demand(5))) == ["b"]


def test_a_session_takes_every_function_of_a_package_that_it_names(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s", tasks=frozenset({"evals.*"})))
    names = ("evals.run", "evals.deep.run", "evals", "evalsmore.run")
    engine.enqueue([job(id=name, task=name) for name in names])

    assert ids(engine.claim("s", demand(5))) == ["evals.run", "evals.deep.run"]


def test_short_jobs_fill_the_buffer(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id=name) for name in "abcdef"])
    wanted = demand(1, pace={"work": 0.25}, buffer_s=0.8, limit=100)

    assert ids(engine.claim("s", wanted)) == ["a", "b", "c", "d"]


def test_the_limit_bounds_slots_and_buffer_together(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id=name) for name in "abcdef"])
    wanted = demand(1, pace={"work": 0.25}, buffer_s=100, limit=3)

    assert ids(engine.claim("s", wanted)) == ["a", "b", "c"]


def test_a_task_without_a_pace_takes_only_slots(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a"), job(id="b"), job(id="c", task="other"), job(id="d")])
    wanted = demand(1, pace={"other": 0.25}, buffer_s=100, limit=100)

    assert ids(engine.claim("s", wanted)) == ["a", "c"]
    assert state_of(engine, "b") is State.READY


def test_a_full_session_may_fill_its_buffer_only(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a"), job(id="b", task="other"), job(id="c", task="other")])
    wanted = demand(0, pace={"other": 0.25}, buffer_s=0.3, limit=100)

    assert ids(engine.claim("s", wanted)) == ["b"]


def test_no_buffer_is_filled_unless_it_is_asked_for(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id=name) for name in "abc"])

    assert ids(engine.claim("s", demand(2))) == ["a", "b"]
