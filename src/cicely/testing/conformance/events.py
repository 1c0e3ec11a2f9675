"""Events tell what went wrong, what people did and what workers did, to readers with a cursor."""

from __future__ import annotations

from collections.abc import Iterable

from cicely.core.edge import Edge
from cicely.core.event import KEEP_HISTORY_S, NEWEST, Event, EventFilter
from cicely.core.outcome import Crashed, Deferred, Failed, HandedBack, Stopped, Succeeded
from cicely.engines.contract import MARK, Engine, Schedule
from cicely.testing.conformance.bench import (
    demand,
    fail,
    job,
    near,
    session,
    settle,
    silent,
    start,
    succeed,
    sweep,
    take,
    take_one,
)
from cicely.testing.conformance.harness import Capability, Harness

REQUIRES = frozenset({Capability.EVENTS})

ANY = EventFilter()


def events(engine: Engine, where: EventFilter = ANY, *, cursor: str | None = None) -> list[Event]:
    """Return all events from behind a cursor, over all pages."""
    found: list[Event] = []
    while True:
        page = engine.history(where, cursor=cursor)
        found += page.events
        cursor = page.cursor
        if not page.more:
            return found


def kinds(found: Iterable[Event]) -> list[str]:
    return [event.kind for event in found]


def newest(engine: Engine) -> str:
    """Return the cursor behind all that has happened."""
    return engine.history(ANY, cursor=NEWEST).cursor


# --- what is told of jobs -----------------------------------------------------------------------
def test_a_failure_is_told_with_all_that_is_known_of_it(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a", workflow="w"))
    harness.advance(2.5)
    settle(engine, Failed(claim.token, "timeout", b"why"))

    [told] = events(engine)

    assert (told.kind, told.job_id, told.task, told.queue) == ("job.failed", "a", "work", "main")
    assert (told.workflow, told.reason, told.name) == ("w", "timeout", "s")
    assert (told.attempt, told.fence) == (1, 1)
    assert near(told.run_s, 2.5)


def test_a_short_success_is_not_told(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    harness.advance(0.9)

    settle(engine, Succeeded(claim.token))

    assert events(engine) == []


def test_a_success_that_took_a_second_is_told(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    harness.advance(1)

    settle(engine, Succeeded(claim.token))

    [told] = events(engine)
    assert (told.kind, told.job_id, told.reason, told.run_s) == ("job.succeeded", "a", "", 1.0)


def test_of_a_watched_job_each_start_and_success_is_told(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a", watched=True))
    settle(engine, Deferred(claim.token, 0))
    settle(engine, Succeeded(take_one(engine).token))

    told = events(engine)

    assert kinds(told) == ["job.started", "job.started", "job.succeeded"]
    assert [(event.fence, event.name) for event in told] == [(1, "s"), (2, "s"), (2, "s")]
    assert told[0].run_s is None


def test_a_repeated_claim_is_no_second_start(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a", watched=True)])
    wanted = demand(1)

    assert engine.claim("s", wanted) == engine.claim("s", wanted)
    assert kinds(events(engine)) == ["job.started"]


def test_attempts_that_went_wrong_are_told(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id=job_id) for job_id in "abc"])
    claims = {claim.job_id: claim.token for claim in take(engine, 3)}
    harness.advance(0.5)
    settle(engine, Failed(claims["a"], "error", retry_in_s=5))
    settle(engine, Crashed(claims["b"], "killed by signal 9"))
    sweep(engine, silent(engine))

    told = events(engine)

    assert [(event.kind, event.job_id, event.reason) for event in told] == [
        ("job.retried", "a", "error"),
        ("job.crashed", "b", "crashed: killed by signal 9"),
        ("job.lost", "c", "its worker was lost"),
    ]
    assert all(near(event.run_s, 0.5) for event in told)


def test_what_costs_nothing_is_not_told(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id=job_id) for job_id in "abc"])
    claims = {claim.job_id: claim.token for claim in take(engine, 3)}

    settle(engine, Deferred(claims["a"], 5))
    settle(engine, HandedBack(claims["b"], has_started=True))
    engine.retire("s")

    assert events(engine) == []


def test_a_job_that_engines_give_up_is_told_as_failed(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a")])
    for _ in range(3):
        settle(engine, Crashed(take_one(engine).token, "exit code 1"))

    told = events(engine)

    assert kinds(told) == ["job.crashed", "job.crashed", "job.failed"]
    assert (told[-1].reason, told[-1].attempt, told[-1].fence) == ("poison", 3, 3)


def test_an_expiry_is_told(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id="a", expires_s=10)])
    harness.advance(11)
    sweep(engine)

    [told] = events(engine)

    assert (told.kind, told.job_id, told.name, told.run_s) == ("job.expired", "a", "", None)
    assert told.reason == "not started before its deadline"


def test_cancellations_by_people_are_told(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    engine.enqueue([job(id="b")])
    engine.steer("cancel", ["a", "b"], reason="by hand")
    settle(engine, Stopped(claim.token))

    told = events(engine)

    assert [(event.kind, event.job_id, event.reason) for event in told] == [
        ("job.cancelled", "b", "by hand"),
        ("job.cancelled", "a", "by hand"),
    ]


def test_ends_in_consequence_of_another_are_not_told(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a"), job(id="b"), job(id="c")], [Edge("a", "b"), Edge("b", "c")])

    settle(engine, Failed(take_one(engine).token, "error"))

    assert [(event.kind, event.job_id) for event in events(engine)] == [("job.failed", "a")]


def test_a_revival_is_told(harness: Harness) -> None:
    engine = harness.engine()
    fail(engine, job(id="a"))
    engine.steer("revive", ["a"], reason="again")
    engine.steer("revive", ["a"])

    told = events(engine)

    assert kinds(told) == ["job.failed", "job.revived"]
    assert (told[1].job_id, told[1].reason, told[1].fence, told[1].run_s) == ("a", "again", 1, None)


def test_a_repeated_or_refused_outcome_is_not_told_again(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    settle(engine, Failed(claim.token, "error"))

    settle(engine, Failed(claim.token, "error"))
    settle(engine, Crashed(claim.token, "exit code 1"))

    assert kinds(events(engine)) == ["job.failed"]


# --- what is told of others ---------------------------------------------------------------------
def test_workers_that_come_and_go_are_told_and_their_children_are_not(harness: Harness) -> None:
    engine = harness.engine()
    boss = session(id="boss", tasks=frozenset(), name="worker 7 on host")
    engine.join(boss)
    engine.join(boss)
    engine.join(session(id="s"))
    engine.retire("s")
    engine.retire("boss")
    engine.retire("boss")

    told = events(engine)

    assert [(event.kind, event.name, event.reason) for event in told] == [
        ("worker.joined", "boss", "worker 7 on host"),
        ("worker.left", "boss", "worker 7 on host"),
    ]


def test_a_lost_worker_is_told(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="boss", tasks=frozenset()))
    engine.join(session(id="s"))

    sweep(engine, silent(engine, "boss"), silent(engine, "s"))

    assert kinds(events(engine)) == ["worker.joined", "worker.lost"]


def test_pausing_a_queue_is_told_once(harness: Harness) -> None:
    engine = harness.engine()
    engine.pause("main")
    engine.pause("main")
    engine.resume("main")
    engine.resume("main")

    assert [(event.kind, event.name) for event in events(engine)] == [
        ("queue.paused", "main"),
        ("queue.resumed", "main"),
    ]


def test_changes_of_schedules_are_told(harness: Harness) -> None:
    engine = harness.engine()
    awake = Schedule(name="s", spec=b"", next_at=1.0)
    asleep = Schedule(name="s", spec=b"", next_at=1.0, paused=True)
    engine.put_schedule(awake)
    engine.tick(awake, Schedule(name="s", spec=b"", next_at=2.0), [])
    engine.tick(Schedule(name="s", spec=b"", next_at=2.0), asleep, [])
    engine.tick(asleep, awake, [])
    engine.drop_schedule("s")
    engine.drop_schedule("s")

    told = events(engine)

    assert {event.name for event in told} == {"s"}
    assert kinds(told) == ["schedule.set", "schedule.paused", "schedule.resumed", "schedule.removed"]


def test_marks_are_not_told(harness: Harness) -> None:
    engine = harness.engine()
    engine.put_schedule(Schedule(name=f"{MARK}cursor", spec=b"", next_at=None))
    engine.drop_schedule(f"{MARK}cursor")

    assert events(engine) == []


# --- cursors ------------------------------------------------------------------------------------
def test_a_reader_resumes_behind_what_it_has_seen(harness: Harness) -> None:
    engine = harness.engine()
    fail(engine, job(id="a"))
    seen = engine.history(ANY)
    fail(engine, job(id="b"))

    rest = harness.engine().history(ANY, cursor=seen.cursor)

    assert [event.job_id for event in rest.events] == ["b"]
    assert engine.history(ANY, cursor=rest.cursor).events == ()


def test_pages_are_oldest_first_and_bounded(harness: Harness) -> None:
    engine = harness.engine()
    for n in range(5):
        fail(engine, job(id=f"j{n}"))

    one = engine.history(ANY, limit=2)
    two = engine.history(ANY, limit=2, cursor=one.cursor)
    three = engine.history(ANY, limit=2, cursor=two.cursor)

    found = [[event.job_id for event in page.events] for page in (one, two, three)]
    assert found == [["j0", "j1"], ["j2", "j3"], ["j4"]]
    assert [page.more for page in (one, two, three)] == [True, True, False]


def test_each_event_has_the_cursor_behind_it(harness: Harness) -> None:
    engine = harness.engine()
    for n in range(3):
        fail(engine, job(id=f"j{n}"))
    page = engine.history(ANY)

    rest = engine.history(ANY, cursor=page.events[0].cursor)

    assert rest.events == page.events[1:]
    assert page.events[-1].cursor == page.cursor


def test_a_reader_may_begin_with_what_is_to_come(harness: Harness) -> None:
    engine = harness.engine()
    fail(engine, job(id="a"))
    begin = engine.history(ANY, cursor=NEWEST)
    fail(engine, job(id="b"))

    assert (begin.events, begin.more) == ((), False)
    assert [event.job_id for event in events(engine, cursor=begin.cursor)] == ["b"]


def test_a_sweep_says_whether_there_is_news(harness: Harness) -> None:
    engine = harness.engine()
    before = sweep(engine).newest
    still = sweep(engine).newest
    fail(engine, job(id="a"))

    after = sweep(engine).newest

    assert before == still != after
    assert after == events(engine)[-1].cursor == newest(engine)


def test_a_filter_passes_over_what_it_does_not_want(harness: Harness) -> None:
    engine = harness.engine()
    engine.pause("main")
    engine.resume("main")
    fail(engine, job(id="a", workflow="w"))
    fail(engine, job(id="b", task="other"))

    def ids(where: EventFilter) -> list[str]:
        return [event.job_id for event in events(engine, where)]

    assert ids(EventFilter(kinds=("job.failed",))) == ["a", "b"]
    assert ids(EventFilter(kinds=("job",), task="other")) == ["b"]
    assert ids(EventFilter(workflow="w")) == ["a"]
    assert ids(EventFilter(job_id="b")) == ["b"]
    assert ids(EventFilter(queue="side")) == []
    assert kinds(events(engine, EventFilter(kinds=("queue", "worker.lost")))) == [
        "queue.paused",
        "queue.resumed",
    ]


def test_a_filter_bounds_the_instant(harness: Harness) -> None:
    engine = harness.engine()
    fail(engine, job(id="a"))
    harness.advance(100)
    fail(engine, job(id="b"))
    [first, _] = events(engine)

    later = events(engine, EventFilter(since=first.at + 50))

    assert [event.job_id for event in later] == ["b"]


def test_a_cursor_moves_over_what_was_passed_over(harness: Harness) -> None:
    engine = harness.engine()
    fail(engine, job(id="a"))

    page = engine.history(EventFilter(task="other"))

    assert (page.events, page.more) == ((), False)
    assert page.cursor == newest(engine)


# --- retention ----------------------------------------------------------------------------------
def test_events_outlive_their_job(harness: Harness) -> None:
    engine = harness.engine()
    fail(engine, job(id="a", keep_failed_s=10))
    harness.advance(11)
    sweep(engine)

    assert engine.get(["a"]) == [None]
    assert kinds(events(engine)) == ["job.failed"]


def test_events_are_kept_for_thirty_days(harness: Harness) -> None:
    engine = harness.engine()
    fail(engine, job(id="a"))
    old = newest(engine)
    harness.advance(KEEP_HISTORY_S - 60)
    sweep(engine)
    kept = kinds(events(engine))
    fail(engine, job(id="b"))
    harness.advance(120)

    while sweep(engine).more:
        pass

    assert kept == ["job.failed"]
    assert [event.job_id for event in events(engine)] == ["b"]
    assert [event.job_id for event in events(engine, cursor=old)] == ["b"]


def test_a_success_leaves_no_row(harness: Harness) -> None:
    engine = harness.engine()
    before = newest(engine)

    succeed(engine, job(id="a"))

    assert newest(engine) == before
