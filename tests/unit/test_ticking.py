"""Schedules carried out: crowds of workers make one job per tick, whatever happens to some of them."""

from __future__ import annotations

import logging
import random
import threading

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cicely.core.job import Filter, Kind, NewJob
from cicely.core.outcome import Succeeded
from cicely.core.rollup import Word
from cicely.core.schedule import FROM_NOW, CatchUp, Overlap, Plan, decode, encode, tick_id
from cicely.core.when import Every, cron, every
from cicely.engines.contract import MARK, Ask, Demand, Schedule, Session
from cicely.engines.memory import MemoryEngine
from cicely.errors import EngineUnavailable
from cicely.upkeep.schedules import (
    Ticker,
    carry_out,
    declare,
    kept,
    overdue_ticks,
    pause,
    resume,
    run,
    stored,
)

BEGAN_AT = 1_793_500_000.0
TEMPLATE = NewJob(id="", task="work", kind=Kind.SYNC, queue="main", body=b"call")


class World:
    """A memory engine whose clock is set by hand."""

    def __init__(self):
        self.now = BEGAN_AT
        self.engine = MemoryEngine(now=lambda: self.now)

    def add(self, name="s", when=None, **given):
        plan = Plan(when=when or every("10s"), job=TEMPLATE, **given)
        self.engine.put_schedule(Schedule(name=name, spec=encode(plan), next_at=FROM_NOW))
        self.poll()

    def poll(self):
        ticker = Ticker(self.engine)
        while ticker.tick(self.engine.sweep(100)):
            pass

    def advance(self, seconds):
        self.now += seconds
        self.poll()

    def plan(self, name="s"):
        return decode(stored(self.engine, name).spec, name=name)

    def job_ids(self):
        return sorted(job.id for job in self.engine.find(Filter(), limit=10_000).jobs)

    def finish_all(self):
        self.engine.join(Session(id="child", worker="child", tasks=frozenset({"work"})))
        demand = Demand(b"%08d" % random.randrange(10**8), ("main",), (Ask((Kind.SYNC,), 100),))
        for claim in self.engine.claim("child", demand).claims:
            self.engine.settle("child", [Succeeded(claim.token)])


@pytest.fixture
def world():
    return World()


def ids(*ticks, name="s"):
    return [tick_id(name, BEGAN_AT + tick) for tick in ticks]


# --- ticks --------------------------------------------------------------------------------------
def test_each_tick_makes_one_job(world):
    world.add()

    world.advance(9.9)
    assert world.job_ids() == []
    world.advance(0.2)
    world.advance(10)
    assert world.job_ids() == ids(10, 20)


def test_a_paused_schedule_makes_no_jobs_and_its_policy_decides_when_it_goes_on(world):
    world.add("none", catch_up=CatchUp.SKIP, when=every("1h"))
    world.add("one", catch_up=CatchUp.ONE, when=every("1h"))
    world.add("each", catch_up=CatchUp.ALL, when=every("1h"))
    for name in ("none", "one", "each"):
        assert pause(world.engine, name)

    world.advance(3 * 3_600)
    assert world.job_ids() == []
    for name in ("none", "one", "each"):
        assert resume(world.engine, name)
    world.advance(0)

    made = [job_id.partition("@")[0] for job_id in world.job_ids()]
    assert made == ["each", "each", "each", "one"]


def test_a_paused_schedule_is_left_alone_whoever_says_that_it_is_due(world):
    world.add()
    pause(world.engine, "s")
    world.now += 60

    assert not carry_out(world.engine, stored(world.engine, "s"), world.now)
    assert world.job_ids() == []


def test_a_tick_while_the_job_before_has_not_ended_is_skipped_and_can_be_seen(world):
    world.add(overlap=Overlap.SKIP)
    world.advance(10)
    world.advance(10)
    world.advance(10)

    assert world.job_ids() == ids(10)
    assert (world.plan().skipped, world.plan().skipped_at) == (2, BEGAN_AT + 30)
    world.finish_all()
    world.advance(10)
    assert world.job_ids() == ids(10, 40)
    assert world.plan().skipped == 2


def test_a_job_asked_for_by_hand_counts_as_an_earlier_one(world):
    world.add(overlap=Overlap.SKIP)
    assert run(world.engine, "s", "s@by-hand").fresh

    world.advance(10)

    assert world.job_ids() == ["s@by-hand"]
    assert not run(world.engine, "s", "s@again").fresh
    assert run(world.engine, "nowhere", "x") is None


def test_ticks_missed_by_skip_are_told_of(world, caplog):
    world.add(catch_up=CatchUp.SKIP, when=every("1h"))

    with caplog.at_level(logging.WARNING):
        world.advance(2.5 * 3_600)

    assert world.job_ids() == []
    assert world.plan().missed_at == BEGAN_AT + 5_600
    assert "too late" in caplog.text


def test_a_schedule_that_cannot_be_read_stops_no_other_and_is_told_of_once(world, caplog):
    world.engine.put_schedule(Schedule(name="newer", spec=b"\x09...", next_at=FROM_NOW))
    lost_zone = Plan(when=cron("* * * * *"), job=TEMPLATE)
    lost_zone = msgspec.structs.replace(
        lost_zone, when=msgspec.structs.replace(lost_zone.when, tz="Mars/Base")
    )
    world.engine.put_schedule(Schedule(name="elsewhere", spec=encode(lost_zone), next_at=FROM_NOW))
    world.add()
    ticker = Ticker(world.engine)
    world.now += 10
    caplog.clear()

    with caplog.at_level(logging.WARNING):
        assert ticker.tick(world.engine.sweep(100))
        assert not ticker.tick(world.engine.sweep(100))

    assert world.job_ids() == ids(10)
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "schedule elsewhere is left to other workers",
        "schedule newer is left to other workers",
    ]


def test_a_look_deals_with_a_few_schedules_so_that_the_worker_can_beat_between(world):
    for number in range(35):
        world.add(f"s{number}")
    world.now += 10
    ticker = Ticker(world.engine)
    looks = 0
    while ticker.tick(world.engine.sweep(100)):
        looks += 1

    assert looks == 4
    assert len(world.job_ids()) == 35


# --- crowds and crashes -------------------------------------------------------------------------
class Crash(Exception):
    """A worker died here."""


class Flaky:
    """An engine whose `tick` may die before it is carried out, or lose its answer after."""

    def __init__(self, engine, ends):
        self._engine = engine
        self._ends = ends

    def __getattr__(self, verb):
        return getattr(self._engine, verb)

    def tick(self, seen, then, jobs, counts=()):
        end = next(self._ends, "answer")
        if end == "before":
            raise Crash
        answer = self._engine.tick(seen, then, jobs, counts)
        if end == "after":
            raise EngineUnavailable("the answer is lost")
        return answer


STEP = st.tuples(
    st.integers(0, 19),  # who: two clusters of ten
    st.floats(0, 45),  # how long after the step before it looks
    st.booleans(),  # whether it acts on what it saw before
    st.sampled_from(["answer", "answer", "answer", "before", "after"]),
)


@settings(max_examples=60)
@given(
    st.lists(STEP, min_size=5, max_size=80),
    st.sampled_from([every("10s"), every("1s"), cron("*/15 * * * * *", tz="Europe/Berlin")]),
    st.lists(st.floats(-5, 5), min_size=20, max_size=20),
)
def test_two_clusters_of_ten_with_skewed_clocks_make_exactly_one_job_per_tick(steps, when, skews):
    world = World()
    world.add(when=when, catch_up=CatchUp.ALL)
    furthest = world.now
    seen: dict[int, tuple] = {}
    for who, wait_s, is_stale, end in steps:
        world.now += wait_s
        swept = world.engine.sweep(100)
        if not (is_stale and who in seen):
            seen[who] = (swept.due, swept.now + skews[who])
        due, now = seen[who]
        furthest = max(furthest, now if due else 0)
        for schedule in due:
            try:
                carry_out(Flaky(world.engine, iter([end])), schedule, now)
            except (Crash, EngineUnavailable):
                break
    world.now += 10
    world.poll()

    expected = []
    tick = when.after(BEGAN_AT)
    last = stored(world.engine, "s").last_at
    while last is not None and tick <= last:
        expected.append(tick_id("s", tick))
        tick = when.after(tick)
    assert world.job_ids() == sorted(expected)
    assert last is None or last >= when.latest(when.after(BEGAN_AT), world.now)


def test_twenty_threads_make_exactly_one_job_per_tick(world):
    world.add(when=every("1s"), catch_up=CatchUp.ALL)
    world.now += 500.5

    def keep():
        ticker = Ticker(world.engine)
        while ticker.tick(world.engine.sweep(100)):
            pass

    threads = [threading.Thread(target=keep) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert world.job_ids() == sorted(ids(*range(1, 501)))


def test_a_tick_repeated_after_its_record_was_lost_makes_no_second_job(world):
    world.add()
    before = stored(world.engine, "s")
    world.advance(10)
    world.finish_all()

    world.engine.put_schedule(before)
    world.poll()

    assert world.job_ids() == ids(10)


# --- what is counted ----------------------------------------------------------------------------
def counted(world):
    """Return what was counted of ticks, by word."""
    cells = world.engine.rollups(0, 1 << 40).cells
    totals = {word: sum(c.count for c in cells if c.word is word and c.task == "s") for word in Word}
    return tuple(totals[word] for word in (Word.TICKS_DUE, Word.TICKS_MADE, Word.TICKS_SKIPPED))


def test_ticks_in_time_are_due_and_made(world):
    world.add()
    for _ in range(3):
        world.advance(10)

    assert counted(world) == (3, 3, 0)


@pytest.mark.parametrize(
    ("catch_up", "made"), [(CatchUp.ALL, 6), (CatchUp.ONE, 1), (CatchUp.SKIP, 1)], ids=str
)
def test_ticks_that_nobody_dealt_with_are_due_all_the_same(world, catch_up, made):
    world.add(catch_up=catch_up)

    world.advance(60)

    assert counted(world) == (6, made, 0)


def test_a_tick_without_a_job_of_its_own_is_counted_as_made_and_skipped(world):
    world.add(overlap=Overlap.SKIP)
    world.advance(10)
    world.advance(10)

    assert counted(world) == (2, 2, 1)


def test_ticks_that_nobody_deals_with_are_overdue_after_a_minute(world):
    world.add()

    assert overdue_ticks(world.engine, now=world.now + 60) == 0
    assert overdue_ticks(world.engine, now=world.now + 90) == 3


def test_paused_schedules_are_never_overdue(world):
    world.add()
    pause(world.engine, "s")

    assert overdue_ticks(world.engine, now=world.now + 900) == 0


def test_marks_are_no_schedules_of_people(world):
    world.engine.put_schedule(Schedule(name=f"{MARK}cursor", spec=b"?", next_at=None))
    world.add()

    assert [one.name for one in kept(world.engine)] == ["s"]
    assert overdue_ticks(world.engine, now=world.now) == 0


# --- declarations -------------------------------------------------------------------------------
def spec(when=None, **given):
    return encode(Plan(when=when or every("10s"), job=TEMPLATE, **given))


def test_a_declared_schedule_counts_from_the_first_look_of_a_worker(world):
    assert declare(world.engine, {"s": spec()}) == ["s"]
    world.advance(25)
    assert world.job_ids() == []

    world.advance(5)

    assert world.job_ids() == ids(30)


def test_declaring_the_same_again_changes_nothing(world):
    declare(world.engine, {"s": spec(overlap=Overlap.SKIP)})
    world.poll()
    world.advance(10)
    world.advance(10)
    before = stored(world.engine, "s")

    assert declare(world.engine, {"s": spec(overlap=Overlap.SKIP)}) == []
    assert stored(world.engine, "s") == before


def test_another_job_at_the_same_ticks_keeps_the_ticks_and_a_pause(world):
    declare(world.engine, {"s": spec()})
    world.poll()
    world.advance(10)
    pause(world.engine, "s")
    before = stored(world.engine, "s")

    assert declare(world.engine, {"s": spec(jitter_s=3.0)}) == ["s"]

    after = stored(world.engine, "s")
    assert (after.last_at, after.next_at, after.paused) == (before.last_at, before.next_at, True)
    assert world.plan().jitter_s == 3.0


def test_what_was_counted_outlives_a_change_of_the_code(world):
    declare(world.engine, {"s": spec(overlap=Overlap.SKIP)})
    world.poll()
    world.advance(10)
    world.advance(10)

    declare(world.engine, {"s": spec(overlap=Overlap.SKIP, jitter_s=1.0)})

    assert (world.plan().skipped, world.plan().skipped_at) == (1, BEGAN_AT + 20)


def test_another_rule_counts_from_now_and_makes_up_for_no_ticks_it_never_had(world):
    declare(world.engine, {"s": spec(every("1h"), catch_up=CatchUp.ALL)})
    world.poll()
    world.advance(3_600)
    made = world.job_ids()
    world.now += 1_800

    declare(world.engine, {"s": spec(every("1s"), catch_up=CatchUp.ALL)})
    world.poll()

    assert world.job_ids() == made
    assert stored(world.engine, "s").last_at is not None
    world.advance(2)
    assert len(world.job_ids()) == len(made) + 2


def test_what_vanished_from_the_code_stays(world):
    declare(world.engine, {"s": spec(), "t": spec()})
    declare(world.engine, {"s": spec()})

    assert [schedule.name for schedule in world.engine.schedules()] == ["s", "t"]


def test_a_spec_that_cannot_be_read_is_replaced_by_the_code(world):
    world.engine.put_schedule(Schedule(name="s", spec=b"\x09", next_at=5.0, last_at=4.0))

    assert declare(world.engine, {"s": spec()}) == ["s"]
    assert world.plan().when == Every(10_000)


def test_a_pause_holds_although_a_tick_comes_between(world):
    world.add()
    world.now += 10
    racing = world.engine.tick
    calls = []

    def tick(seen, then, jobs, counts=()):
        if not calls:
            calls.append(1)
            world.engine.tick = racing
            world.poll()
        return racing(seen, then, jobs, counts)

    world.engine.tick = tick

    assert pause(world.engine, "s")
    assert stored(world.engine, "s").paused
    assert world.job_ids() == ids(10)
