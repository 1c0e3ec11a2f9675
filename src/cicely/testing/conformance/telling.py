"""Events tell when breakers open and close, and when limits, breakers and lanes are set by somebody."""

from __future__ import annotations

from cicely.core.breaker import BreakerRule
from cicely.core.event import EventFilter
from cicely.core.flow import Flow
from cicely.core.lanes import LaneWeight
from cicely.core.limits import Limit
from cicely.core.outcome import Failed, Succeeded
from cicely.engines.contract import Engine, Note
from cicely.testing.conformance.bench import job, session, settle, take_one
from cicely.testing.conformance.harness import Capability, Harness

REQUIRES = frozenset({Capability.EVENTS, Capability.FLOW})

RULE = BreakerRule("db", failures=2, within_s=60.0, cooldown_s=30.0)


def told(engine: Engine, *kinds: str) -> list[tuple[str, str, str]]:
    """Return kind, name and reason of the events of these kinds, oldest first."""
    page = engine.history(EventFilter(kinds=kinds or ("breaker", "limit", "lane")))
    return [(event.kind, event.name, event.reason) for event in page.events]


def guarded(harness: Harness) -> Engine:
    """Return an engine with jobs that a breaker guards."""
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.configure([RULE])
    engine.enqueue([job(id=f"j{n}", flow=Flow(breakers=("db",))) for n in range(9)])
    return engine


def fail(engine: Engine, count: int) -> None:
    for _ in range(count):
        settle(engine, Failed(take_one(engine).token, "error", blames=("db",)))


def turns(engine: Engine) -> list[str]:
    """Return what was told of the breaker's opening and closing."""
    return [kind for kind, _, _ in told(engine, "breaker.opened", "breaker.closed")]


def test_a_breaker_that_opens_is_told_once(harness: Harness) -> None:
    engine = guarded(harness)
    fail(engine, 1)
    before = told(engine, "breaker.opened")

    fail(engine, 1)

    assert before == []
    assert told(engine, "breaker.opened") == [("breaker.opened", "db", "")]


def test_the_end_of_a_probe_closes_it_or_opens_it_again(harness: Harness) -> None:
    engine = guarded(harness)
    fail(engine, 2)
    harness.advance(31)
    fail(engine, 1)
    harness.advance(31)

    settle(engine, Succeeded(take_one(engine).token))

    assert turns(engine) == ["breaker.opened", "breaker.opened", "breaker.closed"]


def test_a_person_who_trips_and_resets_it_is_told(harness: Harness) -> None:
    engine = guarded(harness)
    for move in ("trip", "trip", "reset", "reset"):
        engine.turn("db", move)

    assert told(engine, "breaker.opened", "breaker.closed") == [
        ("breaker.opened", "db", "tripped"),
        ("breaker.closed", "db", ""),
    ]


def test_settings_that_change_are_told_and_notes_are_not(harness: Harness) -> None:
    engine = harness.engine()
    limit, lane = Limit(key="api", concurrency=2), LaneWeight("main", "eu", 2.0)
    engine.configure([limit, RULE, lane, Note("traffic", b"90")])
    engine.configure([limit, RULE, lane, Note("traffic", b"0")])
    engine.configure([Limit(key="api", concurrency=3)])
    for kind, name in (
        ("limit", "api"),
        ("limit", "api"),
        ("breaker", "db"),
        ("lane", "main/eu"),
        ("note", "traffic"),
    ):
        engine.unset(kind, name)

    found = [(kind, name) for kind, name, _ in told(engine)]

    assert sorted(found[:3]) == [("breaker.set", "db"), ("lane.set", "main/eu"), ("limit.set", "api")]
    assert found[3:] == [
        ("limit.set", "api"),
        ("limit.removed", "api"),
        ("breaker.removed", "db"),
        ("lane.removed", "main/eu"),
    ]
