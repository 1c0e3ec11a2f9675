"""Schedules: kept under their names, shown when they are due, and moved on by whoever is first."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import msgspec

from cicely.core.job import Filter
from cicely.core.schedule import FROM_NOW, CatchUp, Plan, encode, tick_id
from cicely.core.states import State
from cicely.core.when import every
from cicely.engines.contract import Engine, Schedule
from cicely.testing.conformance.bench import (
    ids,
    job,
    look,
    near,
    session,
    start,
    state_of,
    sweep,
    take,
)
from cicely.testing.conformance.harness import Harness
from cicely.upkeep.schedules import Ticker, pause, resume

FAR = 86_400.0 * 365 * 100


schedule = partial(Schedule, name="s", spec=b"\x00spec\xff", next_at=FROM_NOW)


def names(found: Iterable[Schedule]) -> list[str]:
    return [one.name for one in found]


# --- kept under their names ----------------------------------------------------------------------
def test_a_schedule_comes_back_as_it_was_put(harness: Harness) -> None:
    engine = harness.engine()
    whole = schedule(
        name="nightly", spec=bytes(range(256)), next_at=1_795_237_200.25, last_at=1_795_233_600.001
    )

    engine.put_schedule(whole)

    assert harness.engine().schedules() == [whole]


def test_schedules_are_listed_by_name(harness: Harness) -> None:
    engine = harness.engine()
    for name in ("b", "c", "a", "ä"):
        engine.put_schedule(schedule(name=name))

    assert names(engine.schedules()) == ["a", "b", "c", "ä"]


def test_putting_a_schedule_again_replaces_it(harness: Harness) -> None:
    engine = harness.engine()
    engine.put_schedule(schedule(next_at=FAR, last_at=5.0, paused=True))
    later = schedule(spec=b"another")

    engine.put_schedule(later)

    assert engine.schedules() == [later]


def test_one_that_never_ticks_again_is_kept(harness: Harness) -> None:
    engine = harness.engine()
    engine.put_schedule(schedule(next_at=None, last_at=5.0))

    assert engine.schedules() == [schedule(next_at=None, last_at=5.0)]
    assert sweep(engine).due == ()


def test_a_dropped_schedule_is_gone(harness: Harness) -> None:
    engine = harness.engine()
    engine.put_schedule(schedule(name="a"))
    engine.put_schedule(schedule(name="b"))

    assert engine.drop_schedule(name="a")
    assert not engine.drop_schedule(name="a")

    assert names(engine.schedules()) == ["b"]
    assert names(sweep(engine).due) == ["b"]


def test_there_are_none_at_first(harness: Harness) -> None:
    engine = harness.engine()

    assert engine.schedules() == []
    assert sweep(engine).due == ()


# --- due -----------------------------------------------------------------------------------------
def test_a_sweep_shows_what_is_due_as_it_is_stored_and_tells_the_engines_time(harness: Harness) -> None:
    engine = harness.engine()
    now = sweep(engine).now
    due = schedule(name="due", next_at=round(now + 5), last_at=1.5)
    engine.put_schedule(due)
    engine.put_schedule(schedule(name="later", next_at=round(now + 100)))

    assert sweep(engine).due == ()
    harness.advance(7)
    swept = sweep(engine)

    assert swept.due == (due,)
    assert swept.now >= now + 7


def test_a_paused_schedule_is_not_due(harness: Harness) -> None:
    engine = harness.engine()
    engine.put_schedule(schedule(paused=True))

    swept = sweep(engine)

    assert swept.due == ()
    assert swept.next_due_in_s is None


def test_a_sweep_does_not_move_a_schedule_on(harness: Harness) -> None:
    engine = harness.engine()
    engine.put_schedule(schedule())

    sweep(engine)

    assert sweep(engine).due == (schedule(),)


def test_a_sweep_shows_a_batch_of_schedules_those_due_longest_first(harness: Harness) -> None:
    engine = harness.engine()
    for number, name in enumerate(("c", "a", "d", "b")):
        engine.put_schedule(schedule(name=name, next_at=10.0 + number))

    assert names(engine.sweep(2).due) == ["c", "a"]


def test_a_sweep_says_when_the_next_schedule_is_due(harness: Harness) -> None:
    engine = harness.engine()
    now = sweep(engine).now
    engine.put_schedule(schedule(name="far", next_at=now + 500))
    engine.put_schedule(schedule(name="near", next_at=now + 50))
    engine.put_schedule(schedule(name="paused", next_at=now + 10, paused=True))

    left_s = sweep(engine).next_due_in_s

    assert left_s is not None
    assert 45 < left_s <= 50.01


def test_jobs_and_schedules_share_the_next_instant(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id="a", delay_s=20)])
    engine.put_schedule(schedule(next_at=sweep(engine).now + 50))

    left_s = sweep(engine).next_due_in_s

    assert left_s is not None
    assert 15 < left_s <= 20.01


# --- ticks ---------------------------------------------------------------------------------------
def test_a_tick_moves_a_schedule_on_and_enqueues_its_jobs(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    seen = schedule()
    engine.put_schedule(seen)
    then = schedule(next_at=FAR, last_at=1.25, spec=b"counted")

    assert engine.tick(seen, then, [job(id="a"), job(id="b", delay_s=60)])

    assert engine.schedules() == [then]
    assert sweep(engine).due == ()
    assert ids(take(engine, 5)) == ["a"]
    assert state_of(engine, "b") is State.SCHEDULED


def test_a_tick_of_what_is_stored_no_longer_does_nothing(harness: Harness) -> None:
    engine = harness.engine()
    seen, then = schedule(), schedule(next_at=FAR)
    engine.put_schedule(seen)
    assert engine.tick(seen, then, [job(id="a")])

    assert not engine.tick(seen, schedule(next_at=FAR + 1), [job(id="b")])

    assert engine.schedules() == [then]
    assert engine.get(["b"]) == [None]


def test_each_field_of_what_was_seen_counts(harness: Harness) -> None:
    engine = harness.engine()
    kept = schedule(next_at=100.5, last_at=50.25)
    engine.put_schedule(kept)

    for field, value in (
        ("spec", b"another"),
        ("next_at", 100.501),
        ("next_at", None),
        ("last_at", 50.251),
        ("last_at", None),
        ("paused", True),
        ("name", "t"),
    ):
        seen = msgspec.structs.replace(kept, **{field: value})
        assert not engine.tick(seen, schedule(next_at=FAR), [job(id="a")]), field

    assert engine.schedules() == [kept]
    assert engine.get(["a"]) == [None]


def test_a_dropped_schedule_cannot_be_ticked(harness: Harness) -> None:
    engine = harness.engine()
    engine.put_schedule(schedule())
    engine.drop_schedule(name="s")

    assert not engine.tick(schedule(), schedule(next_at=FAR), [job(id="a")])
    assert engine.get(["a"]) == [None]
    assert engine.schedules() == []


def test_a_tick_without_jobs_changes_the_schedule_alone(harness: Harness) -> None:
    engine = harness.engine()
    engine.put_schedule(schedule())

    assert engine.tick(schedule(), schedule(paused=True), [])

    assert engine.schedules() == [schedule(paused=True)]


def test_what_a_sweep_showed_can_be_ticked(harness: Harness) -> None:
    engine = harness.engine()
    now = sweep(engine).now
    engine.put_schedule(schedule(next_at=now + 1 / 3, last_at=now - 1 / 7))
    harness.advance(2)
    [seen] = sweep(engine).due

    assert engine.tick(seen, msgspec.structs.replace(seen, next_at=FAR, last_at=seen.next_at), [])


def test_a_job_whose_id_is_known_is_not_stored_again(harness: Harness) -> None:
    engine = harness.engine()
    start(engine, job(id="a", remember_s=1e6))
    engine.put_schedule(schedule())

    assert engine.tick(schedule(), schedule(next_at=FAR), [job(id="a"), job(id="b")])

    assert state_of(engine, "a") is State.RUNNING
    assert state_of(engine, "b") is State.READY


def test_a_job_whose_unique_key_a_live_one_holds_is_not_stored(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id="a", unique="key")])
    engine.put_schedule(schedule())

    assert engine.tick(schedule(), schedule(next_at=FAR), [job(id="b", unique="key"), job(id="c")])

    assert engine.get(["b"]) == [None]
    assert engine.schedules() == [schedule(next_at=FAR)]
    assert look(engine, "c").state is State.READY


def test_a_ticked_job_has_what_an_enqueued_one_has(harness: Harness) -> None:
    engine = harness.engine()
    new = job(id="a", body=b"body", priority=9, tags=("x",), expires_s=50.0, lane="l", options=b"o")
    engine.put_schedule(schedule())
    engine.tick(schedule(), schedule(next_at=FAR), [new])

    found = look(engine, "a")

    assert (found.body, found.priority, found.tags, found.lane, found.options) == (
        b"body",
        9,
        ("x",),
        "l",
        b"o",
    )
    assert near(found.expires_at, found.created_at + 50)


def test_a_hundred_jobs_fit_into_one_tick(harness: Harness) -> None:
    engine = harness.engine()
    engine.put_schedule(schedule())

    assert engine.tick(schedule(), schedule(next_at=FAR), [job(id=f"j{number}") for number in range(100)])

    assert all(found is not None for found in engine.get([f"j{number}" for number in range(100)]))


# --- carried out by workers -------------------------------------------------------------------------
def test_pausing_and_resuming_keep_the_ticks(harness: Harness) -> None:
    engine = harness.engine()
    put_plan(engine, interval="10s")
    keep(engine)
    before = engine.schedules()

    assert pause(engine, "s")
    assert engine.schedules() == [msgspec.structs.replace(before[0], paused=True)]
    assert resume(engine, "s")

    assert engine.schedules() == before
    assert not pause(engine, "nowhere")


def test_two_clusters_of_ten_schedulers_make_one_job_per_tick(harness: Harness) -> None:
    engines = [harness.engine() for _ in range(4)]
    engine = engines[0]
    put_plan(engine, interval="10s")
    began_at = keep(engine)
    for _ in range(3):
        harness.advance(11)
        # All of them look before the first of them acts.
        crowd = [(Ticker(one), sweep(one)) for one in engines * 5]
        assert all(ticker.tick(swept) for ticker, swept in crowd)
        keep(engine)

    now = sweep(engine).now
    expected = []
    tick = every("10s").after(began_at)
    while tick <= now:
        expected.append(tick_id("s", tick))
        tick = every("10s").after(tick)
    assert sorted(one.id for one in engine.find(Filter()).jobs) == expected


def put_plan(engine: Engine, *, interval: str) -> None:
    plan = Plan(when=every(interval), job=job(id=""), catch_up=CatchUp.ALL)
    engine.put_schedule(schedule(spec=encode(plan)))


def keep(engine: Engine) -> float:
    """Do a keeper's part until nothing is due; return the engine's time at the first look."""
    ticker = Ticker(engine)
    first = swept = sweep(engine)
    while ticker.tick(swept):
        swept = sweep(engine)
    return first.now
