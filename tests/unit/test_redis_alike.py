"""Jobs that are alike are taken and ended together, and each keeps what is its own."""

from collections import Counter
from collections.abc import Iterator

import pytest

from cicely.core.edge import Edge, ParentEnd, Role
from cicely.core.job import Claim, Job, Kind, NewJob
from cicely.core.outcome import Failed, Succeeded
from cicely.core.rollup import Word
from cicely.core.states import State
from cicely.engines.connect import connect
from cicely.engines.contract import Ask, Demand, Engine, QueueRecord, Session, Verdict
from redis_server import shared_server

LARGE = b"\xc5" + b"x" * 2_000


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = connect(f"{shared_server().url}?durability=none")
    engine.open()
    engine.join(Session(id="s", worker="s", tasks=frozenset({"shop.a", "shop.b"})))
    yield engine
    engine.close()
    shared_server().tell("FLUSHALL")


def _new(
    job_id: str, task: str = "shop.a", *, keep_s: float = 60.0, unique: str = "", priority: int = 5
) -> NewJob:
    return NewJob(job_id, task, Kind.SYNC, "q", b"", keep_s=keep_s, unique=unique, priority=priority)


def _take(engine: Engine, most: int, request: int = 1) -> list[Claim]:
    demand = Demand(request.to_bytes(8, "big"), ("q",), (Ask((Kind.SYNC,), most),))
    return list(engine.claim("s", demand).claims)


def _ends(engine: Engine, *job_ids: str) -> list[Job]:
    return [job for job in engine.get(job_ids) if job is not None]


def test_ends_of_several_kinds_in_one_call_are_each_recorded(engine: Engine) -> None:
    engine.enqueue([_new(f"a{i}") for i in range(3)])
    engine.enqueue([_new(f"b{i}", "shop.b", keep_s=30.0) for i in range(3)])
    claims = _take(engine, 4) + _take(engine, 4, request=2)
    assert len(claims) == 6

    settled = engine.settle("s", [Succeeded(c.token, c.job_id.encode()) for c in claims])

    assert settled.verdicts == (Verdict.ACCEPTED,) * 6
    jobs = _ends(engine, *(claim.job_id for claim in claims))
    assert [job.result for job in jobs] == [claim.job_id.encode() for claim in claims]
    assert engine.queues() == [QueueRecord("q", paused=False, counts={State.SUCCEEDED: 6})]
    assert engine.sessions()[0].held == 0


def test_a_large_result_among_small_ones_is_kept_whole(engine: Engine) -> None:
    engine.enqueue([_new(f"a{i}") for i in range(4)])
    results = [b"1", b"2", LARGE, b"4"]

    engine.settle("s", [Succeeded(c.token, r) for c, r in zip(_take(engine, 4), results, strict=True)])

    assert [job.result for job in _ends(engine, "a0", "a1", "a2", "a3")] == results


def test_one_that_is_unlike_between_those_alike_is_taken_as_it_is(engine: Engine) -> None:
    engine.enqueue([_new("a0"), _new("a1"), _new("b", unique="k"), _new("a2"), _new("a3", keep_s=5.0)])

    claims = _take(engine, 5)

    assert [claim.job_id for claim in claims] == ["a0", "a1", "b", "a2", "a3"]
    verdicts = engine.settle("s", [Succeeded(claim.token) for claim in claims]).verdicts
    assert verdicts == (Verdict.ACCEPTED,) * 5
    assert engine.enqueue([_new("c", unique="k")])[0].fresh


def test_an_outcome_that_comes_twice_in_a_call_is_recorded_once(engine: Engine) -> None:
    engine.enqueue([_new(f"a{i}") for i in range(2)])
    first, second = _take(engine, 2)

    verdicts = engine.settle("s", [Succeeded(c.token) for c in (first, second, second, first)]).verdicts

    accepted, already = Verdict.ACCEPTED, Verdict.ALREADY
    assert verdicts == (accepted, accepted, already, already)


def test_each_is_counted(engine: Engine) -> None:
    engine.enqueue([_new(f"a{i}") for i in range(3)] + [_new(f"b{i}", "shop.b") for i in range(2)])

    engine.settle("s", [Succeeded(claim.token) for claim in _take(engine, 5)])

    ran = Counter[str]()
    for cell in engine.rollups(0, 1 << 40).cells:
        if cell.word is Word.SUCCEEDED:
            ran[cell.task] += cell.count
    assert ran == {"shop.a": 3, "shop.b": 2}


def test_jobs_of_several_tasks_are_taken_by_their_ranks(engine: Engine) -> None:
    ranks = [(5, "shop.a"), (6, "shop.b"), (7, "shop.a"), (8, "shop.b"), (9, "shop.b")]
    engine.enqueue([_new(f"j{rank}", task, priority=rank) for rank, task in ranks])

    taken = [_take(engine, 2), _take(engine, 9, request=2)]

    assert [[claim.job_id for claim in claims] for claims in taken] == [["j9", "j8"], ["j7", "j6", "j5"]]


def _of_workflow(job_id: str, workflow: str, *, priority: int = 5) -> NewJob:
    return NewJob(job_id, "shop.a", Kind.SYNC, "q", b"", workflow=workflow, priority=priority)


def _chains(engine: Engine, count: int) -> None:
    for i in range(count):
        first, then, last = f"a{i}", f"b{i}", f"c{i}"
        jobs = [_of_workflow(job_id, f"w{i}") for job_id in (first, then, last)]
        engine.enqueue(jobs, [Edge(first, then), Edge(then, last)])


def test_chains_that_move_on_together_each_get_what_their_own_jobs_returned(engine: Engine) -> None:
    _chains(engine, 3)
    for request, letter in enumerate("ab", 1):
        claims = _take(engine, 9, request)
        assert [claim.job_id for claim in claims] == [f"{letter}{i}" for i in range(3)]
        engine.settle("s", [Succeeded(claim.token, claim.job_id.encode()) for claim in claims])

    claims = _take(engine, 9, 3)

    assert [(claim.job_id, claim.workflow, claim.joins) for claim in claims] == [
        (f"c{i}", f"w{i}", 1) for i in range(3)
    ]
    assert [claim.parents for claim in claims] == [
        (ParentEnd(f"b{i}", Role.INPUT, State.SUCCEEDED, f"b{i}".encode()),) for i in range(3)
    ]


def test_a_large_result_and_a_failure_among_those_alike_are_told_as_they_are(engine: Engine) -> None:
    _chains(engine, 4)
    a0, a1, a2, a3 = _take(engine, 9)

    engine.settle(
        "s",
        [Succeeded(a0.token, b"0"), Succeeded(a1.token, LARGE), Failed(a2.token, "no"), Succeeded(a3.token)],
    )

    claims = {claim.job_id: claim for claim in _take(engine, 9, 2)}
    assert {name: claim.parents[0].result for name, claim in claims.items()} == {
        "b0": b"0",
        "b1": LARGE,
        "b3": b"",
    }
    assert [job.state for job in _ends(engine, "b2", "c2")] == [State.CANCELLED] * 2


def test_released_jobs_that_are_unlike_keep_their_own_places_in_line(engine: Engine) -> None:
    engine.enqueue([_new(f"first{i}") for i in range(3)])
    behind = [
        _of_workflow("low", "w", priority=1),
        _of_workflow("high", "w", priority=9),
        _new("other", "shop.b"),
    ]
    engine.enqueue(behind, [Edge(f"first{i}", new.id) for i, new in enumerate(behind)])

    engine.settle("s", [Succeeded(claim.token) for claim in _take(engine, 3)])

    assert [claim.job_id for claim in _take(engine, 3, 2)] == ["high", "other", "low"]
