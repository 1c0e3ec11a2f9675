"""Settings are kept by kind and name, for all connections; limits and breakers show where they stand."""

from __future__ import annotations

from cicely.core.breaker import BreakerRule
from cicely.core.flow import Flow
from cicely.core.lanes import LaneWeight
from cicely.core.limits import NEVER, Gauge, Limit, Rate
from cicely.core.outcome import Deferred, Failed, Succeeded
from cicely.engines.contract import Engine, Note, Setting
from cicely.testing.conformance.bench import (
    TICK_S,
    job,
    near,
    session,
    settle,
    start,
    sweep,
    take,
    take_one,
    using,
)
from cicely.testing.conformance.harness import Capability, Harness

REQUIRES = frozenset({Capability.FLOW})

WHOLE = Limit(
    key="anthropic/opus",
    concurrency=20,
    rate=Rate(500, 60.0),
    costs={"tokens": Rate(200_000, 60.0), "usd": Rate(0.5, 86_400.0)},
    backlog=1000,
)


def test_a_limit_comes_back_as_it_was_set(harness: Harness) -> None:
    harness.engine().configure([WHOLE])

    assert _kept(harness.engine(), "limit") == [WHOLE]


def test_a_breaker_comes_back_as_it_was_set(harness: Harness) -> None:
    rule = BreakerRule("db", failures=7, within_s=0.5, cooldown_s=1e6)

    harness.engine().configure([rule])

    assert _kept(harness.engine(), "breaker") == [rule]


def test_a_weight_comes_back_as_it_was_set(harness: Harness) -> None:
    harness.engine().configure([LaneWeight("main", "tenant 1", 2.5)])

    assert _kept(harness.engine(), "lane") == [LaneWeight("main", "tenant 1", 2.5)]


def test_a_note_comes_back_as_it_was_set(harness: Harness) -> None:
    note = Note("fleet", bytes(range(256)))

    harness.engine().configure([note])

    assert _kept(harness.engine(), "note") == [note]


def test_kinds_are_kept_apart(harness: Harness) -> None:
    engine = harness.engine()
    both: list[Setting] = [Limit(key="x", concurrency=1), BreakerRule("x"), Note("x", b"")]
    engine.configure([*both, LaneWeight("x", "y")])

    assert [_kept(engine, kind) for kind in ("limit", "breaker", "note")] == [[one] for one in both]
    assert _kept(engine, "lane") == [LaneWeight("x", "y")]


def test_settings_are_listed_by_name(harness: Harness) -> None:
    engine = harness.engine()
    engine.configure([Limit(key=key, concurrency=1) for key in ("b", "ä", "a/b", "a", "a:b{c}", "B")])

    kept = [limit.key for limit in _kept(engine, "limit") if isinstance(limit, Limit)]

    assert kept == ["B", "a", "a/b", "a:b{c}", "b", "ä"]


def test_setting_again_replaces(harness: Harness) -> None:
    engine = harness.engine()
    engine.configure([WHOLE])

    engine.configure([Limit(key=WHOLE.key, concurrency=1)])

    assert _kept(engine, "limit") == [Limit(key=WHOLE.key, concurrency=1)]


def test_of_one_call_the_last_of_a_name_stays(harness: Harness) -> None:
    engine = harness.engine()

    engine.configure([Limit(key="x", concurrency=1), Limit(key="x", concurrency=2)])

    assert _kept(engine, "limit") == [Limit(key="x", concurrency=2)]


def test_setting_nothing_changes_nothing(harness: Harness) -> None:
    engine = harness.engine()
    engine.configure([WHOLE])

    engine.configure([])

    assert _kept(engine, "limit") == [WHOLE]


def test_what_is_unset_is_gone(harness: Harness) -> None:
    engine = harness.engine()
    engine.configure([WHOLE, BreakerRule("db"), LaneWeight("main", "a"), Note("n", b"")])

    was_known = [
        engine.unset("limit", WHOLE.key),
        engine.unset("breaker", "db"),
        engine.unset("lane", "main/a"),
        engine.unset("note", "n"),
    ]

    assert was_known == [True] * 4
    assert [_kept(engine, kind) for kind in ("limit", "breaker", "lane", "note")] == [[]] * 4


def test_unsetting_what_is_unknown_is_no_error(harness: Harness) -> None:
    engine = harness.engine()
    engine.configure([BreakerRule("x")])

    assert not engine.unset("limit", "x")
    assert _kept(engine, "breaker") == [BreakerRule("x")]


# --- where they stand ---------------------------------------------------------------------
def test_a_limit_that_nobody_used_stands_at_nothing(harness: Harness) -> None:
    engine = harness.engine()
    engine.configure([WHOLE])

    [record] = engine.settings("limit")

    assert (record.gauge, record.held) == (Gauge(), 0)


def test_a_limit_shows_how_many_hold_it(harness: Harness) -> None:
    engine = _using(harness, Limit(key="api", concurrency=5), jobs=3)
    claim = take_one(engine)
    take_one(engine)

    assert [record.held for record in engine.settings("limit")] == [2]
    settle(engine, Succeeded(claim.token))
    assert [record.held for record in engine.settings("limit")] == [1]


def test_a_breaker_shows_how_many_run_behind_it(harness: Harness) -> None:
    engine = harness.engine()
    engine.configure([BreakerRule("db")])
    start(engine, job(id="a", flow=Flow(breakers=("db",))))

    assert [record.held for record in engine.settings("breaker")] == [1]


def test_a_limit_shows_when_its_meters_are_full_again(harness: Harness) -> None:
    limit = Limit(key="api", rate=Rate(10, 10.0), costs={"tokens": Rate(6000, 60.0)})
    engine = _using(harness, limit, jobs=1, tokens=97.0)
    take_one(engine)

    [record] = engine.settings("limit")

    assert {meter: round(at - record.now, 2) for meter, at in record.gauge.full_at.items()} == {
        "": 1.0,
        "tokens": 1.0,
    }


def test_what_a_limit_stands_at_is_told_by_the_engines_clock(harness: Harness) -> None:
    engine = harness.engine()
    engine.configure([WHOLE])

    [record] = engine.settings("limit")

    assert abs(record.now - sweep(engine).now) <= TICK_S


def test_a_breaker_shows_its_failures(harness: Harness) -> None:
    engine = harness.engine()
    engine.configure([BreakerRule("db")])
    claim = start(engine, job(id="a", flow=Flow(breakers=("db",))))
    settle(engine, Failed(claim.token, "error", blames=("db",)))

    [record] = engine.settings("breaker")

    assert len(record.gauge.failures) == 1
    assert near(record.gauge.failures[0], record.now)


def test_an_open_breaker_shows_since_and_until_when(harness: Harness) -> None:
    engine = harness.engine()
    engine.configure([BreakerRule("db", failures=1, cooldown_s=30.0)])
    claim = start(engine, job(id="a", flow=Flow(breakers=("db",))))
    settle(engine, Failed(claim.token, "error", blames=("db",)))
    harness.advance(10)

    [record] = engine.settings("breaker")

    assert near(record.gauge.opened_at, record.now - 10)
    assert near(record.gauge.shut_until, record.now + 20)


def test_a_tripped_breaker_shows_that_it_stays_open(harness: Harness) -> None:
    engine = harness.engine()
    engine.turn("db", "trip")

    [record] = engine.settings("breaker")

    assert record.setting == BreakerRule("db")
    assert record.gauge.shut_until == NEVER


def test_a_breaker_that_was_reset_and_never_configured_is_shown_no_more(harness: Harness) -> None:
    engine = harness.engine()
    engine.turn("db", "trip")

    engine.turn("db", "reset")

    assert engine.settings("breaker") == []


def test_setting_again_keeps_where_a_limit_stands(harness: Harness) -> None:
    engine = _using(harness, Limit(key="api", rate=Rate(10, 10.0)), jobs=2)
    take_one(engine)

    engine.configure([Limit(key="api", rate=Rate(20, 20.0))])

    assert take(engine) == ()
    assert [record.held for record in engine.settings("limit")] == [1]


def test_a_refused_key_that_is_unset_still_shows_where_it_stands(harness: Harness) -> None:
    engine = _using(harness, Limit(key="api", concurrency=5), jobs=1)
    settle(engine, Deferred(take_one(engine).token, 12.0, slows=("api",)))

    assert engine.unset("limit", "api")

    [record] = engine.settings("limit")
    assert record.setting == Limit(key="api")
    assert near(record.gauge.shut_until, record.now + 12.0)


def test_notes_and_weights_hold_nothing(harness: Harness) -> None:
    engine = harness.engine()
    engine.configure([Note("n", b"x"), LaneWeight("main", "a")])

    records = engine.settings("note") + engine.settings("lane")

    assert [(record.gauge, record.held) for record in records] == [(Gauge(), 0)] * 2


def _kept(engine: Engine, kind: str) -> list[Setting]:
    return [record.setting for record in engine.settings(kind)]


def _using(harness: Harness, limit: Limit, *, jobs: int, **cost: float) -> Engine:
    """Return an engine with a session, a limit, and so many jobs that use it."""
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.configure([limit])
    engine.enqueue([job(id=f"j{n}", flow=using(limit.key, **cost)) for n in range(jobs)])
    return engine
