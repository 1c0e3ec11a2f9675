"""What a workflow reserves is found by few looks, however large it is, and costs others nothing."""

import re

import pytest
from sqlite_bench import engine, noting, rows

from cicely.core.outcome import Succeeded
from cicely.engines.contract import Session
from cicely.engines.sqlite import agenda
from cicely.engines.sqlite.engine import SqliteEngine
from cicely.engines.sqlite.statements import statements
from cicely.engines.sqlite.transaction import Transaction
from cicely.testing.conformance.bench import demand, job, wanting

__all__ = ["engine"]

GPU = wanting(gpu=1)
OFFERS = {"gpu": {"0": 1.0}}


def _keep(engine: SqliteEngine, many: int) -> None:
    """Have a job of a workflow with so many ready ones keep what it was given."""
    engine.join(Session(id="t", worker="boss", tasks=frozenset({"work"}), offers=OFFERS))
    engine.enqueue([job(id="first", workflow="w", flow=GPU, priority=9)])
    engine.enqueue([job(id=f"j{n}", workflow="w", flow=GPU) for n in range(many)])
    [claim] = engine.claim("t", demand()).claims
    engine.settle("t", [Succeeded(claim.token, keeps=("gpu",))])


def _drawing(engine: SqliteEngine) -> int:
    """How many ready jobs stand where those stand that draw."""
    [(count,)] = rows(
        engine,
        "SELECT count(*) FROM gated g JOIN stream s ON s.id = g.stream JOIN seat t ON t.id = s.seat "
        "JOIN band b ON b.id = t.band WHERE instr(b.wants, CAST('draws' AS BLOB))",
    )
    return count


def test_of_a_large_workflow_so_many_jobs_at_once_come_to_draw(engine):
    many = 3 * agenda.PER_CALL

    _keep(engine, many)
    at_once = _drawing(engine)
    sweeps = 0
    while engine.sweep(1_000).more:
        sweeps += 1
        assert sweeps < 10

    assert 0 < at_once <= agenda.PER_CALL
    assert _drawing(engine) == many


def test_in_pages_they_come_to_draw_once_each(engine, monkeypatch):
    monkeypatch.setattr("cicely.engines.sqlite.reserving._PAGE", 2)

    _keep(engine, 7)
    while engine.sweep(1_000).more:
        pass

    assert _drawing(engine) == 7
    assert rows(engine, "SELECT count(*) FROM gated") == [(7,)]


def test_a_job_without_resources_asks_nothing_of_reservations(engine, monkeypatch):
    _keep(engine, 1)
    asked: list[str] = []
    monkeypatch.setattr(Transaction, "row", noting(asked, Transaction.row))
    monkeypatch.setattr(Transaction, "rows", noting(asked, Transaction.rows))

    engine.enqueue([job(id="plain"), job(id="in lane", lane="a"), job(id="of w", workflow="w")])
    claims = engine.claim("s", demand(3)).claims
    engine.settle("s", [Succeeded(claim.token) for claim in claims])

    assert len(claims) == 3
    assert not set(statements("reserve").values()) & set(asked)


@pytest.mark.parametrize("name", ["used", "drawn_in", "held", "members", "standing"])
def test_what_is_reserved_is_found_by_an_index(engine, name):
    text = re.sub(r"\?\d", "0", statements("reserve")[name])
    plan = rows(engine, f"EXPLAIN QUERY PLAN {text}")

    assert not [step for step in plan if "SCAN" in step[3] and "VIRTUAL TABLE" not in step[3]], plan
