"""A message is claimed like a job; a deadline of its own takes it back unless acknowledged."""

from __future__ import annotations

from cicely.core.job import Kind, Tallies
from cicely.core.outcome import Failed, Succeeded
from cicely.core.states import State
from cicely.engines.contract import Engine, Save, Verdict
from cicely.testing.conformance.bench import (
    ids,
    look,
    message,
    receive_demand,
    session,
    settle,
    silent,
    state_of,
    sweep,
    take,
)
from cicely.testing.conformance.harness import Harness


def test_a_message_is_received_and_acknowledged(harness: Harness) -> None:
    engine = harness.engine()
    _send(engine, "a")

    [claim] = engine.claim("s", receive_demand(5)).claims

    assert (claim.job_id, claim.kind, claim.body) == ("a", Kind.MESSAGE, b"a")
    assert settle(engine, Succeeded(claim.token)) is Verdict.ACCEPTED
    assert state_of(engine) is State.SUCCEEDED


def test_a_message_is_not_claimed_by_workers(harness: Harness) -> None:
    engine = harness.engine()
    _send(engine, "a")

    assert take(engine, 5) == ()


def test_a_message_without_a_deadline_stays_with_its_session(harness: Harness) -> None:
    engine = harness.engine()
    _send(engine, "a")
    engine.claim("s", receive_demand(1))
    harness.advance(100_000)

    sweep(engine)

    assert state_of(engine) is State.RUNNING


def test_a_message_past_its_deadline_is_received_again(harness: Harness) -> None:
    engine = harness.engine()
    _send(engine, "a")
    engine.claim("s", receive_demand(1, visibility_s=60))
    harness.advance(61)

    [claim] = engine.claim("s", receive_demand(1, visibility_s=60)).claims

    assert claim.job_id == "a"
    assert claim.tallies == Tallies(errors=1)


def test_a_message_before_its_deadline_is_not_received_again(harness: Harness) -> None:
    engine = harness.engine()
    _send(engine, "a")
    engine.claim("s", receive_demand(1, visibility_s=60))
    harness.advance(59)
    sweep(engine)

    assert engine.claim("s", receive_demand(1, visibility_s=60)).claims == ()


def test_a_sweep_takes_back_a_message_past_its_deadline(harness: Harness) -> None:
    engine = harness.engine()
    _send(engine, "a")
    engine.claim("s", receive_demand(1, visibility_s=60))
    harness.advance(61)

    sweep(engine)

    kept = look(engine)
    assert (kept.state, kept.tallies) == (State.READY, Tallies(errors=1))
    assert [record.reason for record in kept.attempts] == ["timeout"]


def test_an_acknowledgement_past_the_deadline_is_refused(harness: Harness) -> None:
    engine = harness.engine()
    _send(engine, "a")
    [claim] = engine.claim("s", receive_demand(1, visibility_s=60)).claims
    harness.advance(61)
    sweep(engine)

    assert settle(engine, Succeeded(claim.token)) is Verdict.STALE


def test_a_deadline_may_be_moved(harness: Harness) -> None:
    engine = harness.engine()
    _send(engine, "a")
    [claim] = engine.claim("s", receive_demand(1, visibility_s=60)).claims
    harness.advance(50)

    [kept] = engine.save("s", [Save(claim.token, visibility_s=60)])
    harness.advance(50)
    sweep(engine)

    assert kept
    assert state_of(engine) is State.RUNNING
    assert settle(engine, Succeeded(claim.token)) is Verdict.ACCEPTED


def test_a_moved_deadline_passes_too(harness: Harness) -> None:
    engine = harness.engine()
    _send(engine, "a")
    [claim] = engine.claim("s", receive_demand(1, visibility_s=60)).claims
    harness.advance(50)
    engine.save("s", [Save(claim.token, visibility_s=60)])
    harness.advance(61)

    sweep(engine)

    assert state_of(engine) is State.READY


def test_a_message_is_given_up_after_its_last_receive(harness: Harness) -> None:
    engine = harness.engine()
    _send(engine, "a")
    _let_pass(harness, engine)
    _let_pass(harness, engine)

    _let_pass(harness, engine)

    ended = look(engine)
    assert (ended.state, ended.reason) == (State.FAILED, "max_receives")
    assert ended.tallies == Tallies(errors=3)


def test_a_message_may_be_sent_back_with_a_delay(harness: Harness) -> None:
    engine = harness.engine()
    _send(engine, "a")
    [claim] = engine.claim("s", receive_demand(1, visibility_s=60)).claims

    settle(engine, Failed(claim.token, "error", retry_in_s=10))

    assert engine.claim("s", receive_demand(1)).claims == ()
    harness.advance(11)
    assert ids(engine.claim("s", receive_demand(1))) == ["a"]


def test_a_message_of_a_silent_session_is_received_again(harness: Harness) -> None:
    engine = harness.engine()
    _send(engine, "a")
    engine.claim("s", receive_demand(1))
    sweep(engine, silent(engine))
    engine.join(session(id="next"))

    assert ids(engine.claim("next", receive_demand(1))) == ["a"]


def test_a_cancelled_message_past_its_deadline_ends(harness: Harness) -> None:
    engine = harness.engine()
    _send(engine, "a")
    engine.claim("s", receive_demand(1, visibility_s=60))
    engine.steer("cancel", ["a"])
    harness.advance(61)

    sweep(engine)

    assert state_of(engine) is State.CANCELLED


def test_messages_come_by_priority_and_age(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([message(id="a"), message(id="b", priority=9), message(id="c")])

    assert ids(engine.claim("s", receive_demand(5))) == ["b", "a", "c"]


def _send(engine: Engine, message_id: str) -> None:
    """Join the session `s` and send a message whose body is its id."""
    engine.join(session(id="s"))
    engine.enqueue([message(id=message_id, body=message_id.encode())])


def _let_pass(harness: Harness, engine: Engine) -> None:
    """Receive the only message and let its deadline pass."""
    [_] = engine.claim("s", receive_demand(1, visibility_s=60)).claims
    harness.advance(61)
    sweep(engine)
