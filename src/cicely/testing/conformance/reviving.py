"""A person may run an ended job again with fresh tallies, or delete it."""

from __future__ import annotations

from cicely.core.job import Tallies
from cicely.core.states import State
from cicely.testing.conformance.bench import (
    counts,
    fail,
    ids,
    job,
    look,
    session,
    start,
    state_of,
    succeed,
    sweep,
    take,
    take_one,
)
from cicely.testing.conformance.harness import Harness


def test_a_failed_job_is_ready_again_with_fresh_tallies(harness: Harness) -> None:
    engine = harness.engine()
    fail(engine, job(id="a", body=b"body"))

    moved = engine.steer("revive", ["a"])

    revived = look(engine)
    assert moved == ["a"]
    assert (revived.state, revived.tallies) == (State.READY, Tallies())
    assert (revived.error, revived.ended_at) == (b"", None)
    assert take_one(engine).body == b"body"


def test_a_cancelled_job_may_be_revived(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id="a")])
    engine.steer("cancel", ["a"])

    assert engine.steer("revive", ["a"]) == ["a"]
    assert state_of(engine) is State.READY


def test_an_expired_job_may_be_revived_and_does_not_expire_again(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a", expires_s=10)])
    harness.advance(11)
    sweep(engine)

    engine.steer("revive", ["a"])

    assert ids(take(engine)) == ["a"]


def test_a_succeeded_job_is_not_revived(harness: Harness) -> None:
    engine = harness.engine()
    succeed(engine, job(id="a"))

    assert engine.steer("revive", ["a"]) == []
    assert state_of(engine) is State.SUCCEEDED


def test_a_live_job_is_not_revived(harness: Harness) -> None:
    engine = harness.engine()
    start(engine, job(id="a"))
    engine.enqueue([job(id="b")])

    assert engine.steer("revive", ["a", "b"]) == []
    assert state_of(engine) is State.RUNNING


def test_a_job_whose_key_another_one_holds_is_not_revived(harness: Harness) -> None:
    engine = harness.engine()
    fail(engine, job(id="a", unique="key"))
    engine.enqueue([job(id="b", unique="key")])

    assert engine.steer("revive", ["a"]) == []
    assert state_of(engine) is State.FAILED


def test_of_two_jobs_with_one_key_one_is_revived(harness: Harness) -> None:
    engine = harness.engine()
    fail(engine, job(id="a", unique="key"))
    fail(engine, job(id="b", unique="key"))

    assert engine.steer("revive", ["a", "b"]) == ["a"]


def test_a_revived_job_holds_its_key_again(harness: Harness) -> None:
    engine = harness.engine()
    fail(engine, job(id="a", unique="key"))
    engine.steer("revive", ["a"])

    [answer] = engine.enqueue([job(id="b", unique="key")])

    assert (answer.id, answer.fresh) == ("a", False)


def test_a_revived_job_keeps_the_record_of_its_attempts(harness: Harness) -> None:
    engine = harness.engine()
    fail(engine, job(id="a"))

    engine.steer("revive", ["a"])

    assert [record.reason for record in look(engine).attempts] == ["error"]


def test_a_revived_job_is_not_swept(harness: Harness) -> None:
    engine = harness.engine()
    fail(engine, job(id="a", keep_failed_s=10))
    engine.steer("revive", ["a"])
    harness.advance(11)

    sweep(engine)

    assert state_of(engine) is State.READY


def test_an_ended_job_may_be_discarded(harness: Harness) -> None:
    engine = harness.engine()
    fail(engine, job(id="a"))

    moved = engine.steer("discard", ["a"])

    assert moved == ["a"]
    assert engine.get(["a"]) == [None]
    assert counts(engine) == {}


def test_a_live_job_is_not_discarded(harness: Harness) -> None:
    engine = harness.engine()
    start(engine, job(id="a"))
    engine.enqueue([job(id="b"), job(id="c", delay_s=60)])

    assert engine.steer("discard", ["a", "b", "c"]) == []
    assert counts(engine) == {State.RUNNING: 1, State.READY: 1, State.SCHEDULED: 1}


def test_an_id_discarded_twice_in_one_call_moves_once(harness: Harness) -> None:
    engine = harness.engine()
    fail(engine, job(id="a"))

    assert engine.steer("discard", ["a", "a"]) == ["a"]
