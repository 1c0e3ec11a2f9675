"""An outcome moves its job once: result, tallies and the next claims in one transaction."""

from __future__ import annotations

from cicely.core.job import Kind, Tallies
from cicely.core.outcome import (
    Crashed,
    Deferred,
    ErrorRecord,
    Failed,
    HandedBack,
    Outcome,
    Stopped,
    Succeeded,
)
from cicely.core.states import State
from cicely.engines.contract import Verdict
from cicely.testing.conformance.bench import (
    TICK_S,
    demand,
    ids,
    job,
    look,
    near,
    session,
    settle,
    start,
    state_of,
    take,
    take_one,
)
from cicely.testing.conformance.harness import Harness


def test_a_success_keeps_its_result(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    harness.advance(3)

    verdict = settle(engine, Succeeded(claim.token, b"result"))

    ended = look(engine)
    assert verdict is Verdict.ACCEPTED
    assert (ended.state, ended.result, ended.error) == (State.SUCCEEDED, b"result", b"")
    assert near(ended.ended_at, ended.created_at + 3)
    assert ended.session == ""


def test_a_failure_without_a_retry_is_kept_with_its_error(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))

    settle(engine, Failed(claim.token, "error", b"why"))

    ended = look(engine)
    assert (ended.state, ended.reason, ended.error) == (State.FAILED, "error", b"why")
    assert ended.tallies == Tallies(errors=1)


def test_a_crash_runs_again_at_once(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))

    settle(engine, Crashed(claim.token, "exited with 3"))

    again = take_one(engine)
    assert (again.job_id, again.tallies) == ("a", Tallies(crashes=1))
    assert again.attempt == 2
    [crashed] = look(engine).attempts
    assert (crashed.reason, ErrorRecord.decoded(crashed.error).message) == ("crashed", "exited with 3")


def test_the_third_crash_is_poison(harness: Harness) -> None:
    engine = harness.engine()
    settle(engine, Crashed(start(engine, job(id="a")).token, "killed by signal 11"))
    settle(engine, Crashed(take_one(engine).token, "killed by signal 11"))

    settle(engine, Crashed(take_one(engine).token, "killed by signal 11"))

    ended = look(engine)
    assert (ended.state, ended.reason) == (State.FAILED, "poison")
    assert ended.tallies == Tallies(crashes=3)
    assert take(engine) == ()


def test_a_hand_back_costs_nothing(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))

    settle(engine, HandedBack(claim.token))

    assert state_of(engine) is State.READY
    assert take_one(engine).tallies == Tallies()


def test_a_suspect_next_runs_isolated(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a", kind=Kind.ASYNC))

    settle(engine, HandedBack(claim.token, "its process died", alone=True))

    assert ids(engine.claim("s", demand(1, kinds=(Kind.SYNC, Kind.ASYNC)))) == []
    assert take_one(engine).kind is Kind.ISOLATED


def test_a_deferred_job_is_scheduled_at_no_cost(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))

    settle(engine, Deferred(claim.token, 60, "not yet"))

    kept = look(engine)
    assert (kept.state, kept.reason, kept.tallies) == (State.SCHEDULED, "not yet", Tallies())
    assert near(kept.due_at, kept.created_at + 60)


def test_a_stopped_attempt_ends_as_cancelled(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))

    settle(engine, Stopped(claim.token, "by its own wish"))

    assert state_of(engine) is State.CANCELLED


def test_verdicts_come_in_the_order_of_the_outcomes(harness: Harness) -> None:
    engine = harness.engine()
    first = start(engine, job(id="a"))
    second = start(engine, job(id="b"))
    outcomes: list[Outcome] = [
        Succeeded(second.token),
        Succeeded(b"?" * 16),
        Failed(first.token, "error"),
    ]

    settled = engine.settle("s", outcomes)

    assert settled.verdicts == (Verdict.ACCEPTED, Verdict.STALE, Verdict.ACCEPTED)
    assert state_of(engine, "a") is State.FAILED
    assert state_of(engine, "b") is State.SUCCEEDED


def test_a_settle_claims_the_next_jobs_in_the_same_call(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    engine.enqueue([job(id="b"), job(id="c")])

    settled = engine.settle("s", [Succeeded(claim.token)], demand(1))

    assert settled.verdicts == (Verdict.ACCEPTED,)
    assert ids(settled.intake) == ["b"]
    assert state_of(engine, "b") is State.RUNNING


def test_a_settle_may_claim_what_it_handed_back(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))

    settled = engine.settle("s", [HandedBack(claim.token)], demand(1))

    assert ids(settled.intake) == ["a"]


def test_a_settle_without_a_demand_claims_nothing(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    engine.enqueue([job(id="b")])

    settled = engine.settle("s", [Succeeded(claim.token)])

    assert settled.intake.claims == ()
    assert state_of(engine, "b") is State.READY


def test_a_supervisor_may_settle_for_its_children(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="boss"))
    claim = start(engine, job(id="a"))

    verdict = settle(engine, Crashed(claim.token, "killed by signal 9"), by="boss")

    assert verdict is Verdict.ACCEPTED
    assert look(engine).tallies == Tallies(crashes=1)


def test_each_attempt_is_recorded(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    harness.advance(2)
    settle(engine, Failed(claim.token, "error", b"why", retry_in_s=0))
    second = take_one(engine)
    harness.advance(3)
    settle(engine, Succeeded(second.token))

    failed, succeeded = look(engine).attempts

    assert (failed.attempt, failed.fence, failed.reason) == (1, 1, "error")
    assert (failed.session, failed.error) == ("s", b"why")
    assert abs(failed.ended_at - failed.started_at - 2) < TICK_S
    assert (succeeded.attempt, succeeded.fence, succeeded.reason) == (2, 2, "succeeded")
    assert abs(succeeded.ended_at - succeeded.started_at - 3) < TICK_S


def test_a_settled_job_is_held_no_more(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))

    settle(engine, Succeeded(claim.token))

    [record] = engine.sessions()
    assert record.held == 0


def test_a_result_may_hold_any_bytes(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    result = bytes(range(256)) * 200

    settle(engine, Succeeded(claim.token, result))

    assert look(engine).result == result


def test_two_hundred_outcomes_settle_in_one_call(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id=f"j{n}") for n in range(200)])
    claims = take(engine, 200)

    settled = engine.settle("s", [Succeeded(claim.token) for claim in claims])

    assert set(settled.verdicts) == {Verdict.ACCEPTED}
    assert len(settled.verdicts) == 200
