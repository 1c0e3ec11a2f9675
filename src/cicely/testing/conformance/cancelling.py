"""A waiting job is cancelled at once; a running one is asked, and any outcome ends it so."""

from __future__ import annotations

from cicely.core.outcome import Crashed, Failed, HandedBack, Succeeded
from cicely.core.states import State
from cicely.engines.contract import Silent, Verdict
from cicely.testing.conformance.bench import (
    beat,
    job,
    look,
    session,
    settle,
    start,
    state_of,
    succeed,
    take,
    take_one,
)
from cicely.testing.conformance.harness import Harness


def test_a_ready_job_is_cancelled_at_once(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a")])

    moved = engine.steer("cancel", ["a"], reason="by hand")

    ended = look(engine)
    assert moved == ["a"]
    assert (ended.state, ended.reason) == (State.CANCELLED, "by hand")
    assert ended.ended_at is not None
    assert take(engine) == ()


def test_a_scheduled_job_is_cancelled_at_once(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a", delay_s=10)])

    engine.steer("cancel", ["a"])
    harness.advance(11)

    assert take(engine) == ()
    assert state_of(engine) is State.CANCELLED


def test_a_running_job_is_asked_and_keeps_running(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))

    moved = engine.steer("cancel", ["a"])

    kept = look(engine)
    assert moved == ["a"]
    assert (kept.state, kept.cancelling) == (State.RUNNING, True)
    assert beat(engine, claim).cancelled == (claim.token,)


def test_a_beat_names_only_what_was_cancelled(harness: Harness) -> None:
    engine = harness.engine()
    cancelled = start(engine, job(id="a"))
    other = start(engine, job(id="b"))
    engine.steer("cancel", ["a"])

    answer = beat(engine, cancelled, other)

    assert answer.cancelled == (cancelled.token,)
    assert answer.lost == ()


def test_a_success_that_comes_too_late_ends_as_cancelled(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    engine.steer("cancel", ["a"])

    verdict = settle(engine, Succeeded(claim.token, b"result"))

    ended = look(engine)
    assert verdict is Verdict.ACCEPTED
    assert (ended.state, ended.cancelling, ended.result) == (State.CANCELLED, False, b"")


def test_a_failure_of_a_cancelled_job_is_not_retried(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    engine.steer("cancel", ["a"])

    settle(engine, Failed(claim.token, "error", retry_in_s=0))

    assert state_of(engine) is State.CANCELLED


def test_a_crash_of_a_cancelled_job_ends_it(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    engine.steer("cancel", ["a"])

    settle(engine, Crashed(claim.token, "killed by signal 9"))

    assert state_of(engine) is State.CANCELLED


def test_a_cancelled_job_that_is_handed_back_ends(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    engine.steer("cancel", ["a"])

    settle(engine, HandedBack(claim.token))

    assert state_of(engine) is State.CANCELLED
    assert take(engine) == ()


def test_an_ended_job_is_not_cancelled(harness: Harness) -> None:
    engine = harness.engine()
    succeed(engine, job(id="a"))

    moved = engine.steer("cancel", ["a"])

    assert moved == []
    assert state_of(engine) is State.SUCCEEDED


def test_an_unknown_job_is_passed_over(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id="a")])

    assert engine.steer("cancel", ["x", "a"]) == ["a"]


def test_an_id_named_twice_moves_once(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id="a")])

    assert engine.steer("cancel", ["a", "a"]) == ["a"]


def test_a_revived_job_is_no_longer_cancelling(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    engine.steer("cancel", ["a"])
    settle(engine, HandedBack(claim.token))
    engine.steer("revive", ["a"])

    again = take_one(engine)

    assert beat(engine, again).cancelled == ()
    assert settle(engine, Succeeded(again.token)) is Verdict.ACCEPTED
    assert state_of(engine) is State.SUCCEEDED


def test_a_running_job_that_is_cancelled_keeps_the_reason_that_was_given(harness: Harness) -> None:
    engine = harness.engine()
    settled = start(engine, job(id="settled"))
    start(engine, job(id="handed back"))
    engine.steer("cancel", ["settled", "handed back"], reason="wrong model")
    asked = look(engine, "settled").reason

    settle(engine, Crashed(settled.token, "killed by signal 9"))
    engine.retire("s")

    assert asked == "wrong model"
    assert look(engine, "settled").reason == "wrong model"
    assert look(engine, "handed back").reason == "wrong model"


def test_a_cancelled_job_whose_machine_was_lost_keeps_the_reason(harness: Harness) -> None:
    engine = harness.engine()
    start(engine, job(id="a"))
    engine.steer("cancel", ["a"], reason="wrong model")
    [seen] = engine.sessions()

    engine.sweep(100, [Silent(seen.session.id, seen.beat)])

    assert (state_of(engine), look(engine).reason) == (State.CANCELLED, "wrong model")


def test_a_running_job_that_is_cancelled_without_a_reason_says_so(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    engine.steer("cancel", ["a"])

    settle(engine, Failed(claim.token, "error", b"why", retry_in_s=0))

    assert look(engine).reason == "cancelled"


def test_the_first_of_two_cancellations_gives_the_reason(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    engine.steer("cancel", ["a"], reason="wrong model")
    engine.steer("cancel", ["a"], reason="again")

    settle(engine, Succeeded(claim.token))

    assert look(engine).reason == "wrong model"
