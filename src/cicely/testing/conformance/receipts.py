"""A repeated outcome is answered `already`, a refused one `stale`; neither changes anything."""

from __future__ import annotations

from cicely.core.job import Tallies
from cicely.core.outcome import Crashed, Deferred, Failed, HandedBack, Outcome, Succeeded
from cicely.core.states import State
from cicely.engines.contract import RECEIPT_LEASES, Verdict
from cicely.errors import SessionClosed
from cicely.testing.conformance.bench import (
    LEASE_S,
    demand,
    job,
    look,
    refused,
    settle,
    start,
    state_of,
    sweep,
    take_one,
)
from cicely.testing.conformance.harness import Harness


def test_a_repeated_final_outcome_is_known(harness: Harness) -> None:
    engine = harness.engine()
    outcome = Succeeded(start(engine, job(id="a")).token, b"result")
    settle(engine, outcome)

    assert settle(engine, outcome) is Verdict.ALREADY


def test_a_final_outcome_is_known_as_long_as_its_job(harness: Harness) -> None:
    engine = harness.engine()
    outcome = Succeeded(start(engine, job(id="a", keep_s=100_000)).token)
    settle(engine, outcome)
    harness.advance(90_000)
    sweep(engine)

    assert settle(engine, outcome) is Verdict.ALREADY


def test_another_outcome_for_a_settled_token_is_stale(harness: Harness) -> None:
    engine = harness.engine()
    token = start(engine, job(id="a")).token
    settle(engine, Succeeded(token, b"result"))

    verdict = settle(engine, Failed(token, "error", b"why"))

    assert verdict is Verdict.STALE
    assert (look(engine).state, look(engine).result) == (State.SUCCEEDED, b"result")


def test_an_unknown_token_is_stale(harness: Harness) -> None:
    engine = harness.engine()
    start(engine, job(id="a"))

    assert settle(engine, Succeeded(b"?" * 16)) is Verdict.STALE
    assert state_of(engine) is State.RUNNING


def test_an_empty_token_settles_nothing(harness: Harness) -> None:
    engine = harness.engine()
    start(engine, job(id="a"))
    engine.enqueue([job(id="waiting")])

    assert settle(engine, Succeeded(b"")) is Verdict.STALE
    assert state_of(engine, "waiting") is State.READY


def test_a_repeated_failure_charges_once(harness: Harness) -> None:
    engine = harness.engine()
    outcome = Failed(start(engine, job(id="a")).token, "error", retry_in_s=60)
    settle(engine, outcome)

    verdict = settle(engine, outcome)

    assert verdict is Verdict.ALREADY
    assert look(engine).tallies == Tallies(errors=1)
    assert len(look(engine).attempts) == 1


def test_a_repeated_crash_charges_once(harness: Harness) -> None:
    engine = harness.engine()
    outcome = Crashed(start(engine, job(id="a")).token, "exited with 3")
    settle(engine, outcome)

    assert settle(engine, outcome) is Verdict.ALREADY
    assert look(engine).tallies == Tallies(crashes=1)


def test_a_repeated_hand_back_is_known(harness: Harness) -> None:
    engine = harness.engine()
    outcome = HandedBack(start(engine, job(id="a")).token)
    settle(engine, outcome)

    assert settle(engine, outcome) is Verdict.ALREADY


def test_a_repeated_deferral_is_known_and_does_not_move_the_due_time(harness: Harness) -> None:
    engine = harness.engine()
    outcome = Deferred(start(engine, job(id="a")).token, 60)
    settle(engine, outcome)
    due_at = look(engine).due_at
    harness.advance(10)

    assert settle(engine, outcome) is Verdict.ALREADY
    assert look(engine).due_at == due_at


def test_an_outcome_is_known_after_its_job_moved_on(harness: Harness) -> None:
    engine = harness.engine()
    outcome = Failed(start(engine, job(id="a")).token, "error", retry_in_s=0)
    settle(engine, outcome)
    take_one(engine)

    verdict = settle(engine, outcome)

    assert verdict is Verdict.ALREADY
    assert state_of(engine) is State.RUNNING


def test_an_outcome_is_known_after_its_job_ended(harness: Harness) -> None:
    engine = harness.engine()
    outcome = HandedBack(start(engine, job(id="a")).token)
    settle(engine, outcome)
    settle(engine, Succeeded(take_one(engine).token))

    assert settle(engine, outcome) is Verdict.ALREADY
    assert state_of(engine) is State.SUCCEEDED


def test_an_outcome_is_known_for_ten_leases(harness: Harness) -> None:
    engine = harness.engine()
    outcome = Failed(start(engine, job(id="a")).token, "error", retry_in_s=100_000)
    settle(engine, outcome)
    harness.advance(RECEIPT_LEASES * LEASE_S - 1)
    sweep(engine)

    assert settle(engine, outcome) is Verdict.ALREADY


def test_an_outcome_of_a_retired_session_is_stale(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    engine.retire("s")

    verdict = settle(engine, Succeeded(claim.token))

    assert verdict is Verdict.STALE
    assert state_of(engine) is State.READY


def test_an_outcome_recorded_before_its_session_retired_is_known(harness: Harness) -> None:
    engine = harness.engine()
    outcome = Failed(start(engine, job(id="a")).token, "error", retry_in_s=60)
    settle(engine, outcome)
    engine.retire("s")

    assert settle(engine, outcome) is Verdict.ALREADY


def test_a_settle_with_a_demand_for_a_closed_session_records_nothing(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    outcomes: list[Outcome] = [Succeeded(claim.token)]

    with refused(SessionClosed):
        engine.settle("stranger", outcomes, demand())

    assert state_of(engine) is State.RUNNING


def test_the_same_outcome_twice_in_one_call_counts_once(harness: Harness) -> None:
    engine = harness.engine()
    outcome = Failed(start(engine, job(id="a")).token, "error", retry_in_s=60)

    settled = engine.settle("s", [outcome, outcome])

    assert settled.verdicts == (Verdict.ACCEPTED, Verdict.ALREADY)
    assert look(engine).tallies == Tallies(errors=1)
