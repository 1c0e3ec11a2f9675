"""The jobs of a session that was seen silent for a whole lease run again, charged as lost."""

from __future__ import annotations

from cicely.core.job import Tallies
from cicely.core.outcome import MAX_LOST, Succeeded
from cicely.core.states import State
from cicely.engines.contract import Silent, Verdict
from cicely.errors import SessionClosed
from cicely.testing.conformance.bench import (
    LEASE_S,
    beat,
    job,
    look,
    refused,
    session,
    settle,
    silent,
    start,
    state_of,
    sweep,
    take,
    take_one,
)
from cicely.testing.conformance.harness import Harness


def test_a_silent_session_loses_its_jobs(harness: Harness) -> None:
    engine = harness.engine()
    start(engine, job(id="a"))
    watched = silent(engine)
    harness.advance(LEASE_S)

    swept = sweep(engine, watched)

    assert swept.rescued == 1
    assert state_of(engine) is State.READY
    assert look(engine).tallies == Tallies(lost=1)
    assert engine.sessions() == []


def test_a_session_that_beat_in_the_meantime_is_left_alone(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    watched = silent(engine)
    beat(engine, claim)

    swept = sweep(engine, watched)

    assert swept.rescued == 0
    assert state_of(engine) is State.RUNNING


def test_no_sweep_rescues_a_session_that_nobody_watched(harness: Harness) -> None:
    engine = harness.engine()
    start(engine, job(id="a"))
    harness.advance(100 * LEASE_S)

    sweep(engine)

    assert state_of(engine) is State.RUNNING


def test_a_rescued_session_is_closed(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    sweep(engine, silent(engine))

    with refused(SessionClosed):
        take(engine)

    assert not beat(engine, claim).alive
    assert settle(engine, Succeeded(claim.token)) is Verdict.STALE


def test_a_rescued_session_cannot_join_again(harness: Harness) -> None:
    engine = harness.engine()
    start(engine, job(id="a"))
    sweep(engine, silent(engine))

    with refused(SessionClosed):
        engine.join(session(id="s"))


def test_a_rescue_is_carried_out_once(harness: Harness) -> None:
    engine = harness.engine()
    start(engine, job(id="a"))
    watched = silent(engine)
    sweep(engine, watched)

    swept = sweep(engine, watched)

    assert swept.rescued == 0
    assert look(engine).tallies == Tallies(lost=1)


def test_the_rescue_of_a_stranger_changes_nothing(harness: Harness) -> None:
    engine = harness.engine()
    start(engine, job(id="a"))

    swept = sweep(engine, Silent("stranger", 0))

    assert swept.rescued == 0
    assert state_of(engine) is State.RUNNING


def test_a_rescue_leaves_other_sessions_alone(harness: Harness) -> None:
    engine = harness.engine()
    start(engine, job(id="a"), by="s")
    other = start(engine, job(id="b"), by="t")

    sweep(engine, silent(engine, "s"))

    assert beat(engine, other, of="t").lost == ()
    assert take_one(engine, by="t").job_id == "a"


def test_a_rescued_attempt_is_recorded_as_lost(harness: Harness) -> None:
    engine = harness.engine()
    start(engine, job(id="a"))

    sweep(engine, silent(engine))

    [record] = look(engine).attempts
    assert (record.reason, record.session, record.fence) == ("lost", "s", 1)


def test_a_cancelled_job_of_a_silent_session_ends_as_cancelled(harness: Harness) -> None:
    engine = harness.engine()
    start(engine, job(id="a"))
    engine.steer("cancel", ["a"])

    sweep(engine, silent(engine))

    assert state_of(engine) is State.CANCELLED


def test_a_job_that_was_lost_ten_times_is_given_up(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id="a")])
    for number in range(MAX_LOST):
        engine.join(session(id=f"s{number}"))
        take_one(engine, by=f"s{number}")
        sweep(engine, silent(engine, f"s{number}"))

    ended = look(engine)
    assert (ended.state, ended.reason) == (State.FAILED, "lost")
    assert ended.tallies == Tallies(lost=MAX_LOST)


def test_a_session_without_claims_is_rescued_too(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))

    swept = sweep(engine, silent(engine))

    assert swept.rescued == 0
    assert engine.sessions() == []
