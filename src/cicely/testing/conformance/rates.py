"""So many jobs of a key in a time, and so much of its costs: reserved at the claim, corrected at the end."""

from __future__ import annotations

import msgspec

from cicely.core.limits import Limit, Rate
from cicely.core.outcome import Deferred, Failed, HandedBack, Outcome, Succeeded, Suspended
from cicely.engines.contract import Engine
from cicely.testing.conformance.bench import (
    demand,
    ids,
    job,
    near,
    session,
    settle,
    sweep,
    take,
    take_one,
    using,
)
from cicely.testing.conformance.harness import Capability, Harness

REQUIRES = frozenset({Capability.FLOW})

#: 180 may pass at one instant, 97 more in each second.
TOKENS = Rate(6000, 60.0)


# --- counted ------------------------------------------------------------------------------
def test_no_period_sees_more_jobs_than_the_rate(harness: Harness) -> None:
    engine = _rated(harness, Rate(20, 10.0), jobs=100)

    passed = _passed(harness, engine, seconds=30.0, step_s=0.25)

    assert max(sum(at <= other < at + 10.0 for other in passed) for at in passed) <= 20


def test_nearly_all_of_a_rate_is_used(harness: Harness) -> None:
    engine = _rated(harness, Rate(20, 10.0), jobs=100)

    assert len(_passed(harness, engine, seconds=30.0, step_s=0.25)) >= 57


def test_a_small_share_of_a_rate_may_pass_at_one_instant(harness: Harness) -> None:
    engine = _rated(harness, Rate(500, 60.0), jobs=100)

    assert len(take(engine, 100)) == 15


def test_a_rate_saves_nothing_up(harness: Harness) -> None:
    engine = _rated(harness, Rate(20, 10.0), jobs=100)
    harness.advance(1000)

    assert len(take(engine, 100)) == 1


def test_a_claim_says_when_the_next_may_pass(harness: Harness) -> None:
    engine = _rated(harness, Rate(10, 10.0), jobs=3)

    intake = engine.claim("s", demand(5))

    assert ids(intake) == ["j0"]
    assert near(intake.next_due_in_s, 1.0)
    harness.advance(0.9)
    assert take(engine, 5) == ()
    harness.advance(0.2)
    assert ids(take(engine, 5)) == ["j1"]


def test_a_settle_and_a_sweep_say_it_as_well(harness: Harness) -> None:
    engine = _rated(harness, Rate(10, 10.0), jobs=3)
    claim = take_one(engine)
    harness.advance(0.25)

    settled = engine.settle("s", [Succeeded(claim.token)], demand(1))

    assert near(settled.intake.next_due_in_s, 0.75)
    assert near(sweep(engine).next_due_in_s, 0.75)


def test_an_opening_at_which_nobody_waits_is_not_told(harness: Harness) -> None:
    engine = _rated(harness, Rate(10, 10.0), jobs=1)

    assert engine.claim("s", demand(5)).next_due_in_s is None


def test_a_job_due_before_the_opening_is_told_first(harness: Harness) -> None:
    engine = _rated(harness, Rate(10, 100.0), jobs=2)
    engine.enqueue([job(id="due", delay_s=4)])

    assert near(engine.claim("s", demand(5)).next_due_in_s, 4.0)


def test_the_release_of_a_limit_is_no_time_that_could_be_told(harness: Harness) -> None:
    engine = _rated(harness, Rate(10, 10.0), jobs=3)
    engine.configure([Limit(key="api", concurrency=1, rate=Rate(10, 10.0))])

    assert engine.claim("s", demand(5)).next_due_in_s is None


def test_a_session_that_claims_at_the_told_time_misses_nothing(harness: Harness) -> None:
    engine = _rated(harness, Rate(10, 10.0), jobs=8)
    names = []
    for _ in range(8):
        intake = engine.claim("s", demand(5))
        names += ids(intake)
        harness.advance((intake.next_due_in_s or 0.0) + 0.002)

    assert names == [f"j{n}" for n in range(8)]


def test_a_rate_is_shared_by_all_sessions(harness: Harness) -> None:
    engine = _rated(harness, Rate(10, 10.0), jobs=5)
    other = harness.engine()
    other.join(session(id="t", worker="another"))
    take_one(engine)

    assert take(other, 5, by="t") == ()


def test_a_rate_counts_whatever_became_of_those_that_passed(harness: Harness) -> None:
    engine = _rated(harness, Rate(10, 10.0), jobs=5)
    settle(engine, Failed(take_one(engine).token, "error"))

    assert take(engine, 5) == ()


def test_what_came_back_unstarted_is_not_counted(harness: Harness) -> None:
    engine = _rated(harness, Rate(10, 10.0), jobs=5)
    settle(engine, HandedBack(take_one(engine).token))

    assert ids(take(engine, 5)) == ["j0"]


def test_what_came_back_started_is_counted(harness: Harness) -> None:
    engine = _rated(harness, Rate(10, 10.0), jobs=5)
    settle(engine, HandedBack(take_one(engine).token, has_started=True))

    assert take(engine, 5) == ()


def test_a_changed_rate_counts_from_then_on(harness: Harness) -> None:
    engine = _rated(harness, Rate(1, 1000.0), jobs=5)
    take_one(engine)
    harness.advance(1)
    engine.unset("limit", "api")
    engine.configure([Limit(key="disk", rate=Rate(1, 1000.0))])

    assert len(take(engine, 5)) == 4


def test_jobs_that_wait_for_a_rate_hold_nobody_else_back(harness: Harness) -> None:
    engine = _rated(harness, Rate(10, 10.0), jobs=3)
    engine.enqueue([job(id="plain", priority=0), job(id="other", flow=using("else"))])

    assert ids(take(engine, 5)) == ["j0", "other", "plain"]


def test_a_job_that_waits_for_one_key_takes_nothing_of_its_others_rate(harness: Harness) -> None:
    engine = _rated(harness, Rate(10, 10.0), jobs=0)
    engine.configure([Limit(key="disk", concurrency=1)])
    engine.enqueue([job(id="d", flow=using("disk")), job(id="both", flow=using("api", "disk"))])
    take_one(engine)
    assert take(engine, 5) == ()

    engine.enqueue([job(id="a", flow=using("api"))])

    assert ids(take(engine, 5)) == ["a"]


# --- metered ------------------------------------------------------------------------------
def test_no_period_sees_more_of_a_cost_than_its_rate(harness: Harness) -> None:
    engine = _metered(harness, *[60.0] * 300)

    passed = _passed(harness, engine, seconds=150.0, step_s=0.5)

    assert max(60 * sum(at <= other < at + 60.0 for other in passed) for at in passed) <= 6000
    assert 60 * len(passed) >= 0.95 * 2.5 * 6000


def test_jobs_of_less_cost_pass_in_greater_number(harness: Harness) -> None:
    engine = _metered(harness, *[10.0] * 30)

    assert len(take(engine, 30)) == 18


def test_a_cost_above_what_may_pass_at_once_passes_alone_when_nothing_was_used(harness: Harness) -> None:
    engine = _metered(harness, 970.0, 970.0)

    intake = engine.claim("s", demand(5))

    assert ids(intake) == ["j0"]
    assert near(intake.next_due_in_s, 10.0)
    harness.advance(10.01)
    assert ids(take(engine, 5)) == ["j1"]


def test_a_large_cost_waits_until_all_before_it_has_flowed_off(harness: Harness) -> None:
    engine = _metered(harness, 97.0, 970.0)

    assert ids(take(engine, 5)) == ["j0"]
    harness.advance(0.9)
    assert take(engine, 5) == ()
    harness.advance(0.2)
    assert ids(take(engine, 5)) == ["j1"]


def test_a_cheap_job_does_not_pass_a_dear_one_like_it(harness: Harness) -> None:
    engine = _metered(harness, 97.0, 970.0, 1.0)

    assert ids(take(engine, 5)) == ["j0"]


def test_what_was_not_spent_is_there_for_others_when_the_job_ends(harness: Harness) -> None:
    _check_that_correction_counts(harness, Succeeded(b"", spent={"tokens": 10.0}))


def test_what_a_failure_did_not_spend_is_there_for_others(harness: Harness) -> None:
    _check_that_correction_counts(harness, Failed(b"", "error", spent={"tokens": 10.0}))


def test_what_a_deferral_did_not_spend_is_there_for_others(harness: Harness) -> None:
    _check_that_correction_counts(harness, Deferred(b"", 1000.0, spent={"tokens": 10.0}))


def test_what_a_suspension_did_not_spend_is_there_for_others(harness: Harness) -> None:
    _check_that_correction_counts(harness, Suspended(b"", delay_s=1000.0, spent={"tokens": 10.0}))


def test_what_was_spent_beyond_the_estimate_is_missing_to_others(harness: Harness) -> None:
    engine = _metered(harness, 10.0, 180.0)
    claim = take_one(engine)

    settle(engine, Succeeded(claim.token, spent={"tokens": 970.0}))

    assert near(engine.claim("s", demand(5)).next_due_in_s, 10.0)


def test_a_cost_that_nobody_told_stays_as_it_was_estimated(harness: Harness) -> None:
    engine = _metered(harness, 180.0, 180.0)
    claim = take_one(engine)

    settle(engine, Succeeded(claim.token))

    assert take(engine, 5) == ()


def test_what_was_spent_of_an_unknown_meter_changes_nothing(harness: Harness) -> None:
    engine = _metered(harness, 10.0, 10.0)
    claim = take_one(engine)

    settle(engine, Succeeded(claim.token, spent={"pages": 1e9}))

    assert ids(take(engine, 5)) == ["j1"]


def test_a_cost_that_came_back_unstarted_is_there_again(harness: Harness) -> None:
    engine = _metered(harness, 170.0)
    settle(engine, HandedBack(take_one(engine).token))

    assert ids(take(engine, 5)) == ["j0"]


def test_a_job_that_estimates_no_cost_passes_whatever_others_use(harness: Harness) -> None:
    engine = _metered(harness, 180.0)
    engine.enqueue([job(id="free", task="other", flow=using("api"))])

    assert ids(take(engine, 5)) == ["j0", "free"]


def test_each_meter_bounds_for_itself(harness: Harness) -> None:
    engine = _joined(harness)
    engine.configure(
        [Limit(key="api", rate=Rate(500, 60.0), costs={"tokens": TOKENS, "usd": Rate(10, 1000.0)})]
    )
    engine.enqueue([job(id=f"j{n}", flow=using("api", tokens=1.0, usd=0.09)) for n in range(30)])

    assert len(take(engine, 30)) == 3


def _check_that_correction_counts(harness: Harness, outcome: Outcome) -> None:
    """Reserve 180, end with 10 spent: then another 160 pass at once, and no 20 more."""
    engine = _metered(harness, 180.0, 160.0, 20.0)
    claim = take_one(engine)
    assert take(engine, 5) == ()

    settle(engine, msgspec.structs.replace(outcome, token=claim.token))

    assert ids(take(engine, 5)) == ["j1"]


def _passed(harness: Harness, engine: Engine, *, seconds: float, step_s: float) -> list[float]:
    """Claim again and again, and return when jobs passed."""
    passed = []
    steps = int(seconds / step_s)
    for n in range(steps):
        passed += [n * step_s for _ in take(engine, 100)]
        harness.advance(step_s)
    return passed


def _joined(harness: Harness) -> Engine:
    engine = harness.engine()
    engine.join(session(id="s"))
    return engine


def _rated(harness: Harness, rate: Rate, *, jobs: int) -> Engine:
    """Return an engine with a session, a rate of the key "api", and so many jobs that use it."""
    engine = _joined(harness)
    engine.configure([Limit(key="api", rate=rate)])
    engine.enqueue([job(id=f"j{n}", flow=using("api")) for n in range(jobs)])
    return engine


def _metered(harness: Harness, *costs: float) -> Engine:
    """Return an engine with a session, a meter of the key "api", and a job for each cost."""
    engine = _joined(harness)
    engine.configure([Limit(key="api", costs={"tokens": TOKENS})])
    engine.enqueue([job(id=f"j{n}", flow=using("api", tokens=cost)) for n, cost in enumerate(costs)])
    return engine
