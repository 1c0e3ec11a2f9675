"""A refused call slows all jobs of its key: none passes for a while, then fewer at once."""

from __future__ import annotations

from cicely.core.limits import Limit
from cicely.core.outcome import Deferred, Succeeded
from cicely.engines.contract import SettingRecord
from cicely.testing.conformance.bench import demand, ids, job, near, session, settle, sweep, take, using
from cicely.testing.conformance.harness import Capability, Harness

REQUIRES = frozenset({Capability.FLOW})


def test_nobody_passes_a_refused_key_before_its_time(harness: Harness) -> None:
    calls = _Calls(harness, running=1, waiting=2)

    calls.refuse("j0", 12.0)

    assert calls.begin() == 0
    harness.advance(11.9)
    assert calls.begin() == 0
    harness.advance(0.2)
    assert calls.begin() == 1


def test_a_claim_and_a_sweep_say_when_a_refused_key_opens(harness: Harness) -> None:
    calls = _Calls(harness, running=1, waiting=2)

    calls.refuse("j0", 12.0)

    assert near(calls.engine.claim("s", demand(5)).next_due_in_s, 12.0)
    assert near(sweep(calls.engine).next_due_in_s, 12.0)


def test_a_refusal_costs_no_attempt(harness: Harness) -> None:
    calls = _Calls(harness, running=1, waiting=0)

    calls.refuse("j0", 12.0)
    harness.advance(12.1)
    [claim] = take(calls.engine)

    assert claim.attempt == 1
    assert claim.fence == 2


def test_a_job_may_slow_another_key_than_its_own(harness: Harness) -> None:
    calls = _Calls(harness, running=1, waiting=1)
    calls.engine.enqueue([job(id="other", flow=using("else"))])

    settle(calls.engine, Deferred(calls.tokens["j0"], 12.0, slows=("else",)))

    assert ids(take(calls.engine, 5)) == ["j1"]


def test_a_deferral_that_names_no_key_slows_nobody(harness: Harness) -> None:
    calls = _Calls(harness, running=1, waiting=2)

    settle(calls.engine, Deferred(calls.tokens["j0"], 12.0))

    assert calls.begin() == 2


def test_after_a_refusal_fewer_run_at_once_than_did(harness: Harness) -> None:
    calls = _Calls(harness, running=10, waiting=30)

    calls.refuse("j0", 2.0)
    harness.advance(2.1)

    assert calls.begin() == 0
    calls.end_all()
    assert calls.begin() == 8


def test_refusals_of_the_same_moment_cut_once(harness: Harness) -> None:
    calls = _Calls(harness, running=10, waiting=30)

    for name in ("j0", "j1", "j2"):
        calls.refuse(name, 2.0)
    harness.advance(2.1)
    calls.end_all()

    assert calls.begin() == 8


def test_the_longest_of_several_refusals_counts(harness: Harness) -> None:
    calls = _Calls(harness, running=2, waiting=3)

    calls.refuse("j0", 20.0)
    calls.refuse("j1", 5.0)
    harness.advance(19.9)

    assert calls.begin() == 0


def test_refusals_that_go_on_cut_again(harness: Harness) -> None:
    calls = _Calls(harness, running=10, waiting=60)
    calls.refuse("j0", 1.0)
    harness.advance(1.1)
    calls.end_all()
    calls.begin()
    harness.advance(15.0)

    calls.refuse(next(iter(calls.tokens)), 1.0)
    harness.advance(1.1)
    calls.end_all()

    assert calls.begin() == 6


def test_there_is_always_room_for_one(harness: Harness) -> None:
    calls = _Calls(harness, running=1, waiting=5)
    for _ in range(3):
        calls.refuse(next(iter(calls.tokens)), 1.0)
        harness.advance(1.1)
        assert calls.begin() == 1
        harness.advance(15.0)


def test_what_was_cut_grows_back(harness: Harness) -> None:
    calls = _Calls(harness, running=10, waiting=90)
    calls.refuse("j0", 1.0)
    calls.end_all()
    harness.advance(1.0 + 15.1)

    assert calls.begin() == 9
    harness.advance(15.0)
    assert calls.begin() == 1


def test_long_after_the_refusals_only_the_limit_counts(harness: Harness) -> None:
    calls = _Calls(harness, running=10, waiting=90)
    calls.refuse("j0", 1.0)
    calls.end_all()
    harness.advance(1000.0)

    assert calls.begin() == 91


def test_what_grows_back_stays_within_the_limit(harness: Harness) -> None:
    calls = _Calls(harness, running=10, waiting=90)
    calls.engine.configure([Limit(key="api", concurrency=5)])
    calls.refuse("j0", 1.0)
    calls.end_all()
    harness.advance(1000.0)

    assert calls.begin() == 5


def test_of_a_limit_that_is_lower_than_what_runs_the_limit_is_cut(harness: Harness) -> None:
    calls = _Calls(harness, running=10, waiting=90)
    calls.engine.configure([Limit(key="api", concurrency=5)])
    calls.refuse("j0", 1.0)
    calls.end_all()
    harness.advance(1.1)

    assert calls.begin() == 4


def test_a_refused_key_is_shown_though_nobody_configured_it(harness: Harness) -> None:
    calls = _Calls(harness, running=2, waiting=0)

    calls.refuse("j0", 12.0)

    record = calls.record()
    assert record.setting == Limit(key="api")
    assert record.held == 1
    assert near(record.gauge.shut_until - record.now, 12.0)


def test_a_key_that_was_only_used_is_not_shown(harness: Harness) -> None:
    calls = _Calls(harness, running=2, waiting=0)

    assert calls.engine.settings("limit") == []


def test_setting_a_limit_keeps_its_key_shut(harness: Harness) -> None:
    calls = _Calls(harness, running=1, waiting=2)
    calls.refuse("j0", 12.0)

    calls.engine.configure([Limit(key="api", concurrency=5)])

    assert calls.begin() == 0
    assert near(calls.engine.claim("s", demand(5)).next_due_in_s, 12.0)


class _Calls:
    """Jobs of the key "api", of which the session "s" runs some."""

    def __init__(self, harness: Harness, *, running: int, waiting: int) -> None:
        self.engine = harness.engine()
        self.engine.join(session(id="s"))
        self.engine.enqueue([job(id=f"j{n}", flow=using("api")) for n in range(running + waiting)])
        self.tokens = {claim.job_id: claim.token for claim in take(self.engine, running)}
        assert len(self.tokens) == running

    def begin(self) -> int:
        """Claim all that may pass, and return how many did."""
        claims = take(self.engine, 100)
        self.tokens.update({claim.job_id: claim.token for claim in claims})
        return len(claims)

    def refuse(self, name: str, retry_after_s: float) -> None:
        """Let a running job end with a refusal."""
        settle(self.engine, Deferred(self.tokens.pop(name), retry_after_s, "refused", slows=("api",)))

    def end_all(self) -> None:
        """Let all that runs succeed."""
        self.engine.settle("s", [Succeeded(token) for token in self.tokens.values()])
        self.tokens.clear()

    def record(self) -> SettingRecord:
        """Return where the key stands."""
        [record] = self.engine.settings("limit")
        return record
