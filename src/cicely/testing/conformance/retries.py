"""A failed attempt with a wait is followed by another after exactly that wait; three tallies."""

from __future__ import annotations

from cicely.core.job import Tallies
from cicely.core.outcome import Crashed, Deferred, ErrorRecord, Failed, HandedBack, Succeeded
from cicely.core.states import State
from cicely.testing.conformance.bench import (
    beat,
    demand,
    job,
    look,
    near,
    settle,
    silent,
    start,
    state_of,
    sweep,
    take,
    take_one,
)
from cicely.testing.conformance.harness import Harness


def test_a_failed_attempt_waits_as_long_as_it_was_told(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))

    settle(engine, Failed(claim.token, "error", b"why", retry_in_s=60))

    kept = look(engine)
    assert kept.state is State.SCHEDULED
    assert near(kept.due_at, kept.created_at + 60)
    assert (kept.reason, kept.error, kept.tallies) == ("error", b"why", Tallies(errors=1))


def test_a_retry_does_not_start_early(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    settle(engine, Failed(claim.token, "error", retry_in_s=60))

    harness.advance(59)
    sweep(engine)

    assert take(engine) == ()


def test_a_retry_starts_when_its_wait_is_over(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    settle(engine, Failed(claim.token, "error", retry_in_s=60))

    harness.advance(60.01)

    assert take_one(engine).attempt == 2


def test_a_claim_says_when_the_next_retry_is_due(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))

    settled = engine.settle("s", [Failed(claim.token, "error", retry_in_s=60)], demand())

    assert settled.intake.next_due_in_s is not None
    assert 59 < settled.intake.next_due_in_s <= 60.01


def test_a_sweep_promotes_what_is_due(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id="a", delay_s=10), job(id="b", delay_s=100)])
    harness.advance(11)

    swept = sweep(engine)

    assert swept.promoted == 1
    assert swept.next_due_in_s is not None
    assert 88 < swept.next_due_in_s <= 89.01
    assert (state_of(engine, "a"), state_of(engine, "b")) == (State.READY, State.SCHEDULED)


def test_a_promoted_job_is_due_no_more(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id="a", delay_s=10)])
    harness.advance(11)

    sweep(engine)

    assert look(engine).due_at is None


def test_a_bounded_sweep_says_that_there_is_more(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id=f"j{n}", delay_s=10) for n in range(5)])
    harness.advance(11)

    first = engine.sweep(3)
    second = engine.sweep(3)

    assert (first.promoted, first.more) == (3, True)
    assert (second.promoted, second.more) == (2, False)


def test_the_three_tallies_are_kept_apart(harness: Harness) -> None:
    engine = harness.engine()
    settle(engine, Failed(start(engine, job(id="a")).token, "error", retry_in_s=0))
    settle(engine, Crashed(take_one(engine).token, "exited with 3"))
    take_one(engine)
    sweep(engine, silent(engine))

    assert look(engine).tallies == Tallies(errors=1, crashes=1, lost=1)


def test_what_costs_nothing_charges_nothing(harness: Harness) -> None:
    engine = harness.engine()
    settle(engine, HandedBack(start(engine, job(id="a")).token, has_started=True))
    settle(engine, Deferred(take_one(engine).token, 0))
    engine.retire("s")

    kept = look(engine)
    assert kept.tallies == Tallies()
    assert [record.reason for record in kept.attempts] == ["handed back", "deferred"]


def test_a_claim_that_never_started_is_no_attempt(harness: Harness) -> None:
    engine = harness.engine()
    settle(engine, HandedBack(start(engine, job(id="a")).token, "its worker stopped"))
    take_one(engine)
    beat(engine)
    beat(engine)
    take_one(engine)
    engine.retire("s")

    kept = look(engine)
    assert (kept.state, kept.tallies, kept.attempts) == (State.READY, Tallies(), ())


def test_a_suspect_had_an_attempt(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))

    settle(engine, HandedBack(claim.token, "its process died", alone=True))

    assert [record.reason for record in look(engine).attempts] == ["handed back"]


def test_the_attempt_is_that_of_the_last_claim(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))

    settle(engine, Failed(claim.token, "error", retry_in_s=0))

    assert look(engine).attempt == 1
    assert take_one(engine).attempt == 2
    assert look(engine).attempt == 2


def test_an_error_is_kept_until_the_next_one(harness: Harness) -> None:
    engine = harness.engine()
    settle(engine, Failed(start(engine, job(id="a")).token, "error", b"first", retry_in_s=0))

    settle(engine, HandedBack(take_one(engine).token))

    assert look(engine).error == b"first"
    settle(engine, Crashed(take_one(engine).token, "exited with 3"))
    assert ErrorRecord.decoded(look(engine).error).message == "exited with 3"


def test_a_success_after_failures_has_no_error(harness: Harness) -> None:
    engine = harness.engine()
    settle(engine, Failed(start(engine, job(id="a")).token, "error", b"first", retry_in_s=0))

    settle(engine, Succeeded(take_one(engine).token, b"result"))

    ended = look(engine)
    assert (ended.state, ended.error, ended.result) == (State.SUCCEEDED, b"", b"result")
    assert ended.tallies == Tallies(errors=1)
