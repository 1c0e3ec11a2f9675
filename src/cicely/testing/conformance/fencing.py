"""Only the current claim's token moves a job, and the fence counts its claims upwards for ever."""

from __future__ import annotations

from cicely.core.job import Claim
from cicely.core.outcome import Failed, HandedBack, Succeeded
from cicely.core.states import State
from cicely.engines.contract import Engine, Save, Verdict
from cicely.testing.conformance.bench import (
    beat,
    job,
    look,
    session,
    settle,
    silent,
    start,
    state_of,
    sweep,
    take_one,
)
from cicely.testing.conformance.harness import Harness


def test_the_outcome_of_a_rescued_claim_is_refused(harness: Harness) -> None:
    engine = harness.engine()
    zombie = _rescued(engine)

    verdict = settle(engine, Succeeded(zombie.token, b"late"))

    assert verdict is Verdict.STALE
    assert state_of(engine) is State.READY


def test_the_outcome_of_a_rescued_claim_does_not_touch_the_next_one(harness: Harness) -> None:
    engine = harness.engine()
    zombie = _rescued(engine)
    engine.join(session(id="next"))
    current = take_one(engine, by="next")

    late = settle(engine, Failed(zombie.token, "error", b"late"))
    in_time = settle(engine, Succeeded(current.token, b"right"), by="next")

    assert (late, in_time) == (Verdict.STALE, Verdict.ACCEPTED)
    assert look(engine).result == b"right"


def test_the_outcome_of_a_rescued_claim_is_refused_after_the_end(harness: Harness) -> None:
    engine = harness.engine()
    zombie = _rescued(engine)
    engine.join(session(id="next"))
    settle(engine, Succeeded(take_one(engine, by="next").token, b"right"), by="next")

    assert settle(engine, Succeeded(zombie.token, b"late")) is Verdict.STALE
    assert look(engine).result == b"right"


def test_a_save_under_an_old_token_is_refused(harness: Harness) -> None:
    engine = harness.engine()
    zombie = _rescued(engine)
    engine.join(session(id="next"))
    take_one(engine, by="next")

    [kept] = engine.save("s", [Save(zombie.token, progress=b"late", checkpoint=b"late")])

    assert not kept
    assert look(engine).progress == b""


def test_the_old_token_of_a_claim_with_a_lost_reply_is_refused(harness: Harness) -> None:
    engine = harness.engine()
    zombie = start(engine, job(id="a"))
    beat(engine)
    beat(engine)

    assert settle(engine, Succeeded(zombie.token)) is Verdict.STALE


def test_each_claim_raises_the_fence(harness: Harness) -> None:
    engine = harness.engine()
    first = start(engine, job(id="a"))
    settle(engine, Failed(first.token, "error", retry_in_s=0))
    second = take_one(engine)
    settle(engine, HandedBack(second.token))
    third = take_one(engine)

    assert [first.fence, second.fence, third.fence] == [1, 2, 3]
    assert look(engine).fence == 3


def test_a_rescue_does_not_lower_the_fence(harness: Harness) -> None:
    engine = harness.engine()
    _rescued(engine)
    engine.join(session(id="next"))

    assert take_one(engine, by="next").fence == 2


def test_reviving_does_not_lower_the_fence(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    settle(engine, Failed(claim.token, "error"))
    engine.steer("revive", ["a"])

    assert take_one(engine).fence == 2


def _rescued(engine: Engine) -> Claim:
    """Return the claim of a job that was taken from its silent session `s`."""
    claim = start(engine, job(id="a"))
    sweep(engine, silent(engine))
    return claim
