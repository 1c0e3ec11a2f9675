"""Several connections see one home of jobs: what one wrote, the others read at once."""

from __future__ import annotations

from cicely.core.job import Enqueued, Filter
from cicely.core.outcome import Succeeded
from cicely.core.states import State
from cicely.engines.contract import Save, Verdict
from cicely.testing.conformance.bench import (
    beat,
    demand,
    ids,
    job,
    look,
    session,
    settle,
    start,
    state_of,
    take,
)
from cicely.testing.conformance.harness import Harness


def test_a_job_enqueued_on_one_is_claimed_on_the_other(harness: Harness) -> None:
    producer, worker = harness.engine(), harness.engine()
    worker.join(session(id="s"))

    producer.enqueue([job(id="a")])

    assert ids(take(worker)) == ["a"]
    assert state_of(producer) is State.RUNNING


def test_a_job_is_handed_out_once_whatever_the_connection(harness: Harness) -> None:
    one, other = harness.engine(), harness.engine()
    one.join(session(id="s"))
    other.join(session(id="t"))
    one.enqueue([job(id="a"), job(id="b")])

    taken = [*ids(take(one, by="s")), *ids(take(other, by="t"))]

    assert taken == ["a", "b"]


def test_an_outcome_may_be_settled_on_another_connection(harness: Harness) -> None:
    one, other = harness.engine(), harness.engine()
    claim = start(one, job(id="a"))

    assert settle(other, Succeeded(claim.token, b"result")) is Verdict.ACCEPTED
    assert look(one).result == b"result"


def test_an_outcome_repeated_on_another_connection_is_known(harness: Harness) -> None:
    one, other = harness.engine(), harness.engine()
    outcome = Succeeded(start(one, job(id="a")).token)
    settle(one, outcome)

    assert settle(other, outcome) is Verdict.ALREADY


def test_a_claim_repeated_on_another_connection_is_the_same(harness: Harness) -> None:
    one, other = harness.engine(), harness.engine()
    one.join(session(id="s"))
    one.enqueue([job(id="a"), job(id="b")])
    wanted = demand()
    [first] = one.claim("s", wanted).claims

    [second] = other.claim("s", wanted).claims

    assert second.token == first.token


def test_an_id_is_known_to_every_connection(harness: Harness) -> None:
    one, other = harness.engine(), harness.engine()
    one.enqueue([job(id="a", unique="key")])

    answers = other.enqueue([job(id="a"), job(id="b", unique="key")])

    assert answers == [Enqueued("a", fresh=False), Enqueued("a", fresh=False)]


def test_a_session_retired_on_one_is_closed_on_the_other(harness: Harness) -> None:
    one, other = harness.engine(), harness.engine()
    claim = start(one, job(id="a"))

    other.retire("s")

    assert not beat(one, claim).alive
    assert one.save("s", [Save(claim.token, progress=b"late")]) == [False]


def test_a_pause_holds_on_every_connection(harness: Harness) -> None:
    one, other = harness.engine(), harness.engine()
    one.join(session(id="s"))
    one.enqueue([job(id="a")])

    other.pause("main")

    assert take(one) == ()


def test_a_cancellation_is_seen_on_every_connection(harness: Harness) -> None:
    one, other = harness.engine(), harness.engine()
    claim = start(one, job(id="a"))

    other.steer("cancel", ["a"])

    assert beat(one, claim).cancelled == (claim.token,)


def test_closing_one_leaves_the_others_open(harness: Harness) -> None:
    one, other = harness.engine(), harness.engine()
    start(one, job(id="a"))

    one.close()
    one.close()

    assert [found.id for found in other.find(Filter()).jobs] == ["a"]
    assert state_of(other) is State.RUNNING


def test_opening_again_changes_nothing(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id="a")])

    engine.open()

    assert state_of(engine) is State.READY


def test_an_engine_says_what_it_is(harness: Harness) -> None:
    facts = harness.engine().facts()

    assert facts.engine
    assert facts.address
    assert facts.version
    assert facts.durability
