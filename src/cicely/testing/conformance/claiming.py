"""A ready job is handed out to one session; repeating a claim returns the same jobs."""

from __future__ import annotations

import os

from cicely.core.job import Kind
from cicely.core.outcome import HandedBack, Succeeded
from cicely.core.states import State
from cicely.errors import SessionClosed
from cicely.testing.conformance.bench import (
    demand,
    ids,
    job,
    look,
    near,
    refused,
    session,
    settle,
    start,
    state_of,
    take,
    take_one,
)
from cicely.testing.conformance.harness import Harness


def test_a_claim_carries_all_that_a_run_needs(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a", kind=Kind.ASYNC, body=b"body", options=b"options")])

    claim = take_one(engine)

    assert (claim.job_id, claim.task, claim.kind) == ("a", "work", Kind.ASYNC)
    assert (claim.queue, claim.body, claim.options) == ("main", b"body", b"options")
    assert (claim.attempt, claim.fence, claim.checkpoint) == (1, 1, None)
    assert near(claim.created_at, look(engine).created_at)


def test_a_claimed_job_is_running_under_its_session(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id="early")])
    harness.advance(5)

    start(engine, job(id="a", priority=9))

    kept = look(engine)
    assert (kept.state, kept.session) == (State.RUNNING, "s")
    assert (kept.attempt, kept.fence) == (1, 1)
    assert near(kept.started_at, kept.created_at)


def test_a_job_is_handed_out_once(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="other"))
    start(engine, job(id="a"))

    again = take(engine, 5, by="other")

    assert again == ()


def test_a_claim_takes_no_more_than_its_slots(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id=name) for name in "abcde"])

    taken = take(engine, 3)

    assert ids(taken) == ["a", "b", "c"]


def test_a_claim_of_nothing_is_empty(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))

    intake = engine.claim("s", demand(3))

    assert intake.claims == ()
    assert intake.next_due_in_s is None


def test_a_repeated_claim_returns_the_same_claims(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id=name) for name in "abc"])
    wanted = demand(2)
    first = engine.claim("s", wanted)

    second = engine.claim("s", wanted)

    assert {c.token for c in second.claims} == {c.token for c in first.claims}
    assert sorted(ids(second)) == ["a", "b"]
    assert state_of(engine, "c") is State.READY


def test_a_repeated_claim_returns_only_what_is_still_held(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id=name) for name in "abc"])
    wanted = demand(2)
    first, _ = engine.claim("s", wanted).claims
    settle(engine, Succeeded(first.token))

    second = engine.claim("s", wanted)

    assert ids(second) == ["b"]
    assert state_of(engine, "c") is State.READY


def test_a_repeated_claim_counts_no_second_attempt(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a")])
    wanted = demand(1)
    engine.claim("s", wanted)

    [claim] = engine.claim("s", wanted).claims

    assert (claim.fence, claim.attempt) == (1, 1)
    assert look(engine).fence == 1


def test_a_repeated_claim_returns_claims_that_were_taken_with_a_settle(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a")])
    wanted = demand(1)
    engine.settle("s", [], wanted)

    [claim] = engine.claim("s", wanted).claims

    assert claim.job_id == "a"


def test_two_requests_take_different_jobs(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a"), job(id="b")])

    taken = ids(take(engine)) + ids(take(engine))

    assert taken == ["a", "b"]


def test_a_token_begins_with_its_request(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a")])
    request = os.urandom(8)

    [claim] = engine.claim("s", demand(1, request)).claims

    assert len(claim.token) == 16
    assert claim.token[:8] == request


def test_no_token_is_given_twice_even_under_one_request(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a")])
    wanted = demand(1)
    [first] = engine.claim("s", wanted).claims
    settle(engine, HandedBack(first.token))

    [second] = engine.claim("s", wanted).claims

    assert second.token != first.token


def test_an_unknown_session_claims_nothing(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id="a")])

    with refused(SessionClosed):
        take(engine, by="stranger")

    assert state_of(engine) is State.READY


def test_a_job_of_an_unknown_task_stays_in_place(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a", task="unknown"), job(id="b")])

    taken = take(engine, 5)

    assert ids(taken) == ["b"]
    assert state_of(engine, "a") is State.READY


def test_an_unknown_task_in_front_does_not_hide_those_behind(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id=f"unknown-{n}", task="unknown", priority=9) for n in range(500)])
    engine.enqueue([job(id="a", priority=0)])

    assert ids(take(engine)) == ["a"]


def test_only_the_queues_that_are_named_are_served(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a", queue="other"), job(id="b")])

    assert ids(take(engine, 5)) == ["b"]


def test_a_scheduled_job_is_not_handed_out(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a", delay_s=60)])
    harness.advance(30)

    assert take(engine) == ()


def test_a_due_job_is_handed_out_without_a_sweep(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a", delay_s=60)])
    harness.advance(61)

    assert ids(take(engine)) == ["a"]


def test_a_claim_says_when_the_next_job_is_due(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="later", delay_s=60), job(id="sooner", delay_s=20)])
    harness.advance(5)

    intake = engine.claim("s", demand())

    assert intake.next_due_in_s is not None
    assert 13 < intake.next_due_in_s <= 15 + 0.01


def test_an_ended_job_is_not_handed_out(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    settle(engine, Succeeded(claim.token))

    assert take(engine, 5) == ()
