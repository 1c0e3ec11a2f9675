"""A job that a half-open breaker lets through as a probe pays nothing where that fails, within bounds."""

from __future__ import annotations

from cicely.core.breaker import BreakerRule
from cicely.core.flow import Flow
from cicely.core.job import Claim, Tallies
from cicely.core.outcome import MAX_FREE_PROBES, Crashed, ErrorRecord, Failed, Succeeded
from cicely.core.states import State
from cicely.engines.contract import Engine, Verdict
from cicely.testing.conformance.bench import (
    ids,
    job,
    look,
    session,
    settle,
    state_of,
    sweep,
    take,
    take_one,
)
from cicely.testing.conformance.harness import Capability, Harness

REQUIRES = frozenset({Capability.FLOW})

GUARDED = Flow(breakers=("db",))
RULE = BreakerRule("db", failures=1, within_s=60.0, cooldown_s=30.0)
#: Longer than the cooldown.
LATER_S = 30.1
ERROR = ErrorRecord("ConnectionError", "refused").encoded()


def test_a_probe_that_fails_costs_its_job_nothing(harness: Harness) -> None:
    engine, probe = _probing(harness)

    _fail(engine, probe)

    assert probe.job_id == "a"
    assert look(engine).tallies == Tallies()
    assert not look(engine).state.is_final


def test_the_attempt_of_such_a_probe_is_recorded_with_its_error(harness: Harness) -> None:
    engine, probe = _probing(harness)

    _fail(engine, probe)

    [attempt] = look(engine).attempts
    assert (attempt.reason, attempt.error) == ("probe", ERROR)
    assert look(engine).reason == "a probe of breaker db, which failed"
    assert look(engine).error == ERROR


def test_a_retry_that_would_follow_is_not_counted_or_waited_for(harness: Harness) -> None:
    engine, probe = _probing(harness)

    _fail(engine, probe, retry_in_s=5000.0)

    assert look(engine).tallies == Tallies()
    assert ids(_after_cooldown(harness, engine)) == ["a"]


def test_such_a_probe_opens_the_breaker_again_while_its_job_is_queued(harness: Harness) -> None:
    engine, probe = _probing(harness)

    _fail(engine, probe)

    sweep(engine)
    assert state_of(engine) is State.READY
    harness.advance(29)
    assert take(engine, 5) == ()
    harness.advance(1.1)
    assert ids(take(engine, 5)) == ["a"]


def test_another_job_of_the_breaker_probes_next(harness: Harness) -> None:
    engine, probe = _probing(harness, "b", "c")
    _fail(engine, probe)
    probed = [probe.job_id]

    for _ in range(5):
        [probe] = _after_cooldown(harness, engine)
        probed.append(probe.job_id)
        _fail(engine, probe)

    assert probed == ["a", "b", "c", "a", "b", "c"]


def test_a_job_that_is_the_cause_itself_pays_once_another_has_closed_the_breaker(harness: Harness) -> None:
    engine, probe = _probing(harness, "b")
    _fail(engine, probe)
    [other] = _after_cooldown(harness, engine)
    settle(engine, Succeeded(other.token))

    _fail(engine, take_one(engine))

    assert state_of(engine, "b") is State.SUCCEEDED
    assert (state_of(engine), look(engine).tallies.errors) == (State.FAILED, 1)


def test_after_so_many_in_a_row_a_job_that_is_alone_pays(harness: Harness) -> None:
    engine, probe = _probing(harness)
    for _ in range(MAX_FREE_PROBES):
        _fail(engine, probe)
        [probe] = _after_cooldown(harness, engine)
    assert look(engine).tallies == Tallies()

    _fail(engine, probe)

    assert (state_of(engine), look(engine).tallies.errors) == (State.FAILED, 1)


def test_probes_are_counted_anew_behind_any_other_attempt(harness: Harness) -> None:
    engine, probe = _probing(harness)
    _fail(engine, probe)
    [probe] = _after_cooldown(harness, engine)
    settle(engine, Crashed(probe.token, "killed by signal 9"))
    probe = take_one(engine)

    for _ in range(MAX_FREE_PROBES):
        _fail(engine, probe)
        [probe] = _after_cooldown(harness, engine)

    assert look(engine).tallies == Tallies(crashes=1)


def test_a_job_that_was_revived_probes_for_free_again(harness: Harness) -> None:
    engine, probe = _probing(harness)
    for _ in range(MAX_FREE_PROBES):
        _fail(engine, probe)
        [probe] = _after_cooldown(harness, engine)
    _fail(engine, probe)
    engine.steer("revive", ["a"])

    [probe] = _after_cooldown(harness, engine)
    _fail(engine, probe)

    assert look(engine).tallies == Tallies()


def test_a_probe_that_fails_for_another_reason_pays(harness: Harness) -> None:
    engine, probe = _probing(harness)

    settle(engine, Failed(probe.token, "error", ERROR))

    assert (state_of(engine), look(engine).tallies.errors) == (State.FAILED, 1)


def test_a_probe_that_fails_for_another_breakers_reason_pays(harness: Harness) -> None:
    engine, probe = _probing(harness, flow=Flow(breakers=("db", "mail")))

    settle(engine, Failed(probe.token, "error", ERROR, blames=("mail",)))

    assert (state_of(engine), look(engine).tallies.errors) == (State.FAILED, 1)


def test_a_job_from_before_that_fails_meanwhile_pays(harness: Harness) -> None:
    engine = _engine(harness)
    engine.enqueue([job(id=name, flow=GUARDED) for name in ("old", "first", "a")])
    old, first = take(engine, 2)
    _fail(engine, first)
    [probe] = _after_cooldown(harness, engine)

    _fail(engine, old)

    assert probe.job_id == "a"
    assert state_of(engine, "old") is State.FAILED


def test_a_probe_that_fails_behind_a_job_from_before_pays_nothing(harness: Harness) -> None:
    engine = _engine(harness)
    engine.enqueue([job(id=name, flow=GUARDED) for name in ("old", "first", "a")])
    old, first = take(engine, 2)
    _fail(engine, first)
    [probe] = _after_cooldown(harness, engine)
    harness.advance(1)
    _fail(engine, old)

    _fail(engine, probe)

    assert look(engine).tallies == Tallies()


def test_a_probe_that_fails_behind_a_person_who_trips_the_breaker_pays_nothing(harness: Harness) -> None:
    engine, probe = _probing(harness)
    engine.turn("db", "trip")

    _fail(engine, probe)

    assert look(engine).tallies == Tallies()


def test_a_probe_that_fails_behind_a_reset_pays(harness: Harness) -> None:
    engine, probe = _probing(harness)
    engine.turn("db", "reset")

    _fail(engine, probe)

    assert state_of(engine) is State.FAILED


def test_a_probe_that_was_asked_to_end_is_cancelled_though_it_fails(harness: Harness) -> None:
    engine, probe = _probing(harness)
    engine.steer("cancel", ["a"])

    _fail(engine, probe)

    assert state_of(engine) is State.CANCELLED


def test_the_failure_of_a_probe_may_be_told_again(harness: Harness) -> None:
    engine, probe = _probing(harness)
    outcome = Failed(probe.token, "error", ERROR, blames=("db",))

    assert settle(engine, outcome) is Verdict.ACCEPTED
    assert settle(engine, outcome) is Verdict.ALREADY
    assert len(look(engine).attempts) == 1


def _engine(harness: Harness) -> Engine:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.configure([RULE])
    return engine


def _probing(harness: Harness, *others: str, flow: Flow = GUARDED) -> tuple[Engine, Claim]:
    """Return an engine with the jobs "a" and `others`, of which the first probes the breaker "db"."""
    engine = _engine(harness)
    engine.enqueue([job(id="first", flow=GUARDED)])
    _fail(engine, take_one(engine))
    engine.enqueue([job(id=name, flow=flow) for name in ("a", *others)])
    [probe] = _after_cooldown(harness, engine)
    return engine, probe


def _after_cooldown(harness: Harness, engine: Engine) -> tuple[Claim, ...]:
    harness.advance(LATER_S)
    return take(engine, 5)


def _fail(engine: Engine, claim: Claim, *, retry_in_s: float | None = None) -> None:
    """Let a claim fail for the breaker's reason."""
    outcome = Failed(claim.token, "error", ERROR, retry_in_s, blames=("db",))
    assert settle(engine, outcome) is Verdict.ACCEPTED
