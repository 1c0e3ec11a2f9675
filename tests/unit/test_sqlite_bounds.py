"""No call occupies the file for long, and nothing is kept that nobody will read again."""

import os
import re

import pytest
from sqlite_bench import engine, noting, rows

from cicely.core.limits import Limit
from cicely.core.outcome import Succeeded
from cicely.core.states import State
from cicely.engines.contract import Save, Session, Silent
from cicely.engines.sqlite import blobs, claiming, sessions
from cicely.engines.sqlite.engine import SqliteEngine
from cicely.engines.sqlite.statements import statements
from cicely.engines.sqlite.transaction import Transaction
from cicely.testing.conformance.bench import demand, job, using

__all__ = ["engine"]

MIB = 1 << 20


def _commits_of(engine: SqliteEngine, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is committed from now on, by verb."""
    committed: list[str] = []
    commits = engine._opened().commits
    run = commits.run
    monkeypatch.setattr(commits, "run", lambda verb, work: (committed.append(verb), run(verb, work))[1])
    return committed


def test_a_claim_ends_a_bounded_number_of_late_jobs_and_comes_back_at_once(engine, clock):
    late = claiming.EXPIRED_PER_CLAIM + 50
    engine.enqueue([job(id=f"late-{i}", expires_s=10) for i in range(late)])
    engine.enqueue([job(id="in time")])
    clock.at += 11

    first = engine.claim("s", demand())
    expired = engine.queues()[0].counts[State.EXPIRED]
    second = engine.claim("s", demand())

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
    engine.enqueue([job(id=f"j{i}", keep_s=60) for i in range(8)])
    claims = engine.claim("s", demand(8)).claims
    for claim in claims:
        engine.put_blob(claim.job_id, "digest", bytes(size))
    engine.settle("s", [Succeeded(claim.token) for claim in claims])
    clock.at += 61
    before = rows(engine, "SELECT count(*) FROM blob")[0][0]

    swept = engine.sweep(500)

    assert (swept.deleted, swept.more) == (8, True)
    assert before - rows(engine, "SELECT count(*) FROM blob")[0][0] == blobs._WASTE_CHUNKS
    assert [engine.get_blob(f"j{i}", "digest") for i in range(8)] == [None] * 8
    steps = 0
    while engine.sweep(500).more:
        steps += 1
        assert steps < 10
    assert rows(engine, "SELECT (SELECT count(*) FROM blob), (SELECT count(*) FROM waste)") == [(0, 0)]


def test_a_value_that_is_put_again_is_no_longer_waste(engine):
    engine.enqueue([job(id="a")])
    engine.steer("cancel", ["a"])
    engine.put_blob("a", "digest", b"old")
    engine.steer("discard", ["a"])

    engine.put_blob("a", "digest", b"new")
    engine.sweep(100)

    assert engine.get_blob("a", "digest") == b"new"


def test_a_replaced_checkpoint_takes_its_blob_with_it(engine):
    engine.enqueue([job(id="a", body=b"a reference to argument")])
    [claim] = engine.claim("s", demand()).claims
    for digest in ("argument", "first", "second"):
        engine.put_blob("a", digest, b"large")
    engine.save("s", [Save(claim.token, checkpoint=b"a reference to argument")])
    engine.save("s", [Save(claim.token, checkpoint=b"a reference to first")])

    engine.save("s", [Save(claim.token, checkpoint=b"a reference to second")])

    kept = [engine.get_blob("a", digest) for digest in ("argument", "first", "second")]
    assert kept == [b"large", None, b"large"]
    engine.sweep(100)
    assert rows(engine, "SELECT DISTINCT digest FROM blob ORDER BY 1") == [("argument",), ("second",)]


def test_the_blob_of_a_checkpoint_that_is_saved_again_stays(engine):
    engine.enqueue([job(id="a")])
    [claim] = engine.claim("s", demand()).claims
    engine.put_blob("a", "first", b"large")

    for _ in range(2):
        engine.save("s", [Save(claim.token, checkpoint=b"a reference to first")])

    assert engine.get_blob("a", "first") == b"large"


def test_a_refused_checkpoint_removes_nothing(engine):
    engine.enqueue([job(id="a")])
    [claim] = engine.claim("s", demand()).claims
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

    closed = rows(engine, "SELECT key, length(facts) FROM session WHERE closed_at IS NOT NULL ORDER BY 1")
    assert closed == [("recycled", 0), ("silent", 0)]


def test_the_list_of_sessions_passes_over_those_that_are_closed(engine):
    plan = rows(engine, "EXPLAIN QUERY PLAN " + sessions._SQL["open_sessions"])

    assert any("session_open" in row[3] for row in plan), plan


def test_a_process_remembers_a_bounded_number_of_sessions(engine):
    for k in range(2 * sessions._MOST_MEMBERS):
        engine.join(Session(id=f"s{k}", worker="w", tasks=frozenset({"work"})))
        engine.claim(f"s{k}", demand())
        engine.retire(f"s{k}")

    assert len(engine._opened().commits._members) <= sessions._MOST_MEMBERS


def _questions_of_a_claim(engine: SqliteEngine, monkeypatch: pytest.MonkeyPatch) -> int:
    asked: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(Transaction, "row", noting(asked, Transaction.row))
        patch.setattr(Transaction, "rows", noting(asked, Transaction.rows))
        assert len(engine.claim("s", demand(2)).claims) == 2
    return len(asked)


def test_a_claim_asks_as_few_questions_of_a_thousand_lanes_as_of_ten(engine, monkeypatch):
    engine.enqueue([job(id=f"few-{i}", lane=f"lane-{i}") for i in range(10)])
    _questions_of_a_claim(engine, monkeypatch)
    with_ten = _questions_of_a_claim(engine, monkeypatch)
    engine.enqueue([job(id=f"many-{i}", lane=f"lane-{i}") for i in range(1_000)])

    assert _questions_of_a_claim(engine, monkeypatch) <= with_ten
    assert _questions_of_a_claim(engine, monkeypatch) <= with_ten


def test_a_claim_asks_as_few_questions_with_a_thousand_shut_valves_as_with_ten(engine, monkeypatch):
    engine.enqueue([job(id=f"plain-{i}") for i in range(6)])
    _block(engine, range(10))
    with_ten = _questions_of_a_claim(engine, monkeypatch)
    _block(engine, range(10, 1_000))
    while rows(engine, "SELECT count(*) FROM stream WHERE park = 0 AND rank IS NOT NULL") != [(0,)]:
        assert not engine.claim("s", demand(2, kinds=())).claims
        engine.sweep(100)

    assert _questions_of_a_claim(engine, monkeypatch) <= with_ten
    assert rows(engine, "SELECT count(*) FROM park WHERE open_at IS NULL") == [(1_000,)]


def _block(engine: SqliteEngine, numbers: range) -> None:
    """Have a job wait at each of so many valves that are shut."""
    engine.configure([Limit(key=f"k{n}", concurrency=1) for n in numbers])
    for kind in ("held", "blocked"):
        engine.enqueue([job(id=f"{kind}-{n}", task="other", flow=using(f"k{n}")) for n in numbers])
        if kind == "held":
            engine.join(Session(id="t", worker="t", tasks=frozenset({"other"})))
            assert len(engine.claim("t", demand(len(numbers))).claims) == len(numbers)


def test_what_was_taken_leaves_every_table_of_flow_control(engine):
    lanes = ["b", "", "a", "b", "", "c"]
    engine.enqueue([job(id=f"j{i}", lane=lane, flow=using("k")) for i, lane in enumerate(lanes)])
    engine.enqueue([job(id="other", lane="a", task="not mine")])

    claims = [claim for _ in range(3) for claim in engine.claim("s", demand(2)).claims]
    [(held,)] = rows(engine, "SELECT count(*) FROM holder")
    engine.settle("s", [Succeeded(claim.token) for claim in claims])
    engine.sweep(100)

    assert (len(claims), held) == (6, 6)
    assert rows(engine, "SELECT count(*) FROM holder") == [(0,)]
    assert rows(engine, "SELECT count(*), max(rank IS NULL) FROM stream") == [(1, 0)]
    assert [rows(engine, f"SELECT count(*) FROM {t}") for t in ("seat", "band", "gated")] == [[(1,)]] * 3
    assert rows(engine, "SELECT key, ready FROM valve") == []
    assert rows(engine, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize("name", ["next_class", "heads", "head_keys", "take"])
def test_ready_jobs_are_found_by_the_whole_beginning_of_an_index(engine, name):
    text = re.sub(r"\?\d", "0", statements("claim")[name])
    plan = rows(engine, f"EXPLAIN QUERY PLAN {text}")
    [search] = [step[3] for step in plan if "ready" in step[3] or "SEARCH r " in step[3]]
    assert "PRIMARY KEY" in search
    assert "queue=? AND" in search


@pytest.mark.parametrize("name", ["best", "siblings", "heads", "head_keys"])
def test_gated_jobs_are_found_by_the_whole_beginning_of_an_index(engine, name):
    text = re.sub(r"\?\d", "0", statements("stream")[name])
    plan = rows(engine, f"EXPLAIN QUERY PLAN {text}")

    assert re.search(r"\((band|seat|stream)=\? AND \(.*rank,n\)>", plan[0][3]), plan
    assert not any("B-TREE" in step[3] for step in plan), plan
