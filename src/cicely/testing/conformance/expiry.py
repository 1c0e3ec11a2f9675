"""A job that is not started before its deadline ends as expired and is never handed out."""

from __future__ import annotations

from collections.abc import Callable

from cicely.core.outcome import Crashed, Deferred, Failed, HandedBack, Outcome, Succeeded
from cicely.core.states import State
from cicely.engines.contract import Silent, Verdict
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


def test_a_job_that_has_started_once_expires_no_more(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    outcomes: dict[str, Callable[[bytes], Outcome]] = {
        "error": lambda token: Failed(token, "error", b"why", retry_in_s=0),
        "crash": lambda token: Crashed(token, "killed by signal 9"),
        "deferred": lambda token: Deferred(token, 0),
        "suspect": lambda token: HandedBack(token, "its process died", alone=True),
        "stopped": lambda token: HandedBack(token, "its worker stopped", has_started=True),
    }
    engine.enqueue([job(id=job_id, expires_s=10) for job_id in outcomes])
    for claim in take(engine, len(outcomes)):
        settle(engine, outcomes[claim.job_id](claim.token))
    harness.advance(11)
    sweep(engine)

    assert sorted(ids(take(engine, len(outcomes)))) == sorted(outcomes)
    assert {look(engine, job_id).expires_at for job_id in outcomes} == {None}


def test_a_job_whose_machine_was_lost_expires_no_more(harness: Harness) -> None:
    engine = harness.engine()
    start(engine, job(id="a", expires_s=10))
    [seen] = engine.sessions()
    engine.sweep(100, [Silent(seen.session.id, seen.beat)])
    harness.advance(11)
    sweep(engine)

    assert (state_of(engine), look(engine).expires_at) == (State.READY, None)


def test_a_job_that_was_handed_back_unstarted_still_expires(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a", expires_s=10))
    settle(engine, HandedBack(claim.token, "its worker stopped"))
    harness.advance(11)
    sweep(engine)

    assert state_of(engine) is State.EXPIRED
