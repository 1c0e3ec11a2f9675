"""No call occupies the file for long, and nothing is kept that nobody will read again."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cicely.core.job import Kind, NewJob
from cicely.core.outcome import Succeeded
from cicely.core.states import State
from cicely.engines.contract import Ask, Demand, Save, Session, Silent
from cicely.engines.sqlite import blobs, claiming, sessions
from cicely.engines.sqlite.engine import SqliteEngine
from cicely.engines.sqlite.statements import statements
from cicely.engines.sqlite.transaction import Transaction

MIB = 1 << 20


class Clock:
    def __init__(self) -> None:
        self.at = 1_700_000_000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def engine(tmp_path: Path, clock: Clock) -> Iterator[SqliteEngine]:
    engine = SqliteEngine(str(tmp_path / "jobs.db"), durability="none", now=clock)
    engine.join(Session(id="s", worker="s", tasks=frozenset({"work"})))
    yield engine
    engine.close()


def _job(job_id: str, **options) -> NewJob:
    return NewJob(id=job_id, **{"task": "work", "kind": Kind.SYNC, "queue": "main", **options})


def _demand(count: int = 1) -> Demand:
    return Demand(os.urandom(8), ("main",), (Ask((Kind.SYNC,), count),))


def _rows(engine: SqliteEngine, statement: str) -> list[tuple]:
    return engine._opened().read(lambda txn: txn.rows(statement))


def _commits_of(engine: SqliteEngine, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is committed from now on, by verb."""
    committed: list[str] = []
    commits = engine._opened().commits
    run = commits.run
    monkeypatch.setattr(commits, "run", lambda verb, work: (committed.append(verb), run(verb, work))[1])
    return committed


def test_a_claim_ends_a_bounded_number_of_late_jobs_and_comes_back_at_once(engine, clock):
    late = claiming.EXPIRED_PER_CLAIM + 50
    engine.enqueue([_job(f"late-{i}", expires_s=10) for i in range(late)])
    engine.enqueue([_job("in time")])
    clock.at += 11

    first = engine.claim("s", _demand())
    expired = engine.queues()[0].counts[State.EXPIRED]
    second = engine.claim("s", _demand())

    assert (first.claims, first.next_due_in_s, expired) == ((), 0.0, claiming.EXPIRED_PER_CLAIM)
    assert [claim.job_id for claim in second.claims] == ["in time"]
    assert second.next_due_in_s is None


def test_a_large_value_is_written_by_many_short_transactions(engine, monkeypatch):
    data = os.urandom(10 * MIB)
    committed = _commits_of(engine, monkeypatch)

    engine.put_blob("a", "digest", data)

    assert len(committed) == 10
    assert engine.get_blob("a", "digest") == data


def test_a_shorter_value_takes_the_place_of_a_longer_one(engine):
    engine.put_blob("a", "digest", os.urandom(3 * MIB))
    shorter = os.urandom(2 * MIB + 1)

    engine.put_blob("a", "digest", shorter)

    assert engine.get_blob("a", "digest") == shorter


def test_the_blobs_of_old_jobs_are_removed_in_bounded_steps(engine, clock):
    size = blobs.CHUNK_BYTES * blobs._WASTE_CHUNKS // 4
    engine.enqueue([_job(f"j{i}", keep_s=60) for i in range(8)])
    claims = engine.claim("s", _demand(8)).claims
    for claim in claims:
        engine.put_blob(claim.job_id, "digest", bytes(size))
    engine.settle("s", [Succeeded(claim.token) for claim in claims])
    clock.at += 61
    before = _rows(engine, "SELECT count(*) FROM blob")[0][0]

    swept = engine.sweep(500)

    assert (swept.deleted, swept.more) == (8, True)
    assert before - _rows(engine, "SELECT count(*) FROM blob")[0][0] == blobs._WASTE_CHUNKS
    assert [engine.get_blob(f"j{i}", "digest") for i in range(8)] == [None] * 8
    steps = 0
    while engine.sweep(500).more:
        steps += 1
        assert steps < 10
    assert _rows(engine, "SELECT (SELECT count(*) FROM blob), (SELECT count(*) FROM waste)") == [(0, 0)]


def test_a_value_that_is_put_again_is_no_longer_waste(engine):
    engine.enqueue([_job("a")])
    engine.steer("cancel", ["a"])
    engine.put_blob("a", "digest", b"old")
    engine.steer("discard", ["a"])

    engine.put_blob("a", "digest", b"new")
    engine.sweep(100)

    assert engine.get_blob("a", "digest") == b"new"


def test_a_replaced_checkpoint_takes_its_blob_with_it(engine):
    engine.enqueue([_job("a", body=b"a reference to argument")])
    [claim] = engine.claim("s", _demand()).claims
    for digest in ("argument", "first", "second"):
        engine.put_blob("a", digest, b"large")
    engine.save("s", [Save(claim.token, checkpoint=b"a reference to argument")])
    engine.save("s", [Save(claim.token, checkpoint=b"a reference to first")])

    engine.save("s", [Save(claim.token, checkpoint=b"a reference to second")])

    kept = [engine.get_blob("a", digest) for digest in ("argument", "first", "second")]
    assert kept == [b"large", None, b"large"]
    engine.sweep(100)
    assert _rows(engine, "SELECT DISTINCT digest FROM blob ORDER BY 1") == [("argument",), ("second",)]


def test_the_blob_of_a_checkpoint_that_is_saved_again_stays(engine):
    engine.enqueue([_job("a")])
    [claim] = engine.claim("s", _demand()).claims
    engine.put_blob("a", "first", b"large")

    for _ in range(2):
        engine.save("s", [Save(claim.token, checkpoint=b"a reference to first")])

    assert engine.get_blob("a", "first") == b"large"


def test_a_refused_checkpoint_removes_nothing(engine):
    engine.enqueue([_job("a")])
    [claim] = engine.claim("s", _demand()).claims
    engine.put_blob("a", "first", b"large")
    engine.save("s", [Save(claim.token, checkpoint=b"a reference to first")])

    refused = engine.save("s", [Save(claim.token[:-1] + b"\xff", checkpoint=b"a reference to second")])

    assert refused == [False]
    assert engine.get_blob("a", "first") == b"large"


def test_a_closed_session_keeps_its_name_and_nothing_else(engine, clock):
    tasks = frozenset(f"package.module.function_{k}" for k in range(300))
    engine.join(Session(id="recycled", worker="w", tasks=tasks))
    engine.join(Session(id="silent", worker="w", tasks=tasks))

    engine.retire("recycled")
    [silent] = [one for one in engine.sessions() if one.session.id == "silent"]
    engine.sweep(10, [Silent("silent", silent.beat)])

    closed = _rows(engine, "SELECT key, length(facts) FROM session WHERE closed_at IS NOT NULL ORDER BY 1")
    assert closed == [("recycled", 0), ("silent", 0)]


def test_the_list_of_sessions_passes_over_those_that_are_closed(engine):
    plan = _rows(engine, "EXPLAIN QUERY PLAN " + sessions._SQL["open_sessions"])

    assert any("session_open" in row[3] for row in plan), plan


def test_a_process_remembers_a_bounded_number_of_sessions(engine):
    for k in range(2 * sessions._MOST_MEMBERS):
        engine.join(Session(id=f"s{k}", worker="w", tasks=frozenset({"work"})))
        engine.claim(f"s{k}", _demand())
        engine.retire(f"s{k}")

    assert len(engine._opened().commits._members) <= sessions._MOST_MEMBERS


def test_a_claim_asks_as_few_questions_of_a_thousand_lanes_as_of_none(engine, monkeypatch):
    def questions_of_a_claim() -> int:
        asked: list[str] = []
        with monkeypatch.context() as patch:
            patch.setattr(Transaction, "row", _noting(asked, Transaction.row))
            patch.setattr(Transaction, "rows", _noting(asked, Transaction.rows))
            assert len(engine.claim("s", _demand(2)).claims) == 2
        return len(asked)

    engine.enqueue([_job(f"plain-{i}") for i in range(4)])
    without_lanes = questions_of_a_claim()
    engine.enqueue([_job(f"laned-{i}", lane=f"lane-{i}") for i in range(1_000)])

    assert questions_of_a_claim() <= without_lanes + 1
    assert questions_of_a_claim() <= without_lanes + 1


def _noting(asked: list[str], ask):
    def noted(txn, statement: str, *values):
        asked.append(statement)
        return ask(txn, statement, *values)

    return noted


def test_jobs_of_all_lanes_and_of_none_are_taken_in_one_order_and_leave_the_index(engine):
    lanes = ["b", "", "a", "b", "", "c"]
    engine.enqueue([_job(f"j{i}", lane=lane) for i, lane in enumerate(lanes)])
    engine.enqueue([_job("first", lane="z", priority=9), _job("other", lane="a", task="not mine")])

    taken = [claim.job_id for _ in range(4) for claim in engine.claim("s", _demand(2)).claims]

    assert taken == ["first", "j0", "j1", "j2", "j3", "j4", "j5"]
    assert _rows(engine, "SELECT lane FROM ready") == [("a",)]
    assert _rows(engine, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize("name", ["next_class", "heads", "head_keys", "take"])
def test_ready_jobs_are_found_by_the_whole_beginning_of_an_index(engine, name):
    for statement, index in ((name, "PRIMARY KEY"), (f"{name}_laned", "INDEX ready_laned")):
        text = re.sub(r"\?\d", "0", statements("claim")[statement])
        plan = _rows(engine, f"EXPLAIN QUERY PLAN {text}")
        [search] = [step[3] for step in plan if "ready" in step[3] or "SEARCH r " in step[3]]
        assert index in search
        assert "queue=? AND" in search
