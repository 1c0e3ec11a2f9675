"""A limit's backlog bounds how many jobs of a key or a queue may be ready: more are refused."""

from __future__ import annotations

from cicely.core.edge import Edge
from cicely.core.flow import QUEUE_PREFIX
from cicely.core.limits import Limit
from cicely.core.outcome import Failed, Succeeded
from cicely.engines.contract import Engine, Schedule
from cicely.errors import BacklogFull
from cicely.testing.conformance.bench import (
    counts,
    ids,
    job,
    refused,
    session,
    settle,
    take,
    take_one,
    using,
)
from cicely.testing.conformance.harness import Capability, Harness

REQUIRES = frozenset({Capability.FLOW})


def test_a_queue_takes_as_many_jobs_as_its_backlog_holds(harness: Harness) -> None:
    engine = _bounded(harness, QUEUE_PREFIX + "main", 3)
    engine.enqueue([job(id=f"j{n}") for n in range(3)])

    with refused(BacklogFull):
        engine.enqueue([job(id="more")])


def test_a_refused_call_stores_nothing(harness: Harness) -> None:
    engine = _bounded(harness, QUEUE_PREFIX + "main", 3)
    engine.enqueue([job(id="a"), job(id="b")])

    with refused(BacklogFull):
        engine.enqueue([job(id="c"), job(id="other", queue="side"), job(id="d")], [Edge("c", "other")])

    assert engine.get(["c", "other", "d"]) == [None, None, None]


def test_the_refusal_names_the_key_and_its_bound(harness: Harness) -> None:
    engine = _bounded(harness, QUEUE_PREFIX + "main", 3)

    try:
        engine.enqueue([job(id=f"j{n}") for n in range(4)])
    except BacklogFull as error:
        said = str(error)

    assert "queue:main" in said
    assert "3" in said


def test_jobs_that_are_known_are_not_counted_again(harness: Harness) -> None:
    engine = _bounded(harness, QUEUE_PREFIX + "main", 2)
    both = [job(id="a"), job(id="b", unique="key")]
    engine.enqueue(both)

    answers = engine.enqueue([*both, job(id="c", unique="key")])

    assert [(answer.id, answer.fresh) for answer in answers] == [("a", False), ("b", False), ("b", False)]


def test_jobs_that_another_of_the_same_call_stands_for_are_not_counted(harness: Harness) -> None:
    engine = _bounded(harness, QUEUE_PREFIX + "main", 2)

    answers = engine.enqueue(
        [
            job(id="a", unique="key"),
            job(id="b", unique="key"),
            job(id="c"),
            job(id="c"),
            job(id="d", unique="key"),
        ]
    )

    assert [(answer.id, answer.fresh) for answer in answers] == [
        ("a", True),
        ("a", False),
        ("c", True),
        ("c", False),
        ("a", False),
    ]


def test_a_key_takes_as_many_jobs_as_its_backlog_holds(harness: Harness) -> None:
    engine = _bounded(harness, "api", 2)
    engine.enqueue([job(id="a", flow=using("api")), job(id="b", queue="side", flow=using("api"))])

    with refused(BacklogFull):
        engine.enqueue([job(id="c", flow=using("api"))])
    assert engine.enqueue([job(id="d"), job(id="e", flow=using("disk"))])[1].fresh


def test_of_several_keys_each_is_looked_at(harness: Harness) -> None:
    engine = _bounded(harness, "api", 9)
    engine.configure([Limit(key="disk", backlog=1)])
    engine.enqueue([job(id="a", flow=using("api", "disk"))])

    with refused(BacklogFull):
        engine.enqueue([job(id="b", flow=using("api", "disk"))])


def test_a_queues_backlog_counts_the_jobs_of_all_keys(harness: Harness) -> None:
    engine = _bounded(harness, QUEUE_PREFIX + "main", 2)
    engine.enqueue([job(id="a", flow=using("api")), job(id="b", lane="l")])

    with refused(BacklogFull):
        engine.enqueue([job(id="c")])


def test_other_queues_are_not_bounded(harness: Harness) -> None:
    engine = _bounded(harness, QUEUE_PREFIX + "main", 1)

    assert len(engine.enqueue([job(id=f"j{n}", queue="side") for n in range(5)])) == 5


def test_running_jobs_make_room(harness: Harness) -> None:
    engine = _bounded(harness, QUEUE_PREFIX + "main", 2)
    engine.enqueue([job(id="a"), job(id="b")])
    take_one(engine)

    assert engine.enqueue([job(id="c")])[0].fresh


def test_waiting_jobs_do_not_fill_it(harness: Harness) -> None:
    engine = _bounded(harness, QUEUE_PREFIX + "main", 3)
    engine.enqueue([job(id="a"), job(id="after")], [Edge("a", "after")])
    engine.enqueue([job(id="due", delay_s=10)])

    assert len(engine.enqueue([job(id="b"), job(id="c")])) == 2


def test_jobs_that_come_back_are_never_refused(harness: Harness) -> None:
    engine = _bounded(harness, QUEUE_PREFIX + "main", 1)
    engine.enqueue([job(id="a")])
    claim = take_one(engine)
    engine.enqueue([job(id="b")])

    settle(engine, Failed(claim.token, "error", retry_in_s=0.0))
    harness.advance(1)

    assert sorted(ids(take(engine, 5))) == ["a", "b"]


def test_a_bound_below_what_is_ready_refuses_until_there_is_room(harness: Harness) -> None:
    engine = _bounded(harness, QUEUE_PREFIX + "main", 9)
    engine.enqueue([job(id=f"j{n}") for n in range(3)])

    engine.configure([Limit(key="queue:main", backlog=2)])

    take_one(engine)
    with refused(BacklogFull):
        engine.enqueue([job(id="a")])
    take_one(engine)
    assert engine.enqueue([job(id="a")])[0].fresh


def test_without_its_limit_a_queue_takes_all(harness: Harness) -> None:
    engine = _bounded(harness, QUEUE_PREFIX + "main", 1)
    engine.enqueue([job(id="a")])

    engine.unset("limit", "queue:main")

    assert engine.enqueue([job(id="b")])[0].fresh


def test_a_limit_without_a_backlog_refuses_nothing(harness: Harness) -> None:
    engine = harness.engine()
    engine.configure([Limit(key="api", concurrency=1)])

    assert len(engine.enqueue([job(id=f"j{n}", flow=using("api")) for n in range(50)])) == 50


def test_a_backlog_holds_nobody_back(harness: Harness) -> None:
    engine = _bounded(harness, "api", 3)
    engine.enqueue([job(id=f"j{n}", flow=using("api")) for n in range(3)])

    assert len(take(engine, 5)) == 3


def test_what_ended_does_not_count(harness: Harness) -> None:
    engine = _bounded(harness, QUEUE_PREFIX + "main", 2)
    engine.enqueue([job(id="a"), job(id="b")])
    settle(engine, Succeeded(take_one(engine).token))
    engine.steer("cancel", ["b"])

    assert len(engine.enqueue([job(id="c"), job(id="d")])) == 2


def test_a_tick_whose_job_is_refused_changes_nothing(harness: Harness) -> None:
    engine = _bounded(harness, QUEUE_PREFIX + "main", 1)
    engine.enqueue([job(id="a")])
    seen = Schedule(name="s", spec=b"", next_at=1e9)
    engine.put_schedule(seen)

    with refused(BacklogFull):
        engine.tick(seen, Schedule(name="s", spec=b"", next_at=2e9), [job(id="b")])

    assert engine.schedules() == [seen]
    assert sum(counts(engine).values()) == 1


def _bounded(harness: Harness, key: str, backlog: int) -> Engine:
    """Return an engine with a session and a limit of so many ready jobs of a key."""
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.configure([Limit(key=key, backlog=backlog)])
    return engine
