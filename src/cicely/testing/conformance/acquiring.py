"""A running job takes of a limit and gives it back; at the latest, the end of its claim does."""

from __future__ import annotations

from cicely.core.flow import Use
from cicely.core.job import Claim
from cicely.core.limits import Limit, Rate
from cicely.core.outcome import Failed, HandedBack, Stopped, Succeeded, Suspended
from cicely.engines.contract import Engine, Grant
from cicely.errors import SessionClosed
from cicely.testing.conformance.bench import (
    beat,
    held_of,
    ids,
    job,
    near,
    refused,
    session,
    settle,
    silent,
    sweep,
    take,
    using,
)
from cicely.testing.conformance.harness import Capability, Harness

REQUIRES = frozenset({Capability.FLOW})

API = Use("api")
FIRST, SECOND, THIRD = (bytes([n]) * 8 for n in (1, 2, 3))


def test_no_more_hold_a_limit_at_once_than_it_says(harness: Harness) -> None:
    engine, [one, two] = _running(harness, 2, Limit(key="api", concurrency=1))

    assert _acquire(engine, one, FIRST) == Grant(given=True)
    assert _acquire(engine, two, SECOND) == Grant(given=False)


def test_what_is_released_is_there_for_others(harness: Harness) -> None:
    engine, [one, two] = _running(harness, 2, Limit(key="api", concurrency=1))
    _acquire(engine, one, FIRST)

    engine.release("s", one.token, FIRST, {})

    assert _acquire(engine, two, SECOND).given


def test_one_claim_may_take_of_a_limit_more_than_once(harness: Harness) -> None:
    engine, [one] = _running(harness, 1, Limit(key="api", concurrency=2))
    _acquire(engine, one, FIRST)
    _acquire(engine, one, SECOND)

    engine.release("s", one.token, FIRST, {})

    assert held_of(engine) == 1


def test_repeating_a_request_takes_nothing_more(harness: Harness) -> None:
    engine, [one] = _running(harness, 1, Limit(key="api", concurrency=1, rate=Rate(1, 1000.0)))

    assert _acquire(engine, one, FIRST) == _acquire(engine, one, FIRST) == Grant(given=True)
    assert held_of(engine) == 1


def test_repeating_a_refused_request_may_be_given(harness: Harness) -> None:
    engine, [one, two] = _running(harness, 2, Limit(key="api", concurrency=1))
    _acquire(engine, one, FIRST)
    _acquire(engine, two, SECOND)
    engine.release("s", one.token, FIRST, {})

    assert _acquire(engine, two, SECOND).given


def test_releasing_may_be_repeated(harness: Harness) -> None:
    engine, [one, two] = _running(harness, 2, Limit(key="api", concurrency=2))
    _acquire(engine, one, FIRST)
    _acquire(engine, two, SECOND)

    engine.release("s", one.token, FIRST, {})
    engine.release("s", one.token, FIRST, {})

    assert held_of(engine) == 1


def test_releasing_what_was_never_acquired_changes_nothing(harness: Harness) -> None:
    engine, [one, two] = _running(harness, 2, Limit(key="api", concurrency=2))
    _acquire(engine, one, FIRST)

    engine.release("s", two.token, FIRST, {})
    engine.release("s", one.token, SECOND, {})

    assert held_of(engine) == 1


def test_jobs_and_requests_share_a_limit(harness: Harness) -> None:
    engine, [one] = _running(harness, 1, Limit(key="api", concurrency=1))
    engine.enqueue([job(id="waits", flow=using("api"))])
    _acquire(engine, one, FIRST)

    assert take(engine, 5) == ()
    engine.release("s", one.token, FIRST, {})
    assert ids(take(engine, 5)) == ["waits"]
    assert not _acquire(engine, one, SECOND).given


def test_all_limits_of_a_request_are_taken_or_none(harness: Harness) -> None:
    engine, [one, two] = _running(harness, 2, Limit(key="api", concurrency=1))
    engine.configure([Limit(key="disk", concurrency=5)])
    _acquire(engine, one, FIRST)

    grant = engine.acquire("s", two.token, SECOND, [Use("disk"), API])

    assert not grant.given
    assert held_of(engine, "disk") == 0


def test_a_limit_that_nobody_configured_is_given(harness: Harness) -> None:
    engine, [one] = _running(harness, 1)

    assert _acquire(engine, one, FIRST).given


def test_one_that_was_acquired_before_its_limit_was_set_counts(harness: Harness) -> None:
    engine, [one, two] = _running(harness, 2)
    _acquire(engine, one, FIRST)

    engine.configure([Limit(key="api", concurrency=1)])

    assert not _acquire(engine, two, SECOND).given


def test_a_rate_says_when_to_ask_again(harness: Harness) -> None:
    engine, [one] = _running(harness, 1, Limit(key="api", rate=Rate(10, 10.0)))
    _acquire(engine, one, FIRST)

    grant = _acquire(engine, one, SECOND)

    assert not grant.given
    assert near(grant.retry_in_s, 1.0)
    harness.advance(1.01)
    assert _acquire(engine, one, SECOND).given


def test_what_was_really_spent_is_corrected_by_the_release(harness: Harness) -> None:
    engine, [one] = _running(harness, 1, Limit(key="api", costs={"tokens": Rate(6000, 60.0)}))
    engine.acquire("s", one.token, FIRST, [Use("api", {"tokens": 180.0})])
    assert not engine.acquire("s", one.token, SECOND, [Use("api", {"tokens": 160.0})]).given

    engine.release("s", one.token, FIRST, {"tokens": 10.0})

    assert engine.acquire("s", one.token, SECOND, [Use("api", {"tokens": 160.0})]).given


def test_the_claims_own_cost_is_not_corrected_by_a_release(harness: Harness) -> None:
    engine, [one] = _running(harness, 1, Limit(key="api", costs={"tokens": Rate(6000, 60.0)}))
    engine.enqueue([job(id="a", flow=using("api", tokens=180.0))])
    take(engine)
    engine.acquire("s", one.token, FIRST, [API])

    engine.release("s", one.token, FIRST, {})

    assert not engine.acquire("s", one.token, SECOND, [Use("api", {"tokens": 160.0})]).given


# --- the end of the claim -----------------------------------------------------------------
def test_a_success_releases(harness: Harness) -> None:
    engine, [one] = _holding(harness)

    settle(engine, Succeeded(one.token))

    assert held_of(engine) == 0


def test_a_failure_that_is_retried_releases(harness: Harness) -> None:
    engine, [one] = _holding(harness)

    settle(engine, Failed(one.token, "error", retry_in_s=5.0))

    assert held_of(engine) == 0


def test_a_hand_back_releases(harness: Harness) -> None:
    engine, [one] = _holding(harness)

    settle(engine, HandedBack(one.token, has_started=True))

    assert held_of(engine) == 0


def test_a_suspension_releases(harness: Harness) -> None:
    engine, [one] = _holding(harness)

    settle(engine, Suspended(one.token, delay_s=5.0))

    assert held_of(engine) == 0


def test_a_cancelled_job_holds_until_it_has_ended(harness: Harness) -> None:
    engine, [one] = _holding(harness)

    engine.steer("cancel", [one.job_id])

    assert held_of(engine) == 1
    settle(engine, Stopped(one.token))
    assert held_of(engine) == 0


def test_retiring_the_session_releases(harness: Harness) -> None:
    engine, _ = _holding(harness)

    engine.retire("s")

    assert held_of(engine) == 0


def test_a_rescue_releases(harness: Harness) -> None:
    engine, _ = _holding(harness)

    sweep(engine, silent(engine))

    assert held_of(engine) == 0


def test_two_beats_that_do_not_name_the_claim_release(harness: Harness) -> None:
    engine, _ = _holding(harness)

    beat(engine)
    beat(engine)

    assert held_of(engine) == 0


def test_the_end_of_one_claim_leaves_what_others_acquired(harness: Harness) -> None:
    engine, [one, two] = _running(harness, 2, Limit(key="api", concurrency=2))
    _acquire(engine, one, FIRST)
    _acquire(engine, two, SECOND)

    settle(engine, Succeeded(one.token))

    assert held_of(engine) == 1


def test_what_ended_in_the_meantime_is_released_by_nobody_else(harness: Harness) -> None:
    engine, [one, two] = _running(harness, 2, Limit(key="api", concurrency=1))
    _acquire(engine, one, FIRST)
    settle(engine, Succeeded(one.token))
    _acquire(engine, two, SECOND)

    engine.release("s", one.token, FIRST, {})

    assert held_of(engine) == 1


# --- who may ------------------------------------------------------------------------------
def test_a_claim_that_ended_acquires_nothing(harness: Harness) -> None:
    engine, [one] = _running(harness, 1, Limit(key="api", concurrency=1))
    settle(engine, Succeeded(one.token))

    with refused(SessionClosed):
        _acquire(engine, one, FIRST)


def test_a_claim_of_another_session_acquires_nothing(harness: Harness) -> None:
    engine, [one] = _running(harness, 1, Limit(key="api", concurrency=1))
    engine.join(session(id="t"))

    with refused(SessionClosed):
        engine.acquire("t", one.token, FIRST, [API])


def test_a_claim_of_a_retired_session_acquires_nothing(harness: Harness) -> None:
    engine, [one] = _running(harness, 1, Limit(key="api", concurrency=1))
    engine.retire("s")

    with refused(SessionClosed):
        _acquire(engine, one, FIRST)


def test_releasing_for_a_claim_that_ended_is_no_error(harness: Harness) -> None:
    engine, [one] = _holding(harness)
    engine.retire("s")

    engine.release("s", one.token, FIRST, {})

    assert held_of(engine) == 0


def _acquire(engine: Engine, claim: Claim, request: bytes) -> Grant:
    return engine.acquire("s", claim.token, request, [API])


def _running(harness: Harness, count: int, *limits: Limit) -> tuple[Engine, tuple[Claim, ...]]:
    """Return an engine with these limits, and so many running jobs that hold none of them."""
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.configure(limits)
    engine.enqueue([job(id=f"j{n}") for n in range(count)])
    return engine, take(engine, count)


def _holding(harness: Harness) -> tuple[Engine, tuple[Claim, ...]]:
    """Return an engine, and a running job that has acquired the only unit of a limit."""
    engine, claims = _running(harness, 1, Limit(key="api", concurrency=1))
    assert _acquire(engine, claims[0], FIRST).given
    return engine, claims
