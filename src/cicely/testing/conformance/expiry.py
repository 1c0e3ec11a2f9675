"""A job that is not started before its deadline ends as expired and is never handed out."""

from __future__ import annotations

from cicely.core.outcome import Succeeded
from cicely.core.states import State
from cicely.engines.contract import Verdict
from cicely.testing.conformance.bench import (
    ids,
    job,
    look,
    near,
    session,
    settle,
    start,
    state_of,
    sweep,
    take,
)
from cicely.testing.conformance.harness import Harness


def test_a_deadline_counts_from_the_engines_now(harness: Harness) -> None:
    engine = harness.engine()

    engine.enqueue([job(id="a", expires_s=60)])

    kept = look(engine)
    assert near(kept.expires_at, kept.created_at + 60)


def test_a_job_past_its_deadline_is_not_handed_out(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a", expires_s=10), job(id="b")])
    harness.advance(11)

    taken = take(engine, 5)

    assert ids(taken) == ["b"]
    assert state_of(engine) is State.EXPIRED


def test_a_job_past_its_deadline_takes_no_slot(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id=f"late{n}", expires_s=10) for n in range(20)])
    engine.enqueue([job(id="b")])
    harness.advance(11)

    assert ids(take(engine, 1)) == ["b"]


def test_a_job_before_its_deadline_is_handed_out(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a", expires_s=10)])
    harness.advance(9)

    assert ids(take(engine)) == ["a"]


def test_a_sweep_ends_jobs_past_their_deadline(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id="a", expires_s=10), job(id="b", delay_s=100, expires_s=10)])
    harness.advance(11)

    swept = sweep(engine)

    assert swept.expired == 2
    assert state_of(engine, "a") is State.EXPIRED
    assert state_of(engine, "b") is State.EXPIRED
    assert look(engine).ended_at is not None


def test_an_expired_job_has_no_attempt(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id="a", expires_s=10)])
    harness.advance(11)

    sweep(engine)

    assert (look(engine).attempt, look(engine).attempts) == (0, ())


def test_a_running_job_does_not_expire(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a", expires_s=10))
    harness.advance(11)
    sweep(engine)

    assert state_of(engine) is State.RUNNING
    assert settle(engine, Succeeded(claim.token)) is Verdict.ACCEPTED


def test_a_deadline_in_the_past_expires_at_once(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))

    engine.enqueue([job(id="a", expires_at=1.0)])

    assert take(engine) == ()
    assert state_of(engine) is State.EXPIRED


def test_a_bounded_sweep_expires_in_steps(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id=f"j{n}", expires_s=10) for n in range(5)])
    harness.advance(11)

    first = engine.sweep(3)
    second = engine.sweep(3)

    assert (first.expired, first.more) == (3, True)
    assert second.expired == 2
