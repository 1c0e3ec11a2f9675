"""A job may let go of its slot and wait; it goes on from the top, at no cost, with its steps."""

from __future__ import annotations

from cicely.core.edge import Edge, ParentEnd, Role, Rule
from cicely.core.job import Tallies
from cicely.core.outcome import Await, Failed, HandedBack, Step, Succeeded, Suspended
from cicely.core.states import State
from cicely.engines.contract import KEEP_EVENT_S, Save, Verdict
from cicely.testing.conformance.bench import (
    counts,
    demand,
    fail,
    ids,
    job,
    look,
    session,
    settle,
    start,
    state_of,
    sweep,
    take,
    take_one,
)
from cicely.testing.conformance.harness import Harness

APPROVAL = Await("approval", "a", "wait:approval:0")


# --- time -------------------------------------------------------------------------------------
def test_a_job_sleeps_without_a_session(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))

    assert settle(engine, Suspended(claim.token, delay_s=60, reason="sleeps")) is Verdict.ACCEPTED

    asleep = look(engine)
    assert (asleep.state, asleep.session, asleep.reason) == (State.SCHEDULED, "", "sleeps")
    harness.advance(61)
    assert ids(take(engine, 5)) == ["a"]


def test_a_resume_costs_no_attempt(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    settle(engine, Suspended(claim.token))

    again = take_one(engine)

    assert (again.attempt, again.tallies, again.fence) == (1, Tallies(), 2)
    assert look(engine).attempts == ()


def test_a_suspended_job_expires_no_more(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a", expires_s=10))
    settle(engine, Suspended(claim.token, delay_s=60))
    harness.advance(61)
    sweep(engine)

    assert ids(take(engine, 5)) == ["a"]


def test_a_suspended_job_has_no_deadline_of_its_own_any_more(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a")])
    [claim] = engine.claim("s", demand(1, visibility_s=20)).claims
    settle(engine, Suspended(claim.token, delay_s=60))
    harness.advance(30)
    sweep(engine)

    assert (state_of(engine), look(engine).tallies) == (State.SCHEDULED, Tallies())


def test_a_suspended_outcome_repeated_is_already_known(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    settle(engine, Suspended(claim.token, delay_s=60))

    assert settle(engine, Suspended(claim.token, delay_s=60)) is Verdict.ALREADY
    assert settle(engine, Succeeded(claim.token)) is Verdict.STALE


def test_a_job_that_was_asked_to_cancel_does_not_sleep(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    engine.steer("cancel", ["a"])

    settle(engine, Suspended(claim.token, delay_s=60))

    assert state_of(engine) is State.CANCELLED


def test_a_sleeping_job_may_be_cancelled(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    settle(engine, Suspended(claim.token, event=APPROVAL))

    assert engine.steer("cancel", ["a"]) == ["a"]
    assert engine.signal("e1", "approval", "a", b"yes") == ""
    assert (state_of(engine), look(engine).event) == (State.CANCELLED, "")


# --- steps ------------------------------------------------------------------------------------
def test_steps_are_remembered_in_their_order(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    assert claim.steps == 0

    assert engine.save("s", [Save(claim.token, steps=(Step("z", b"1"), Step("y", b"2")))]) == [True]
    settle(engine, Suspended(claim.token, steps=(Step("x", b"3"),)))

    assert take_one(engine).steps == 3
    assert engine.steps("a") == [Step("z", b"1"), Step("y", b"2"), Step("x", b"3")]
    assert engine.steps("a", after=1, limit=1) == [Step("y", b"2")]


def test_the_first_value_of_a_step_stays(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    engine.save("s", [Save(claim.token, steps=(Step("k", b"first"),))])

    engine.save("s", [Save(claim.token, steps=(Step("k", b"second"),))])

    assert engine.steps("a") == [Step("k", b"first")]


def test_a_stale_attempt_records_no_step(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    settle(engine, HandedBack(claim.token))

    assert engine.save("s", [Save(claim.token, steps=(Step("k", b"v"),))]) == [False]
    assert settle(engine, Suspended(claim.token, steps=(Step("k", b"v"),))) is Verdict.STALE
    assert engine.steps("a") == []


def test_steps_outlive_a_failure_and_a_revival(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    engine.save("s", [Save(claim.token, steps=(Step("k", b"v"),))])
    settle(engine, Failed(claim.token, "error", b"why"))

    engine.steer("revive", ["a"])

    assert take_one(engine).steps == 1
    assert engine.steps("a") == [Step("k", b"v")]


def test_steps_go_with_their_job(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    engine.save("s", [Save(claim.token, steps=(Step("k", b"v"),))])
    settle(engine, Succeeded(claim.token))
    engine.steer("discard", ["a"])
    engine.enqueue([job(id="a")])

    assert (engine.steps("a"), take_one(engine).steps) == ([], 0)


# --- other jobs -------------------------------------------------------------------------------
def test_a_job_waits_for_another_and_is_told_its_end(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    engine.enqueue([job(id="b")])

    settle(engine, Suspended(claim.token, edges=(Edge("b", "a", Rule.DONE, Role.CALL),)))
    assert (state_of(engine, "a"), look(engine, "a").pending) == (State.WAITING, 1)
    settle(engine, Failed(take_one(engine).token, "error", b"why"))

    [parent] = take_one(engine).parents
    assert parent == ParentEnd("b", Role.CALL, State.FAILED, error=b"why")


def test_a_job_that_waits_for_one_that_has_ended_goes_on_at_once(harness: Harness) -> None:
    engine = harness.engine()
    fail(engine, job(id="b"))
    claim = start(engine, job(id="a"))

    settle(engine, Suspended(claim.token, edges=(Edge("b", "a", Rule.DONE, Role.CALL),)))

    assert ids(take(engine, 5)) == ["a"]


def test_a_job_that_waits_for_one_that_is_unknown_goes_on_at_once(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))

    settle(engine, Suspended(claim.token, edges=(Edge("nobody", "a", Rule.DONE, Role.CALL),)))

    [parent] = take_one(engine).parents
    assert (parent.id, parent.is_gone) == ("nobody", True)


def test_a_wait_that_is_broken_cancels(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    engine.enqueue([job(id="b")])
    settle(engine, Suspended(claim.token, edges=(Edge("b", "a"),)))

    settle(engine, Failed(take_one(engine).token, "error", b"why"))

    assert (state_of(engine, "a"), look(engine, "a").cause) == (State.CANCELLED, "b")


def test_parents_of_both_kinds_are_told_in_order(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="p"), job(id="a"), job(id="b", delay_s=5)], [Edge("p", "a")])
    settle(engine, Succeeded(take_one(engine).token, b"given"))
    settle(engine, Suspended(take_one(engine).token, edges=(Edge("b", "a", Rule.DONE, Role.CALL),)))
    harness.advance(6)
    settle(engine, Succeeded(take_one(engine).token, b"called"))

    claim = take_one(engine)

    assert [(end.role, end.result) for end in claim.parents] == [
        (Role.INPUT, b"given"),
        (Role.CALL, b"called"),
    ]


# --- events -----------------------------------------------------------------------------------
def test_a_job_waits_for_an_event(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))

    settle(engine, Suspended(claim.token, event=APPROVAL))

    assert (state_of(engine), look(engine).event) == (State.WAITING, "approval")
    assert ids(take(engine, 5)) == []


def test_an_event_ends_the_wait_and_is_recorded_as_a_step(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    settle(engine, Suspended(claim.token, event=APPROVAL))

    assert engine.signal("e1", "approval", "a", b"yes") == "a"

    assert ids(take(engine, 5)) == ["a"]
    assert engine.steps("a") == [Step("wait:approval:0", b"yes")]
    assert look(engine).event == ""


def test_an_event_of_another_name_or_key_does_not(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    settle(engine, Suspended(claim.token, event=APPROVAL))

    assert engine.signal("e1", "refusal", "a", b"") == ""
    assert engine.signal("e2", "approval", "b", b"") == ""
    assert state_of(engine) is State.WAITING


def test_an_event_sent_before_the_wait_is_kept_and_taken_once(harness: Harness) -> None:
    engine = harness.engine()
    engine.signal("e1", "approval", "a", b"early")
    claim = start(engine, job(id="a"))
    settle(engine, Suspended(claim.token, event=APPROVAL))

    again = take_one(engine)
    assert engine.steps("a") == [Step("wait:approval:0", b"early")]
    settle(engine, Suspended(again.token, event=Await("approval", "a", "wait:approval:1")))
    assert state_of(engine) is State.WAITING


def test_events_are_taken_in_the_order_in_which_they_were_sent(harness: Harness) -> None:
    engine = harness.engine()
    engine.signal("e1", "approval", "a", b"one")
    engine.signal("e2", "approval", "a", b"two")
    claim = start(engine, job(id="a"))
    for n in range(2):
        settle(engine, Suspended(claim.token, event=Await("approval", "a", f"wait:approval:{n}")))
        claim = take_one(engine)

    assert [step.value for step in engine.steps("a")] == [b"one", b"two"]


def test_an_event_sent_again_changes_nothing(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    settle(engine, Suspended(claim.token, event=APPROVAL))
    engine.signal("e1", "approval", "a", b"yes")

    assert engine.signal("e1", "approval", "a", b"yes") == ""
    claim = take_one(engine)
    settle(engine, Suspended(claim.token, event=Await("approval", "a", "wait:approval:1")))
    assert state_of(engine) is State.WAITING


def test_of_two_jobs_that_wait_the_older_gets_the_event(harness: Harness) -> None:
    engine = harness.engine()
    for name in "ab":
        claim = start(engine, job(id=name))
        settle(engine, Suspended(claim.token, event=Await("go", "all", "wait:go:0")))

    assert engine.signal("e1", "go", "all", b"") == "a"
    assert (state_of(engine, "a"), state_of(engine, "b")) == (State.READY, State.WAITING)


def test_a_wait_for_an_event_may_have_an_end(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    settle(engine, Suspended(claim.token, event=APPROVAL, delay_s=60))
    asleep = look(engine)
    assert asleep.state is State.WAITING
    assert asleep.due_at is not None
    harness.advance(61)

    assert ids(take(engine, 5)) == ["a"]
    assert (engine.steps("a"), look(engine).event) == ([Step("wait:approval:0", b"")], "")
    assert engine.signal("e1", "approval", "a", b"late") == ""


def test_an_event_in_time_ends_the_limit_as_well(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    settle(engine, Suspended(claim.token, event=APPROVAL, delay_s=60))
    engine.signal("e1", "approval", "a", b"yes")
    claim = take_one(engine)
    settle(engine, Suspended(claim.token, event=Await("more", "a", "wait:more:0")))
    harness.advance(61)
    sweep(engine)

    assert (state_of(engine), look(engine).due_at) == (State.WAITING, None)


def test_an_event_that_nobody_takes_is_swept(harness: Harness) -> None:
    engine = harness.engine()
    engine.signal("e1", "approval", "a", b"early")
    harness.advance(KEEP_EVENT_S + 1)
    sweep(engine)
    claim = start(engine, job(id="a"))

    settle(engine, Suspended(claim.token, event=APPROVAL))

    assert state_of(engine) is State.WAITING


def test_waiting_jobs_are_counted(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    settle(engine, Suspended(claim.token, event=APPROVAL))

    assert counts(engine) == {State.WAITING: 1}
