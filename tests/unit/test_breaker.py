"""Breakers: when they open, who probes, and what a person may do."""

from hypothesis import given
from hypothesis import strategies as st

from cicely.core.breaker import BreakerRule, Phase, failed, opens_at, phase, succeeded, turned, was_probe
from cicely.core.limits import FRESH, NEVER, Gauge

NOW = 1_900_000_000.0
RULE = BreakerRule("db", failures=3, within_s=60.0, cooldown_s=30.0)
OPEN = Gauge(opened_at=NOW, shut_until=NOW + 30.0)
HALF_OPEN_AT = NOW + 31.0


def after(*failures_at: float) -> Gauge:
    gauge = FRESH
    for at in failures_at:
        gauge = failed(RULE, gauge, now=at)
    return gauge


@given(st.lists(st.floats(0.0, 1000.0), max_size=30))
def test_it_opens_as_soon_as_so_many_failures_fall_into_its_time(times: list[float]) -> None:
    gauge, seen = FRESH, []
    for at in sorted(times):
        seen.append(at)
        gauge = failed(RULE, gauge, now=NOW + at)
        recent = [one for one in seen if NOW + one > NOW + at - RULE.within_s]
        assert (phase(gauge, now=NOW + at) is Phase.OPEN) == (len(recent) >= RULE.failures)
        if phase(gauge, now=NOW + at) is Phase.OPEN:
            return


def test_a_closed_one_lets_pass_whatever_failed_so_far() -> None:
    gauge = after(NOW, NOW + 1)

    assert phase(gauge, now=NOW + 1) is Phase.CLOSED
    assert opens_at(gauge, now=NOW + 1, held=lambda _: 99) == NOW + 1


def test_an_open_one_says_when_it_lets_a_probe_pass() -> None:
    assert opens_at(after(NOW, NOW, NOW), now=NOW + 10, held=lambda _: 0) == NOW + 30


def test_failures_while_it_is_open_do_not_prolong_it() -> None:
    assert failed(RULE, OPEN, now=NOW + 20) == OPEN


def test_a_half_open_one_lets_a_job_pass_when_none_probes() -> None:
    assert phase(OPEN, now=HALF_OPEN_AT) is Phase.HALF_OPEN
    assert opens_at(OPEN, now=HALF_OPEN_AT, held=lambda _: 0) == HALF_OPEN_AT


def test_while_one_probes_only_its_end_can_tell() -> None:
    taken = [NOW + 5, NOW + 30.5]

    opens = opens_at(OPEN, now=HALF_OPEN_AT, held=lambda since: sum(at >= since for at in taken))

    assert opens == NEVER


def test_claims_from_before_are_no_probes() -> None:
    taken = [NOW + 5]

    opens = opens_at(OPEN, now=HALF_OPEN_AT, held=lambda since: sum(at >= since for at in taken))

    assert opens == HALF_OPEN_AT


def test_the_probes_success_closes_it() -> None:
    assert succeeded(OPEN, claimed_at=NOW + 30.5, now=HALF_OPEN_AT) == FRESH


def test_the_success_of_an_older_job_does_not() -> None:
    assert succeeded(OPEN, claimed_at=NOW - 5, now=HALF_OPEN_AT) == OPEN
    assert succeeded(OPEN, claimed_at=NOW - 5, now=NOW + 10) == OPEN


def test_successes_do_not_forgive_failures() -> None:
    gauge = after(NOW, NOW + 1)

    assert succeeded(gauge, claimed_at=NOW + 2, now=NOW + 3) == gauge


def test_the_probes_failure_opens_it_again() -> None:
    gauge = failed(RULE, OPEN, now=HALF_OPEN_AT)

    again_at = HALF_OPEN_AT + 30
    assert gauge == Gauge(opened_at=HALF_OPEN_AT, shut_until=again_at, probed_from=OPEN.shut_until)
    assert failed(RULE, gauge, now=again_at + 1).probed_from == OPEN.shut_until


def test_whoever_passes_one_that_is_not_closed_is_a_probe() -> None:
    assert was_probe(OPEN, claimed_at=NOW + 30.5)
    assert not was_probe(OPEN, claimed_at=NOW + 5)
    assert not was_probe(after(NOW), claimed_at=NOW + 5)
    assert not was_probe(FRESH, claimed_at=NOW + 5)


def test_a_probe_stays_one_when_its_breaker_has_opened_again() -> None:
    failed_again = failed(RULE, OPEN, now=HALF_OPEN_AT)

    assert was_probe(failed_again, claimed_at=NOW + 30.5)
    assert was_probe(turned(failed_again, "trip", now=NOW + 40), claimed_at=NOW + 30.5)
    assert not was_probe(failed_again, claimed_at=NOW + 5)


def test_who_runs_when_a_person_trips_it_is_no_probe() -> None:
    assert not was_probe(turned(after(NOW), "trip", now=NOW + 5), claimed_at=NOW + 3)
    assert not was_probe(turned(OPEN, "trip", now=NOW + 5), claimed_at=NOW - 3)


def test_a_tripped_one_stays_open_for_ever() -> None:
    gauge = turned(FRESH, "trip", now=NOW)

    assert phase(gauge, now=NOW + 1e9) is Phase.OPEN
    assert opens_at(gauge, now=NOW, held=lambda _: 0) == NEVER
    assert succeeded(gauge, claimed_at=NOW + 5, now=NOW + 9) == gauge


def test_tripping_it_again_changes_nothing() -> None:
    gauge = turned(FRESH, "trip", now=NOW)

    assert turned(gauge, "trip", now=NOW + 5) is gauge


def test_tripping_one_that_failures_opened_keeps_it_open() -> None:
    tripped = turned(OPEN, "trip", now=NOW + 5)

    assert tripped == Gauge(opened_at=NOW + 5, shut_until=NEVER, probed_from=OPEN.shut_until)


def test_a_reset_one_is_as_new() -> None:
    assert turned(OPEN, "reset", now=NOW) == turned(after(NOW), "reset", now=NOW) == FRESH
