"""What stands between a job and its start can be seen: its queue, its lane, its valves, who holds what."""

from __future__ import annotations

from cicely.core.breaker import BreakerRule
from cicely.core.edge import Edge
from cicely.core.flow import BREAKER_PREFIX, Flow, Use
from cicely.core.limits import Limit
from cicely.core.outcome import Deferred, Succeeded
from cicely.core.resources import PATIENCE_S
from cicely.engines.contract import SEEN_HOLDERS, SEEN_PARENTS, Engine, Surroundings
from cicely.testing.conformance.bench import (
    QUEUE,
    TICK_S,
    ids,
    job,
    look,
    near,
    session,
    settle,
    succeed,
    sweep,
    take,
    take_one,
    using,
    wanting,
)
from cicely.testing.conformance.harness import Capability, Harness

REQUIRES = frozenset({Capability.FLOW})

BIG = wanting(gpu=2)
#: Longer than a job is passed over.
LONG_S = PATIENCE_S + 1.0


def test_nothing_is_known_of_an_unknown_job(harness: Harness) -> None:
    assert harness.engine().surroundings("a") is None


def test_nothing_is_known_of_what_is_left_of_a_swept_job(harness: Harness) -> None:
    engine = harness.engine()
    succeed(engine, job(id="a", keep_s=1.0, remember_s=1e6))
    harness.advance(100)
    sweep(engine)

    assert look(engine).swept
    assert engine.surroundings("a") is None


def test_the_job_is_shown_in_full(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id="a", body=b"body", lane="l", tags=("red",), flow=using("api"))])

    assert _around(engine).job == look(engine)


def test_it_is_shown_by_the_engines_clock(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id="a")])
    harness.advance(5)

    assert abs(_around(engine).now - sweep(engine).now) <= TICK_S
    assert near(_around(engine).now - look(engine).created_at, 5.0)


def test_of_a_plain_job_alone_there_is_nothing_more(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id="a")])

    around = _around(engine)

    assert around == Surroundings(job=look(engine), now=around.now, lanes=1)


def test_a_paused_queue_is_shown(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id="a"), job(id="b", queue="side")])
    engine.pause("main")

    assert _around(engine).is_paused
    assert not _around(engine, "b").is_paused


def test_an_unpublished_workflow_is_shown(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id="a", workflow="w", held=True)])

    assert _around(engine).is_held
    engine.publish("w")
    assert not _around(engine).is_held


def test_the_jobs_that_it_waits_for_are_shown(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id="p"), job(id="q"), job(id="a")], [Edge("p", "a"), Edge("q", "a")])
    assert set(_around(engine).parents) == {"p", "q"}

    engine.join(session(id="s"))
    settle(engine, Succeeded(take_one(engine).token))

    assert _around(engine).parents == ("q",)


def test_of_many_that_it_waits_for_some_are_shown(harness: Harness) -> None:
    engine = harness.engine()
    names = [f"p{n:02}" for n in range(25)]
    engine.enqueue([job(id=name) for name in [*names, "a"]], [Edge(name, "a") for name in names])

    assert len(set(_around(engine).parents) & set(names)) == SEEN_PARENTS


# --- its place ----------------------------------------------------------------------------
def test_the_jobs_before_it_in_its_lane_are_counted(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id=f"j{n}", lane="l") for n in range(5)])
    engine.enqueue([job(id="high", lane="l", priority=9), job(id="low", lane="l", priority=0)])
    engine.enqueue([job(id="side", queue="side", lane="l"), job(id="due", lane="l", delay_s=10)])

    assert [_around(engine, name).ahead for name in ("high", "j0", "j3", "low")] == [0, 1, 4, 6]


def test_jobs_of_other_lanes_are_not_before_it_but_lanes_are(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id=f"a{n}", lane="a") for n in range(5)])
    engine.enqueue([job(id=f"b{n}", lane="b") for n in range(5)])
    engine.enqueue([job(id="c", lane="c")])
    take(engine, 1)

    around = _around(engine, "a2")

    assert (around.ahead, around.lanes, around.lane_behind) == (1, 3, 2)


def test_jobs_that_run_or_ended_are_not_before_it(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id=f"j{n}") for n in range(4)])
    claim = take_one(engine)
    take_one(engine)
    settle(engine, Succeeded(claim.token))

    assert _around(engine, "j3").ahead == 1


def test_jobs_that_a_limit_holds_back_are_before_it_as_well(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.configure([Limit(key="api", concurrency=1)])
    engine.enqueue([job(id=f"j{n}", flow=using("api")) for n in range(4)])
    take(engine, 5)

    assert _around(engine, "j3").ahead == 2


# --- its valves ---------------------------------------------------------------------------
def test_its_valves_are_shown_in_order(harness: Harness) -> None:
    engine = harness.engine()
    engine.configure([Limit(key="disk", concurrency=3), BreakerRule("db", failures=9)])
    flow = Flow(uses=(Use("api"), Use("disk")), breakers=("db",))
    engine.enqueue([job(id="a", flow=flow)])

    around = _around(engine)

    assert [record.setting for record in around.valves] == [
        Limit(key="api"),
        BreakerRule("db", failures=9),
        Limit(key="disk", concurrency=3),
    ]
    assert around.holders == {"api": (), "breaker:db": (), "disk": ()}


def test_who_holds_a_limit_is_shown_oldest_first(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.join(session(id="t"))
    engine.enqueue([job(id=f"j{n}", flow=using("api")) for n in range(3)])
    take_one(engine, by="t")
    harness.advance(10)
    take_one(engine)

    around = _around(engine, "j2")

    assert [(one.job_id, one.session) for one in around.holders["api"]] == [("j0", "t"), ("j1", "s")]
    assert near(around.now - around.holders["api"][0].since, 10.0)
    assert [record.held for record in around.valves] == [2]


def test_who_acquired_of_a_limit_is_shown_as_well(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="runs"), job(id="a", priority=0, flow=using("api"))])
    claim = take_one(engine)
    harness.advance(10)
    engine.acquire("s", claim.token, b"request!", [Use("api")])

    around = _around(engine)

    assert [one.job_id for one in around.holders["api"]] == ["runs"]
    assert near(around.holders["api"][0].since, around.now)


def test_of_many_holders_some_are_shown_and_all_counted(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id=f"j{n:02}", flow=using("api")) for n in range(31)])
    take(engine, 30)

    around = _around(engine, "j30")

    assert len(around.holders["api"]) == SEEN_HOLDERS
    assert around.valves[0].held == 30


def test_where_its_valves_stand_is_shown(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a", flow=using("api")), job(id="b", flow=using("api"))])
    settle(engine, Deferred(take_one(engine).token, 12.0, slows=("api",)))
    engine.turn("db", "trip")

    around = _around(engine, "b")

    assert near(around.valves[0].gauge.shut_until, around.now + 12.0)


def test_who_runs_behind_a_breaker_is_shown(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id=name, flow=Flow(breakers=("db",))) for name in ("a", "b")])
    take_one(engine)

    assert [one.job_id for one in _around(engine, "b").holders[BREAKER_PREFIX + "db"]] == ["a"]


# --- who could run it ---------------------------------------------------------------------
def test_the_open_sessions_are_shown_with_what_they_offer(harness: Harness) -> None:
    engine = harness.engine()
    one = session(id="s", queues=(QUEUE,), offers={"gpu": {"0": 1.0}}, accepts={"model": ("opus", "haiku")})
    engine.join(one)
    engine.join(session(id="gone"))
    engine.retire("gone")
    engine.enqueue([job(id="a")])

    around = _around(engine)

    assert [record.session for record in around.sessions] == [one]
    assert list(around.sessions) == engine.sessions()


def test_who_uses_a_workers_resources_is_shown_by_session(harness: Harness) -> None:
    engine = harness.engine()
    offers = {"gpu": {"0": 1.0, "1": 1.0}}
    engine.join(session(id="s", queues=(QUEUE,), offers=offers))
    engine.join(session(id="t", queues=(QUEUE,), offers=offers))
    engine.enqueue([job(id=f"g{n}", flow=wanting(gpu=1)) for n in range(3)])
    engine.enqueue([job(id="plain", priority=9)])
    take(engine, 2)
    harness.advance(10)
    take(engine, 1, by="t")

    around = _around(engine, "g2")

    used = {name: [(one.job_id, one.units) for one in users] for name, users in around.taken.items()}
    assert used == {"s": [("g0", {"gpu": {"0": 1.0}})], "t": [("g1", {"gpu": {"1": 1.0}})]}
    assert near(around.now - around.taken["s"][0].since, 10.0)


# --- what is kept for another -------------------------------------------------------------
def test_a_worker_that_keeps_room_is_shown_with_the_job_for_which_it_does(harness: Harness) -> None:
    engine = _with_one_of_two_taken(harness)
    engine.enqueue([job(id="small", flow=wanting(gpu=1))])
    before = _around(engine, "small")

    harness.advance(LONG_S)

    [kept] = _around(engine, "small").kept
    assert before.kept == ()
    assert (kept.worker, kept.job_id, kept.wants) == ("boss", "big", (("gpu", 2.0),))
    assert near(before.now - kept.since, 0.0)
    assert take(engine) == ()


def test_the_job_for_which_room_is_kept_waits_for_no_other(harness: Harness) -> None:
    engine = _with_one_of_two_taken(harness)
    engine.enqueue([job(id="twin", flow=wanting(gpu=2))])
    harness.advance(LONG_S)

    assert _around(engine, "big").kept == ()
    assert _around(engine, "twin").kept == ()


def test_from_a_job_that_wants_something_else_nothing_is_kept(harness: Harness) -> None:
    engine = _with_one_of_two_taken(harness)
    engine.enqueue([job(id="disk", flow=wanting(disk=1)), job(id="plain")])
    harness.advance(LONG_S)

    assert _around(engine, "disk").kept == ()
    assert _around(engine, "plain").kept == ()


def test_from_a_job_that_is_not_ready_nothing_is_kept(harness: Harness) -> None:
    engine = _with_one_of_two_taken(harness)
    engine.enqueue([job(id="due", delay_s=1000, flow=wanting(gpu=1))])
    harness.advance(LONG_S)

    assert _around(engine, "due").kept == ()
    assert _around(engine, "runs").kept == ()


def test_nothing_is_shown_as_kept_once_the_job_for_which_it_was_is_gone(harness: Harness) -> None:
    engine = _with_one_of_two_taken(harness)
    engine.enqueue([job(id="small", flow=wanting(gpu=1))])
    harness.advance(LONG_S)
    assert _around(engine, "small").kept

    engine.steer("cancel", ["big"])

    assert _around(engine, "small").kept == ()
    assert ids(take(engine)) == ["small"]


def test_nothing_is_shown_as_kept_for_a_job_that_would_not_start_in_it(harness: Harness) -> None:
    engine = _with_one_of_two_taken(harness, big=Flow(uses=(Use("api"),), resources=(("gpu", 2.0),)))
    engine.enqueue([job(id="side", queue="side", flow=wanting(gpu=1)), job(id="small", flow=wanting(gpu=1))])
    harness.advance(LONG_S)
    assert _around(engine, "side").kept

    engine.pause(QUEUE)
    assert _around(engine, "side").kept == ()
    engine.resume(QUEUE)
    engine.configure([Limit(key="api", concurrency=1)])
    engine.enqueue([job(id="calls", priority=9, flow=using("api"))])
    assert ids(take(engine)) == ["calls"]

    assert _around(engine, "small").kept == ()


def test_nothing_is_shown_as_kept_by_a_worker_that_is_gone(harness: Harness) -> None:
    engine = _with_one_of_two_taken(harness)
    engine.enqueue([job(id="small", flow=wanting(gpu=1))])
    harness.advance(LONG_S)

    engine.retire("s")

    assert _around(engine, "small").kept == ()


def test_of_a_running_job_its_session_is_shown(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a")])
    take_one(engine)

    assert _around(engine).job.session == "s"


def _with_one_of_two_taken(harness: Harness, big: Flow = BIG) -> Engine:
    """Return an engine whose worker has passed over the job "big" for want of the unit that "runs" has."""
    engine = harness.engine()
    engine.join(session(id="s", offers={"gpu": {"0": 1.0, "1": 1.0}, "disk": {"": 1.0}}))
    engine.enqueue([job(id="runs", flow=wanting(gpu=1))])
    take_one(engine)
    engine.enqueue([job(id="big", flow=big)])
    assert take(engine) == ()
    return engine


def _around(engine: Engine, job_id: str = "a") -> Surroundings:
    """Return what stands between a job and its start; it must be known."""
    around = engine.surroundings(job_id)
    assert around is not None, f"job {job_id} is unknown"
    return around
