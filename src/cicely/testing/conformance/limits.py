"""So many at once of a key's jobs, wherever they run; whatever ends a claim makes room for another."""

from __future__ import annotations

import msgspec

from cicely.core.limits import Limit
from cicely.core.outcome import Crashed, Deferred, Failed, HandedBack, Outcome, Stopped, Succeeded, Suspended
from cicely.core.states import State
from cicely.engines.contract import Engine
from cicely.testing.conformance.bench import (
    beat,
    demand,
    held_of,
    ids,
    job,
    message,
    receive_demand,
    session,
    settle,
    silent,
    state_of,
    sweep,
    take,
    take_one,
    using,
)
from cicely.testing.conformance.harness import Capability, Harness

REQUIRES = frozenset({Capability.FLOW})


# --- at once ------------------------------------------------------------------------------
def test_no_more_run_at_once_than_the_limit_says(harness: Harness) -> None:
    engine = _limited(harness, 2, jobs=5)

    assert ids(take(engine, 5)) == ["j0", "j1"]
    assert take(engine, 5) == ()


def test_the_limit_is_for_all_sessions_together(harness: Harness) -> None:
    engine = _limited(harness, 3, jobs=5)
    harness.engine().join(session(id="t", worker="another"))

    assert ids(take(engine, 2)) == ["j0", "j1"]
    assert ids(take(harness.engine(), 5, by="t")) == ["j2"]


def test_the_limit_is_for_all_queues_and_tasks_together(harness: Harness) -> None:
    engine = _limited(harness, 1, jobs=1)
    engine.enqueue([job(id="b", queue="side", task="other", flow=using("api"))])
    take(engine)

    assert engine.claim("s", demand(1, queues=("side",))).claims == ()


def test_a_job_of_two_limits_that_one_claim_filled_starts_when_both_have_room(harness: Harness) -> None:
    engine = _limited(harness, 2)
    engine.configure([Limit(key="disk", concurrency=1)])
    engine.enqueue([job(id="first", flow=using("disk"))])
    running = {claim.job_id: claim.token for claim in take(engine, 5)}
    engine.enqueue([job(id=name, flow=using("api", "disk")) for name in "abc"])
    engine.enqueue([job(id="x", flow=using("api"))])
    started: list[str] = []

    for ends in (["first"], ["a", "x"], ["b"]):
        for name in ends:
            settle(engine, Succeeded(running[name]))
        claims = take(engine, 5)
        running |= {claim.job_id: claim.token for claim in claims}
        started += ids(claims)

    assert started == ["a", "x", "b", "c"]


def test_an_end_makes_room_for_the_next_claim_of_the_same_call(harness: Harness) -> None:
    engine = _limited(harness, 1, jobs=2)
    claim = take_one(engine)

    settled = engine.settle("s", [Succeeded(claim.token)], demand(1))

    assert ids(settled.intake) == ["j1"]


def test_the_first_in_line_goes_when_there_is_room(harness: Harness) -> None:
    engine = _limited(harness, 1, jobs=1)
    claim = take_one(engine)
    engine.enqueue([job(id="low", flow=using("api")), job(id="high", priority=9, flow=using("api"))])
    settle(engine, Succeeded(claim.token))

    assert ids(take(engine, 5)) == ["high"]


def test_jobs_of_other_keys_and_of_none_pass_those_that_wait(harness: Harness) -> None:
    engine = _limited(harness, 1, jobs=3)
    others = [job(id="other", flow=using("else")), job(id="plain"), job(id="late", priority=0)]
    engine.enqueue(others)

    assert ids(take(engine, 5)) == ["j0", "other", "plain", "late"]


def test_a_limit_of_one_lane_does_not_hold_back_another(harness: Harness) -> None:
    engine = _limited(harness, 1)
    engine.enqueue([job(id=f"a{n}", lane="a", flow=using("api")) for n in range(3)])
    engine.enqueue([job(id=f"b{n}", lane="b") for n in range(3)])

    assert ids(take(engine, 9)) == ["a0", "b0", "b1", "b2"]


def test_repeating_a_claim_takes_no_more_of_a_limit(harness: Harness) -> None:
    engine = _limited(harness, 3, jobs=5)
    wanted = demand(2)

    assert ids(engine.claim("s", wanted)) == ids(engine.claim("s", wanted)) == ["j0", "j1"]
    assert held_of(engine) == 2


def test_a_key_that_nobody_configured_bounds_nothing(harness: Harness) -> None:
    engine = _joined(harness)
    engine.enqueue([job(id=f"j{n}", flow=using("api")) for n in range(5)])

    assert len(take(engine, 9)) == 5


# --- several keys -------------------------------------------------------------------------
def test_a_job_of_two_keys_waits_for_both_and_takes_neither_alone(harness: Harness) -> None:
    engine = _limited(harness, 1)
    engine.configure([Limit(key="disk", concurrency=1)])
    engine.enqueue([job(id="a", flow=using("api")), job(id="both", flow=using("api", "disk"))])

    assert ids(take(engine, 5)) == ["a"]
    assert held_of(engine, "disk") == 0


def test_a_job_that_waits_for_one_key_leaves_its_other_to_those_behind(harness: Harness) -> None:
    engine = _limited(harness, 1)
    engine.configure([Limit(key="disk", concurrency=1)])
    engine.enqueue([job(id="a", flow=using("api")), job(id="both", flow=using("api", "disk"))])
    engine.enqueue([job(id="c", flow=using("disk"))])

    assert ids(take(engine, 5)) == ["a", "c"]


def test_a_job_of_two_keys_holds_both(harness: Harness) -> None:
    engine = _limited(harness, 1)
    engine.configure([Limit(key="disk", concurrency=1)])
    engine.enqueue([job(id="both", flow=using("api", "disk"))])
    engine.enqueue([job(id="a", flow=using("api")), job(id="d", flow=using("disk"))])
    claim = take_one(engine)

    assert take(engine, 5) == ()
    settle(engine, Succeeded(claim.token))
    assert ids(take(engine, 5)) == ["a", "d"]


def test_a_job_moves_from_one_key_that_blocks_it_to_the_next(harness: Harness) -> None:
    engine = _limited(harness, 1)
    engine.configure([Limit(key="disk", concurrency=1)])
    engine.enqueue([job(id="a", flow=using("api")), job(id="d", flow=using("disk"))])
    engine.enqueue([job(id="both", flow=using("api", "disk"))])
    [first, second] = take(engine, 5)

    settle(engine, Succeeded(first.token))
    assert take(engine, 5) == ()
    settle(engine, Succeeded(second.token))
    assert ids(take(engine, 5)) == ["both"]


def test_a_claim_names_the_limits_that_it_holds(harness: Harness) -> None:
    engine = _joined(harness)
    engine.enqueue([job(id="a", flow=using("disk", "api")), job(id="b")])

    assert [claim.keys for claim in take(engine, 2)] == [("api", "disk"), ()]


# --- changed while held -------------------------------------------------------------------
def test_claims_taken_before_a_limit_was_set_count(harness: Harness) -> None:
    engine = _joined(harness)
    engine.enqueue([job(id=f"j{n}", flow=using("api")) for n in range(5)])
    claims = take(engine, 2)

    engine.configure([Limit(key="api", concurrency=2)])

    assert take(engine, 5) == ()
    settle(engine, Succeeded(claims[0].token))
    assert ids(take(engine, 5)) == ["j2"]


def test_what_a_lowered_limit_no_longer_allows_runs_to_its_end(harness: Harness) -> None:
    engine = _limited(harness, 3, jobs=5)
    claims = take(engine, 3)

    engine.configure([Limit(key="api", concurrency=1)])

    for claim in claims[:2]:
        settle(engine, Succeeded(claim.token))
        assert take(engine, 5) == ()
    settle(engine, Succeeded(claims[2].token))
    assert ids(take(engine, 5)) == ["j3"]


def test_a_raised_limit_lets_more_go_at_once(harness: Harness) -> None:
    engine = _limited(harness, 1, jobs=5)
    take(engine)

    engine.configure([Limit(key="api", concurrency=3)])

    assert ids(take(engine, 5)) == ["j1", "j2"]


def test_a_limit_that_is_unset_lets_all_go(harness: Harness) -> None:
    engine = _limited(harness, 1, jobs=5)
    take(engine)

    engine.unset("limit", "api")

    assert ids(take(engine, 5)) == ["j1", "j2", "j3", "j4"]


# --- never leaked -------------------------------------------------------------------------
def test_a_success_gives_back(harness: Harness) -> None:
    _check_that_it_gives_back(harness, Succeeded(b""))


def test_a_failure_gives_back(harness: Harness) -> None:
    _check_that_it_gives_back(harness, Failed(b"", "error"))


def test_a_failure_that_is_retried_gives_back(harness: Harness) -> None:
    _check_that_it_gives_back(harness, Failed(b"", "error", retry_in_s=100.0))


def test_a_crash_gives_back(harness: Harness) -> None:
    _check_that_it_gives_back(harness, Crashed(b"", "killed by signal 9"))


def test_a_hand_back_gives_back(harness: Harness) -> None:
    _check_that_it_gives_back(harness, HandedBack(b""))


def test_a_suspects_hand_back_gives_back(harness: Harness) -> None:
    _check_that_it_gives_back(harness, HandedBack(b"", alone=True))


def test_a_deferral_gives_back(harness: Harness) -> None:
    _check_that_it_gives_back(harness, Deferred(b"", 100.0))


def test_a_suspension_gives_back(harness: Harness) -> None:
    _check_that_it_gives_back(harness, Suspended(b"", delay_s=100.0))


def test_an_end_by_request_gives_back(harness: Harness) -> None:
    _check_that_it_gives_back(harness, Stopped(b""))


def test_retiring_a_session_gives_back(harness: Harness) -> None:
    engine = _limited(harness, 1, jobs=2)
    engine.join(session(id="t"))
    take(engine)

    engine.retire("s")

    assert held_of(engine) == 0
    assert ids(take(engine, 5, by="t")) == ["j0"]


def test_a_rescue_gives_back(harness: Harness) -> None:
    engine = _limited(harness, 2, jobs=3)
    engine.join(session(id="t"))
    take(engine, 2)

    sweep(engine, silent(engine))

    assert held_of(engine) == 0
    assert len(take(engine, 5, by="t")) == 2


def test_a_claim_whose_reply_was_lost_gives_back(harness: Harness) -> None:
    engine = _limited(harness, 1, jobs=2)
    take(engine)

    beat(engine)
    assert held_of(engine) == 1
    beat(engine)
    assert held_of(engine) == 0


def test_a_message_past_its_deadline_gives_back(harness: Harness) -> None:
    engine = _limited(harness, 1)
    engine.enqueue([message(id="m", flow=using("api"))])
    engine.claim("s", receive_demand(1, visibility_s=10))

    harness.advance(11)
    sweep(engine)

    assert held_of(engine) == 0


def test_a_running_job_that_was_asked_to_end_holds_until_it_has(harness: Harness) -> None:
    engine = _limited(harness, 1, jobs=2)
    claim = take_one(engine)

    engine.steer("cancel", ["j0"])

    assert take(engine, 5) == ()
    settle(engine, Stopped(claim.token))
    assert ids(take(engine, 5)) == ["j1"]


def test_a_stale_outcome_gives_nothing_back(harness: Harness) -> None:
    engine = _limited(harness, 1, jobs=1)
    stale = take_one(engine)
    settle(engine, HandedBack(stale.token))
    take(engine)

    settle(engine, Succeeded(stale.token))

    assert held_of(engine) == 1


def test_an_outcome_told_twice_gives_back_once(harness: Harness) -> None:
    engine = _limited(harness, 2, jobs=3)
    claim, _ = take(engine, 2)

    settle(engine, Succeeded(claim.token))
    settle(engine, Succeeded(claim.token))

    assert held_of(engine) == 1


def test_waiting_jobs_that_are_cancelled_hold_nothing(harness: Harness) -> None:
    engine = _limited(harness, 1, jobs=3)
    claim = take_one(engine)

    engine.steer("cancel", ["j1"])
    settle(engine, Succeeded(claim.token))

    assert ids(take(engine, 5)) == ["j2"]


def test_a_revived_job_takes_of_its_limits_again(harness: Harness) -> None:
    engine = _limited(harness, 1, jobs=2)
    settle(engine, Failed(take_one(engine).token, "error"))
    take(engine)

    engine.steer("revive", ["j0"])

    assert take(engine, 5) == ()


def test_a_job_that_is_due_later_waits_for_its_limits_then(harness: Harness) -> None:
    engine = _limited(harness, 1, jobs=1)
    engine.enqueue([job(id="due", delay_s=10, flow=using("api"))])
    claim = take_one(engine)
    harness.advance(11)

    assert take(engine, 5) == ()
    settle(engine, Succeeded(claim.token))
    assert ids(take(engine, 5)) == ["due"]


def test_a_job_that_waits_for_a_limit_past_its_deadline_expires(harness: Harness) -> None:
    engine = _limited(harness, 1, jobs=1)
    engine.enqueue([job(id="late", expires_s=10, flow=using("api"))])
    take(engine)

    harness.advance(11)
    sweep(engine)

    assert state_of(engine, "late") is State.EXPIRED


def test_a_paused_queue_stays_paused_whatever_its_limits(harness: Harness) -> None:
    engine = _limited(harness, 1, jobs=2)
    claim = take_one(engine)
    engine.pause("main")

    settle(engine, Succeeded(claim.token))

    assert take(engine, 5) == ()
    engine.resume("main")
    assert ids(take(engine, 5)) == ["j1"]


def _check_that_it_gives_back(harness: Harness, outcome: Outcome) -> None:
    """Let the only holder of a limit end so: then nobody holds it, and the next job passes."""
    engine = _limited(harness, 1, jobs=1)
    claim = take_one(engine)
    engine.enqueue([job(id="next", priority=9, flow=using("api"))])
    assert take(engine, 5) == ()

    settle(engine, _with_token(outcome, claim.token))

    assert held_of(engine) == 0
    assert ids(take(engine, 5)) == ["next"]


def _with_token(outcome: Outcome, token: bytes) -> Outcome:
    return msgspec.structs.replace(outcome, token=token)


def _joined(harness: Harness) -> Engine:
    engine = harness.engine()
    engine.join(session(id="s"))
    return engine


def _limited(harness: Harness, concurrency: int, *, jobs: int = 0) -> Engine:
    """Return an engine with a session, a limit of the key "api", and so many jobs that use it."""
    engine = _joined(harness)
    engine.configure([Limit(key="api", concurrency=concurrency)])
    engine.enqueue([job(id=f"j{n}", flow=using("api")) for n in range(jobs)])
    return engine
