"""A paused queue hands out nothing; what runs goes on, and what arrives is kept."""

from __future__ import annotations

from cicely.core.outcome import HandedBack, Succeeded
from cicely.core.states import State
from cicely.engines.contract import Verdict
from cicely.testing.conformance.bench import (
    demand,
    ids,
    job,
    session,
    settle,
    start,
    state_of,
    take,
)
from cicely.testing.conformance.harness import Harness


def test_a_paused_queue_hands_out_nothing(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a")])
    engine.pause("main")
    engine.enqueue([job(id="b")])

    assert take(engine, 5) == ()
    assert state_of(engine, "b") is State.READY


def test_a_resumed_queue_hands_out_again_in_order(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a")])
    engine.pause("main")
    engine.enqueue([job(id="b", priority=9)])

    engine.resume("main")

    assert ids(take(engine, 5)) == ["b", "a"]


def test_other_queues_go_on(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a"), job(id="b", queue="other")])
    engine.pause("main")

    assert ids(engine.claim("s", demand(5, queues=("main", "other")))) == ["b"]


def test_a_running_job_of_a_paused_queue_goes_on(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))

    engine.pause("main")

    assert settle(engine, Succeeded(claim.token)) is Verdict.ACCEPTED


def test_a_job_handed_back_to_a_paused_queue_waits(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    engine.pause("main")

    settle(engine, HandedBack(claim.token))

    assert take(engine) == ()


def test_a_job_that_becomes_due_in_a_paused_queue_waits(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a", delay_s=10)])
    engine.pause("main")
    harness.advance(11)

    assert take(engine) == ()
    engine.resume("main")
    assert ids(take(engine)) == ["a"]


def test_a_queue_may_be_paused_before_its_first_job(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.pause("main")
    engine.enqueue([job(id="a")])

    [record] = engine.queues()

    assert record.paused
    assert take(engine) == ()


def test_pausing_and_resuming_may_be_repeated(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a")])
    engine.pause("main")
    engine.pause("main")
    engine.resume("main")
    engine.resume("main")

    [record] = engine.queues()

    assert not record.paused
    assert ids(take(engine)) == ["a"]


def test_a_repeated_claim_returns_its_claims_while_the_queue_is_paused(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a")])
    wanted = demand()
    engine.claim("s", wanted)
    engine.pause("main")

    assert ids(engine.claim("s", wanted)) == ["a"]
