"""A `unique` key has one live job; an id is used once, and remembered for as long as asked."""

from __future__ import annotations

from cicely.core.job import Enqueued
from cicely.core.outcome import Failed
from cicely.core.states import State
from cicely.testing.conformance.bench import (
    fail,
    job,
    look,
    settle,
    start,
    state_of,
    succeed,
    sweep,
)
from cicely.testing.conformance.harness import Harness


def test_a_held_key_is_answered_with_its_holder(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id="a", unique="key")])

    answers = engine.enqueue([job(id="b", unique="key")])

    assert answers == [Enqueued("a", fresh=False)]
    assert engine.get(["b"]) == [None]


def test_a_key_that_comes_twice_in_one_call_has_one_job(harness: Harness) -> None:
    engine = harness.engine()

    answers = engine.enqueue([job(id="a", unique="key"), job(id="b", unique="key")])

    assert answers == [Enqueued("a", fresh=True), Enqueued("a", fresh=False)]


def test_jobs_without_a_key_do_not_meet(harness: Harness) -> None:
    engine = harness.engine()

    answers = engine.enqueue([job(id="a"), job(id="b")])

    assert [answer.fresh for answer in answers] == [True, True]


def test_a_key_is_held_while_its_job_is_scheduled(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id="a", unique="key", delay_s=60)])

    [answer] = engine.enqueue([job(id="b", unique="key")])

    assert answer == Enqueued("a", fresh=False)


def test_a_key_is_held_while_its_job_runs(harness: Harness) -> None:
    engine = harness.engine()
    start(engine, job(id="a", unique="key"))

    [answer] = engine.enqueue([job(id="b", unique="key")])

    assert answer == Enqueued("a", fresh=False)


def test_a_key_is_held_between_two_attempts(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a", unique="key"))
    settle(engine, Failed(claim.token, "error", retry_in_s=60))

    [answer] = engine.enqueue([job(id="b", unique="key")])

    assert answer == Enqueued("a", fresh=False)


def test_a_key_is_free_after_its_job_succeeded(harness: Harness) -> None:
    engine = harness.engine()
    succeed(engine, job(id="a", unique="key"))

    [answer] = engine.enqueue([job(id="b", unique="key")])

    assert answer == Enqueued("b", fresh=True)


def test_a_key_is_free_after_its_job_failed(harness: Harness) -> None:
    engine = harness.engine()
    fail(engine, job(id="a", unique="key"))

    [answer] = engine.enqueue([job(id="b", unique="key")])

    assert answer == Enqueued("b", fresh=True)


def test_a_key_is_free_after_its_job_was_cancelled(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id="a", unique="key")])
    engine.steer("cancel", ["a"])

    [answer] = engine.enqueue([job(id="b", unique="key")])

    assert answer == Enqueued("b", fresh=True)


def test_a_key_is_free_after_its_job_expired(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id="a", unique="key", expires_s=10)])
    harness.advance(11)
    sweep(engine)

    [answer] = engine.enqueue([job(id="b", unique="key")])

    assert answer == Enqueued("b", fresh=True)


def test_a_known_id_is_answered_before_its_key(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id="a", unique="key"), job(id="b")])

    [answer] = engine.enqueue([job(id="b", unique="key")])

    assert answer == Enqueued("b", fresh=False)


def test_the_id_of_an_ended_job_is_not_run_again(harness: Harness) -> None:
    engine = harness.engine()
    succeed(engine, job(id="a"))

    [answer] = engine.enqueue([job(id="a")])

    assert answer == Enqueued("a", fresh=False)
    assert state_of(engine) is State.SUCCEEDED


def test_a_swept_job_leaves_its_id_and_state(harness: Harness) -> None:
    engine = harness.engine()
    succeed(engine, job(id="a", keep_s=10, remember_s=1000))
    harness.advance(11)

    sweep(engine)

    rest = look(engine)
    assert rest.swept
    assert rest.state is State.SUCCEEDED
    assert rest.task == "work"


def test_a_remembered_id_is_not_run_again(harness: Harness) -> None:
    engine = harness.engine()
    succeed(engine, job(id="a", keep_s=10, remember_s=1000))
    harness.advance(11)
    sweep(engine)

    [answer] = engine.enqueue([job(id="a")])

    assert answer == Enqueued("a", fresh=False)
    assert look(engine).swept


def test_a_remembered_id_is_forgotten_in_time(harness: Harness) -> None:
    engine = harness.engine()
    succeed(engine, job(id="a", keep_s=10, remember_s=1000))
    harness.advance(11)
    sweep(engine)
    harness.advance(1001)
    sweep(engine)

    [answer] = engine.enqueue([job(id="a")])

    assert answer == Enqueued("a", fresh=True)


def test_an_id_that_is_not_to_be_remembered_goes_with_its_job(harness: Harness) -> None:
    engine = harness.engine()
    succeed(engine, job(id="a", keep_s=10))
    harness.advance(11)

    sweep(engine)

    assert engine.get(["a"]) == [None]


def test_a_remembered_id_holds_no_key(harness: Harness) -> None:
    engine = harness.engine()
    succeed(engine, job(id="a", unique="key", keep_s=10, remember_s=1000))
    harness.advance(11)
    sweep(engine)

    [answer] = engine.enqueue([job(id="b", unique="key")])

    assert answer == Enqueued("b", fresh=True)
