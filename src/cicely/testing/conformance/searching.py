"""Every job can be found, newest first, page by page; counts agree with the jobs."""

from __future__ import annotations

from collections import Counter

from cicely.core.job import Filter, Job
from cicely.core.outcome import Failed, Succeeded
from cicely.core.states import State
from cicely.engines.contract import Engine
from cicely.testing.conformance.bench import (
    counts,
    fail,
    job,
    look,
    session,
    settle,
    start,
    succeed,
    sweep,
    take,
)
from cicely.testing.conformance.harness import Harness

#: More pages than any test here needs: a cursor that never ends is a failure, not a hang.
MOST_PAGES = 50


def test_jobs_are_found_newest_first(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id="a")])
    harness.advance(1)
    engine.enqueue([job(id="b"), job(id="c")])

    assert _found(engine, Filter()) == ["c", "b", "a"]


def test_nothing_is_found_where_there_is_nothing(harness: Harness) -> None:
    engine = harness.engine()

    page = engine.find(Filter())

    assert (page.jobs, page.cursor) == ((), None)


def test_jobs_are_found_by_state(harness: Harness) -> None:
    engine = harness.engine()
    fail(engine, job(id="failed"))
    succeed(engine, job(id="succeeded"))
    start(engine, job(id="running"))
    engine.enqueue([job(id="ready"), job(id="scheduled", delay_s=60)])

    assert _found(engine, Filter(states=(State.FAILED,))) == ["failed"]
    assert _found(engine, Filter(states=(State.RUNNING,))) == ["running"]
    assert _found(engine, Filter(states=(State.SUCCEEDED,))) == ["succeeded"]
    assert _found(engine, Filter(states=(State.READY, State.SCHEDULED))) == ["scheduled", "ready"]


def test_jobs_are_found_by_task(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id="a"), job(id="b", task="other")])

    assert _found(engine, Filter(task="other")) == ["b"]


def test_jobs_are_found_by_queue(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id="a"), job(id="b", queue="other")])

    assert _found(engine, Filter(queue="other")) == ["b"]


def test_jobs_are_found_by_tag(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id="a", tags=("red",)), job(id="b", tags=("redder", "blue"))])

    assert _found(engine, Filter(tag="red")) == ["a"]
    assert _found(engine, Filter(tag="blue")) == ["b"]


def test_jobs_are_found_by_time(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id="a")])
    harness.advance(10)
    engine.enqueue([job(id="b")])
    harness.advance(10)
    engine.enqueue([job(id="c")])
    middle_at = look(engine, "b").created_at

    assert _found(engine, Filter(since=middle_at - 5)) == ["c", "b"]
    assert _found(engine, Filter(until=middle_at - 5)) == ["a"]
    assert _found(engine, Filter(since=middle_at - 5, until=middle_at + 5)) == ["b"]


def test_a_search_may_combine_conditions(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id="a", tags=("red",)), job(id="b", queue="other", tags=("red",))])

    assert _found(engine, Filter(tag="red", queue="other", states=(State.READY,))) == ["b"]
    assert _found(engine, Filter(tag="red", queue="other", states=(State.FAILED,))) == []


def test_pages_join_without_gap_or_overlap(harness: Harness) -> None:
    engine = harness.engine()
    names = [f"j{n}" for n in range(25)]
    engine.enqueue([job(id=name) for name in names])

    assert _found(engine, Filter(), limit=4) == names[::-1]


def test_filtered_pages_join_without_gap_or_overlap(harness: Harness) -> None:
    engine = harness.engine()
    names = [f"j{n:02}" for n in range(30)]
    engine.enqueue([job(id=name, task="work" if name[-1] in "05" else "other") for name in names])

    found = _found(engine, Filter(task="work"), limit=2)

    assert found == ["j25", "j20", "j15", "j10", "j05", "j00"]


def test_jobs_that_come_later_do_not_disturb_the_pages(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id="a"), job(id="b"), job(id="c")])
    first = engine.find(Filter(), limit=2)
    engine.enqueue([job(id="d")])

    second = engine.find(Filter(), limit=2, cursor=first.cursor)

    assert [found.id for found in (*first.jobs, *second.jobs)] == ["c", "b", "a"]


def test_a_search_shows_a_job_without_its_large_parts(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a", body=b"body", tags=("red",)))
    settle(engine, Failed(claim.token, "error", b"why"))

    [found] = engine.find(Filter()).jobs

    assert (found.body, found.result, found.attempts) == (b"", b"", ())
    assert (found.state, found.tags, found.attempt) == (State.FAILED, ("red",), 1)
    assert (found.reason, found.error) == ("error", b"why")


def test_counts_agree_with_the_jobs(harness: Harness) -> None:
    engine = harness.engine()
    fail(engine, job(id="failed"))
    succeed(engine, job(id="succeeded"))
    start(engine, job(id="running"))
    engine.enqueue([job(id="ready"), job(id="scheduled", delay_s=60), job(id="late", expires_s=1)])
    harness.advance(2)
    sweep(engine)
    engine.steer("cancel", ["ready"])

    assert counts(engine) == dict(Counter(found.state for found in _all(engine, Filter())))
    assert sum(counts(engine).values()) == 6


def test_counts_follow_every_move(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    running = counts(engine)
    settle(engine, Failed(claim.token, "error", retry_in_s=10))
    waiting = counts(engine)
    harness.advance(11)
    [claim] = take(engine)
    settle(engine, Succeeded(claim.token))

    assert (running, waiting) == ({State.RUNNING: 1}, {State.SCHEDULED: 1})
    assert counts(engine) == {State.SUCCEEDED: 1}


def test_queues_are_listed_by_name_also_when_empty(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="b", queue="beta"), job(id="a", queue="alpha")])
    engine.steer("cancel", ["b"])
    engine.steer("discard", ["b"])

    assert [record.name for record in engine.queues()] == ["alpha", "beta"]
    assert counts(engine, "beta") == {}


def _found(engine: Engine, where: Filter, *, limit: int = 100) -> list[str]:
    return [found.id for found in _all(engine, where, limit=limit)]


def _all(engine: Engine, where: Filter, *, limit: int = 100) -> list[Job]:
    """Return the jobs of all pages, each of which must keep to `limit`."""
    jobs: list[Job] = []
    cursor: str | None = None
    for _ in range(MOST_PAGES):
        page = engine.find(where, limit=limit, cursor=cursor)
        assert len(page.jobs) <= limit
        jobs.extend(page.jobs)
        cursor = page.cursor
        if cursor is None:
            return jobs
    raise AssertionError(f"the search did not end within {MOST_PAGES} pages")
