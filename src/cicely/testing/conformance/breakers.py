"""A breaker opens after failures that blame it: nothing fails, its jobs wait; then one probes."""

from __future__ import annotations

from cicely.core.breaker import BreakerRule, Phase, phase
from cicely.core.flow import Flow
from cicely.core.job import Claim
from cicely.core.outcome import Crashed, Deferred, Failed, HandedBack, Succeeded, Suspended
from cicely.core.states import State
from cicely.engines.contract import Engine, Intake, SettingRecord
from cicely.testing.conformance.bench import (
    counts,
    demand,
    ids,
    job,
    look,
    near,
    session,
    settle,
    silent,
    sweep,
    take,
    take_one,
)
from cicely.testing.conformance.harness import Capability, Harness

REQUIRES = frozenset({Capability.FLOW})

GUARDED = Flow(breakers=("db",))
RULE = BreakerRule("db", failures=3, within_s=60.0, cooldown_s=30.0)


# --- opening ------------------------------------------------------------------------------
def test_a_breaker_opens_at_its_last_failure(harness: Harness) -> None:
    engine = _guarded(harness)

    _fail(engine, 2)
    assert len(take(engine, 1)) == 1
    _fail(engine, 1)
    assert take(engine, 5) == ()


def test_while_it_is_open_its_jobs_wait_and_nothing_fails(harness: Harness) -> None:
    engine = _opened(harness)
    harness.advance(20)
    sweep(engine)

    assert take(engine, 5) == ()
    assert counts(engine) == {State.FAILED: 3, State.READY: 17}


def test_it_holds_back_only_its_own_jobs(harness: Harness) -> None:
    engine = _opened(harness)
    engine.enqueue([job(id="plain"), job(id="other", flow=Flow(breakers=("mail",)))])

    assert ids(take(engine, 5)) == ["plain", "other"]


def test_what_runs_when_it_opens_goes_on(harness: Harness) -> None:
    engine = _guarded(harness)
    running = take_one(engine)
    _fail(engine, 3)

    settle(engine, Succeeded(running.token))

    assert look(engine, running.job_id).state is State.SUCCEEDED


def test_failures_further_apart_than_its_time_do_not_open_it(harness: Harness) -> None:
    engine = _guarded(harness)
    for _ in range(4):
        _fail(engine, 1)
        harness.advance(31)

    assert len(take(engine, 5)) == 5


def test_failures_that_do_not_blame_it_do_not_count(harness: Harness) -> None:
    engine = _guarded(harness)
    for claim in take(engine, 5):
        settle(engine, Failed(claim.token, "error"))

    assert len(take(engine, 5)) == 5


def test_crashes_hand_backs_and_deferrals_do_not_count(harness: Harness) -> None:
    engine = _guarded(harness)
    for claim in take(engine, 3):
        settle(engine, Crashed(claim.token, "killed by signal 9"))
    for claim in take(engine, 3):
        settle(engine, HandedBack(claim.token, has_started=True))
    for claim in take(engine, 3):
        settle(engine, Deferred(claim.token, 0.0))

    assert len(take(engine, 5)) == 5


def test_successes_in_between_forgive_nothing(harness: Harness) -> None:
    engine = _guarded(harness)
    for _ in range(3):
        settle(engine, Succeeded(take_one(engine).token))
        _fail(engine, 1)

    assert take(engine, 5) == ()


def test_a_failure_that_is_retried_counts_as_well(harness: Harness) -> None:
    engine = _guarded(harness)
    for claim in take(engine, 3):
        settle(engine, Failed(claim.token, "error", retry_in_s=1000.0, blames=("db",)))

    assert take(engine, 5) == ()


def test_a_breaker_that_nobody_configured_opens_by_the_usual_rule(harness: Harness) -> None:
    engine = _guarded(harness, rule=None)
    _fail(engine, 4)
    assert len(take(engine, 1)) == 1

    _fail(engine, 1)

    assert take(engine, 5) == ()
    assert _record(engine).setting == BreakerRule("db")


def test_a_job_of_several_breakers_waits_for_all(harness: Harness) -> None:
    engine = _opened(harness)
    engine.enqueue([job(id="two", flow=Flow(breakers=("db", "mail")))])

    assert take(engine, 5) == ()


def test_a_failure_counts_for_those_breakers_that_it_blames(harness: Harness) -> None:
    engine = _guarded(harness)
    engine.enqueue([job(id=f"two{n}", priority=9, flow=Flow(breakers=("db", "mail"))) for n in range(3)])
    engine.enqueue([job(id="mail", flow=Flow(breakers=("mail",)))])
    for claim in take(engine, 3):
        settle(engine, Failed(claim.token, "error", blames=("db",)))

    assert ids(take(engine, 5)) == ["mail"]


# --- half-open ----------------------------------------------------------------------------
def test_a_claim_and_a_sweep_say_when_it_lets_a_probe_pass(harness: Harness) -> None:
    engine = _opened(harness)

    assert near(engine.claim("s", demand(5)).next_due_in_s, 30.0)
    assert near(sweep(engine).next_due_in_s, 30.0)


def test_after_the_cooldown_one_job_passes(harness: Harness) -> None:
    engine = _opened(harness)
    harness.advance(29)
    assert take(engine, 5) == ()
    harness.advance(1.1)

    assert len(take(engine, 5)) == 1
    assert take(engine, 5) == ()


def test_the_end_of_a_probe_is_no_time_that_could_be_told(harness: Harness) -> None:
    engine = _opened(harness)
    harness.advance(30.1)

    assert engine.claim("s", demand(5)).next_due_in_s is None


def test_a_probe_that_ends_well_closes_it(harness: Harness) -> None:
    engine, probe = _probing(harness)

    settle(engine, Succeeded(probe.token))

    assert len(take(engine, 5)) == 5


def test_a_probe_that_is_suspended_closes_it(harness: Harness) -> None:
    engine, probe = _probing(harness)

    settle(engine, Suspended(probe.token, delay_s=100.0))

    assert len(take(engine, 5)) == 5


def test_a_probe_that_fails_for_another_reason_closes_it(harness: Harness) -> None:
    engine, probe = _probing(harness)

    settle(engine, Failed(probe.token, "error"))

    assert len(take(engine, 5)) == 5


def test_a_probe_that_fails_opens_it_for_another_cooldown(harness: Harness) -> None:
    engine, probe = _probing(harness)

    settle(engine, Failed(probe.token, "error", blames=("db",)))

    assert take(engine, 5) == ()
    harness.advance(29)
    assert take(engine, 5) == ()
    harness.advance(1.1)
    assert len(take(engine, 5)) == 1


def test_after_a_probe_that_closed_it_failures_count_anew(harness: Harness) -> None:
    engine, probe = _probing(harness)
    settle(engine, Succeeded(probe.token))

    _fail(engine, 2)

    assert len(take(engine, 5)) == 5


def test_a_probe_that_crashed_lets_the_next_one_pass(harness: Harness) -> None:
    engine, probe = _probing(harness)

    settle(engine, Crashed(probe.token, "killed by signal 9"))

    assert len(take(engine, 5)) == 1


def test_a_probe_that_was_handed_back_lets_the_next_one_pass(harness: Harness) -> None:
    engine, probe = _probing(harness)

    settle(engine, HandedBack(probe.token))

    assert ids(take(engine, 5)) == [probe.job_id]


def test_a_probe_whose_machine_was_lost_lets_the_next_one_pass(harness: Harness) -> None:
    engine, _ = _probing(harness)
    engine.join(session(id="t"))

    sweep(engine, silent(engine))

    assert len(take(engine, 5, by="t")) == 1


def test_a_probe_that_was_told_to_end_lets_the_next_one_pass(harness: Harness) -> None:
    engine, _ = _probing(harness)
    engine.join(session(id="t"))

    engine.retire("s")

    assert len(take(engine, 5, by="t")) == 1


def test_the_success_of_a_job_from_before_does_not_close_it(harness: Harness) -> None:
    engine = _guarded(harness)
    old = take_one(engine)
    _fail(engine, 3)
    harness.advance(30.1)
    take_one(engine)

    settle(engine, Succeeded(old.token))

    assert take(engine, 5) == ()
    assert _phase(engine) is Phase.HALF_OPEN


def test_a_job_from_before_is_no_probe_in_the_others_way(harness: Harness) -> None:
    engine = _guarded(harness)
    take_one(engine)
    _fail(engine, 3)
    harness.advance(30.1)

    assert len(take(engine, 5)) == 1


# --- by hand ------------------------------------------------------------------------------
def test_a_tripped_breaker_stays_open_until_it_is_reset(harness: Harness) -> None:
    engine = _guarded(harness)

    assert engine.turn("db", "trip")

    harness.advance(100_000)
    assert engine.claim("s", demand(5)) == Intake()
    assert engine.turn("db", "reset")
    assert len(take(engine, 5)) == 5


def test_tripping_twice_changes_nothing(harness: Harness) -> None:
    engine = _guarded(harness)
    engine.turn("db", "trip")
    harness.advance(5)

    assert not engine.turn("db", "trip")


def test_resetting_a_breaker_that_nothing_happened_to_changes_nothing(harness: Harness) -> None:
    engine = _guarded(harness)

    assert not engine.turn("db", "reset")


def test_a_breaker_that_failures_opened_may_be_reset(harness: Harness) -> None:
    engine = _opened(harness)

    assert engine.turn("db", "reset")

    assert len(take(engine, 5)) == 5
    assert _phase(engine) is Phase.CLOSED


def test_a_reset_forgets_the_failures_so_far(harness: Harness) -> None:
    engine = _guarded(harness)
    _fail(engine, 2)

    engine.turn("db", "reset")
    _fail(engine, 2)

    assert len(take(engine, 5)) == 5


def test_the_success_of_a_running_job_does_not_close_a_tripped_breaker(harness: Harness) -> None:
    engine = _guarded(harness)
    running = take_one(engine)
    engine.turn("db", "trip")

    settle(engine, Succeeded(running.token))

    assert take(engine, 5) == ()


def test_a_breaker_may_be_tripped_before_anybody_used_it(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.turn("db", "trip")
    engine.enqueue([job(id="a", flow=GUARDED)])

    assert take(engine, 5) == ()


def test_a_changed_rule_leaves_it_as_it_stands(harness: Harness) -> None:
    engine = _opened(harness)

    engine.configure([BreakerRule("db", failures=50, within_s=1.0, cooldown_s=1.0)])

    assert take(engine, 5) == ()
    assert near(engine.claim("s", demand(5)).next_due_in_s, 30.0)


def _guarded(harness: Harness, rule: BreakerRule | None = RULE) -> Engine:
    """Return an engine with a session and twenty jobs of the breaker "db"."""
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.configure([] if rule is None else [rule])
    engine.enqueue([job(id=f"j{n:02}", flow=GUARDED) for n in range(20)])
    return engine


def _opened(harness: Harness) -> Engine:
    """Return the same after three failures."""
    engine = _guarded(harness)
    _fail(engine, 3)
    return engine


def _probing(harness: Harness) -> tuple[Engine, Claim]:
    """Return the same after the cooldown, and the probe."""
    engine = _opened(harness)
    harness.advance(30.1)
    return engine, take_one(engine)


def _fail(engine: Engine, count: int) -> None:
    """Let so many jobs fail for the breaker's reason."""
    claims = take(engine, count)
    assert len(claims) == count
    for claim in claims:
        settle(engine, Failed(claim.token, "error", blames=("db",)))


def _record(engine: Engine) -> SettingRecord:
    [record] = engine.settings("breaker")
    return record


def _phase(engine: Engine) -> Phase:
    record = _record(engine)
    return phase(record.gauge, now=record.now)
