"""What one call cannot do is written down, and carried out in pages, once and in order."""

import os
import re
from itertools import pairwise

import msgspec
import pytest
from sqlite_bench import engine, noting, rows

from cicely.core.edge import Edge, Rule
from cicely.core.job import Claim
from cicely.core.outcome import Await, Failed, Step, Succeeded, Suspended
from cicely.core.states import State
from cicely.engines.contract import Intake, Save, Settled, Verdict
from cicely.engines.sqlite import agenda, cascade, deciding
from cicely.engines.sqlite.engine import SqliteEngine
from cicely.engines.sqlite.statements import statements
from cicely.engines.sqlite.transaction import Transaction
from cicely.testing.conformance.bench import counts, demand, job, take
from cicely.testing.conformance.embedded import SqliteHarness
from cicely.testing.machine import check_random_verbs

__all__ = ["engine"]


class PagingEngine(SqliteEngine):
    """After each move, carries out what was written down, in the smallest pages.

    What is more than a page comes after the call that wrote it down. So a call that does one thing after
    another is several calls here; else the second would come before what follows from the first.
    """

    def _write(self, verb, work):
        try:
            return super()._write(verb, work)
        finally:
            for _ in range(10_000):
                if not self._read(agenda.has_intents):
                    break
                super()._write("sweep", cascade.carry_on)
            else:
                raise AssertionError("10,000 pages were not enough")

    def steer(self, move, job_ids, *, reason=""):
        steer = super().steer
        return [moved for one in dict.fromkeys(job_ids) for moved in steer(move, [one], reason=reason)]

    def sweep(self, batch, silent=()):
        swept = super().sweep(batch, silent)
        # What it wrote down was more, and is done.
        return msgspec.structs.replace(swept, more=swept.more and super().sweep(batch).more)

    def settle(self, session_id, outcomes, demand=None):
        settle = super().settle
        if demand is not None and session_id not in {record.session.id for record in self.sessions()}:
            return settle(session_id, outcomes, demand)
        verdicts = [settle(session_id, [one]).verdicts[0] for one in outcomes]
        intake = Intake() if demand is None else self.claim(session_id, demand)
        return Settled(tuple(verdicts), intake)


class PagingHarness(SqliteHarness):
    """The SQLite engine at one job per page."""

    def engine(self):
        path = os.path.join(self._folder.name, "jobs.db")
        engine = PagingEngine(path, durability="none", now=self.clock.now)
        engine.open()
        self._opened.append(engine)
        return engine


@pytest.mark.parametrize("per_call", [1, 2])
def test_in_pages_random_verbs_come_to_the_same_end(monkeypatch, per_call):
    for module in (agenda, deciding):
        monkeypatch.setattr(module, "PER_CALL", per_call)

    check_random_verbs(PagingHarness, examples=30)


@pytest.mark.parametrize("per_call", [1, 2, 3, 4, agenda.PER_CALL])
def test_what_a_cancelled_job_waits_for_is_asked_to_end_though_a_page_ends_before_it(
    engine, monkeypatch, per_call
):
    """A page that ends at "ready" must not have its end cancel "behind" first: "runs" would go on."""
    engine.enqueue([job(id="fails"), job(id="runs")])
    fails, _ = take(engine, 2)
    engine.enqueue(
        [job(id="ready"), job(id="behind"), job(id="body")],
        [
            Edge("fails", "body", cancels_siblings=True),
            Edge("ready", "body"),
            Edge("behind", "body"),
            Edge("ready", "behind"),
            Edge("runs", "behind"),
        ],
    )
    for module in (agenda, deciding):
        monkeypatch.setattr(module, "PER_CALL", per_call)

    engine.settle("s", [Failed(fails.token, "error", b"why")])
    while engine.sweep(per_call).more:
        pass

    assert [found.cancelling for found in engine.get(["runs"])] == [True]
    assert counts(engine) == {State.FAILED: 1, State.RUNNING: 1, State.CANCELLED: 3}


@pytest.mark.parametrize("per_call", [1, 2, 3, 4, agenda.PER_CALL])
def test_what_follows_from_the_rest_of_a_page_waits_for_what_followed_before(engine, monkeypatch, per_call):
    engine.enqueue([job(id="fails"), job(id="ready")])
    [fails] = take(engine)
    engine.enqueue(
        [job(id="late"), job(id="body"), job(id="behind")],
        [
            Edge("fails", "late", Rule.FAILURE, cancels_siblings=True),
            Edge("fails", "body", cancels_siblings=True),
            Edge("ready", "behind"),
            Edge("ready", "body"),
            Edge("body", "behind"),
        ],
    )
    for module in (agenda, deciding):
        monkeypatch.setattr(module, "PER_CALL", per_call)

    engine.settle("s", [Failed(fails.token, "error", b"why")])
    while engine.sweep(per_call).more:
        pass

    assert [found.reason for found in engine.get(["body", "behind"])] == ["job fails failed"] * 2


# --- bounds ---------------------------------------------------------------------------------------
MANY = 900


def _fan_out(engine: SqliteEngine, **options) -> Claim:
    """A running job, and many that come after it."""
    names = [f"n{n}" for n in range(MANY)]
    engine.enqueue([job(id="a", **options)])
    [claim] = take(engine)
    engine.enqueue([job(id=name, **options) for name in names], [Edge("a", name) for name in names])
    return claim


def test_one_call_touches_a_bounded_number_of_jobs(engine):
    claim = _fan_out(engine)

    engine.settle("s", [Failed(claim.token, "error", b"why")])
    seen = [counts(engine)[State.CANCELLED]]
    while engine.sweep(100).more:
        seen.append(counts(engine)[State.CANCELLED])

    assert seen[0] == agenda.PER_CALL
    assert max(b - a for a, b in pairwise(seen)) <= 100
    assert counts(engine) == {State.FAILED: 1, State.CANCELLED: MANY}


def test_the_same_callers_next_calls_carry_on(engine):
    claim = _fan_out(engine)
    engine.settle("s", [Succeeded(claim.token)])

    left = [rows(engine, "SELECT count(*) FROM node WHERE waits")[0][0] for _ in range(9) if take(engine)]

    assert left[:3] == [MANY - 2 * agenda.PER_CALL, MANY - 3 * agenda.PER_CALL, 0]
    assert rows(engine, "SELECT count(*) FROM intent") == [(0,)]


def test_what_is_written_down_comes_after_the_rest_of_its_call(engine):
    claim = _fan_out(engine)

    settled = engine.settle("s", [Succeeded(claim.token)], demand(MANY))

    assert len(settled.intake.claims) == agenda.PER_CALL


def test_a_job_is_moved_by_hand_that_what_is_written_down_has_not_reached(engine):
    names = [f"n{n}" for n in range(MANY)]
    engine.enqueue([job(id="a"), *(job(id=name) for name in names)], [Edge("a", name) for name in names])

    moved = engine.steer("cancel", ["a", names[0], names[-1]])
    while engine.sweep(1000).more:
        pass

    assert moved == ["a", names[-1]]
    assert [found.cause for found in engine.get([names[0], names[-1]])] == ["a", ""]
    assert counts(engine) == {State.CANCELLED: MANY + 1}


def test_what_was_written_down_outlives_the_process(engine, clock, tmp_path):
    claim = _fan_out(engine)
    engine.settle("s", [Succeeded(claim.token)])
    engine.close()

    again = SqliteEngine(str(tmp_path / "jobs.db"), now=clock.now)
    while again.sweep(1000).more:
        pass

    assert counts(again) == {State.SUCCEEDED: 1, State.READY: MANY}
    again.close()


def test_a_revival_waits_until_the_failure_before_it_has_reached_all(engine):
    claim = _fan_out(engine)
    engine.settle("s", [Failed(claim.token, "error", b"why")])

    engine.steer("revive", ["a"])
    cancelled = counts(engine)[State.CANCELLED]
    while engine.sweep(1000).more:
        pass

    assert cancelled == agenda.PER_CALL
    assert counts(engine) == {State.READY: 1, State.WAITING: MANY}
    engine.settle("s", [Succeeded(take(engine)[0].token)])
    while engine.sweep(1000).more:
        pass
    assert counts(engine) == {State.SUCCEEDED: 1, State.READY: MANY}


def test_jobs_of_other_graphs_do_not_wait_for_what_is_written_down(engine):
    engine.enqueue([job(id="p"), job(id="q")], [Edge("p", "q")])
    [plain] = take(engine)
    claim = _fan_out(engine)
    engine.settle("s", [Failed(claim.token, "error", b"why")])

    engine.settle("s", [Succeeded(plain.token)])

    assert engine.get(["q"])[0].state is State.READY


def test_members_that_end_do_not_wait_for_a_workflow_that_is_being_published(engine):
    members = [f"m{n}" for n in range(MANY)]
    edges = [Edge(member, "body") for member in members]
    engine.enqueue([*(job(id=member) for member in members), job(id="body")], edges)
    claims = take(engine, MANY)
    engine.enqueue([job(id=f"h{n}", workflow="w", held=True) for n in range(MANY)])
    engine.publish("w")

    engine.settle("s", [Succeeded(claim.token) for claim in claims])

    assert rows(engine, "SELECT count(*) FROM intent") == [(1,)]
    assert engine.get(["body"])[0].state is State.READY


def test_the_edges_into_a_discarded_job_are_removed_in_pages(engine):
    names = [f"n{n}" for n in range(MANY)]
    engine.enqueue([job(id="z"), *(job(id=name) for name in names)], [Edge(name, "z") for name in names])
    engine.steer("cancel", ["z"])

    assert engine.steer("discard", ["z"]) == ["z"]
    after_one_call = rows(engine, "SELECT count(*) FROM edge")[0][0]
    while engine.sweep(1000).more:
        pass

    assert after_one_call == MANY - agenda.PER_CALL
    assert rows(engine, "SELECT (SELECT count(*) FROM edge), (SELECT count(*) FROM gone)") == [(0, 0)]


def test_a_workflow_is_deleted_in_pages_and_nothing_of_it_is_left(engine, clock):
    claim = _fan_out(engine, workflow="w", group="g", keep_s=60.0, keep_failed_s=60.0)
    engine.save("s", [Save(claim.token, steps=(Step("k", b"v"),))])
    engine.settle("s", [Failed(claim.token, "error", b"why")])
    while engine.sweep(1000).more:
        pass
    clock.at += 3_700

    deleted = []
    while True:
        swept = engine.sweep(100)
        deleted.append(swept.deleted)
        if not swept.more:
            break

    assert (sum(deleted), max(deleted)) == (MANY + 1, 100)
    tables = ("job", "node", "edge", "gone", "step", "workflow", "done", "sweepable", "intent")
    assert {table: rows(engine, f"SELECT count(*) FROM {table}")[0][0] for table in tables} == dict.fromkeys(
        tables, 0
    )


def test_many_small_workflows_are_deleted_by_few_sweeps(engine, clock):
    engine.enqueue([job(id=f"j{n}", workflow=f"w{n % 50}", keep_s=60.0) for n in range(100)])
    engine.settle("s", [Succeeded(claim.token) for claim in take(engine, 100)])
    clock.at += 3_700

    swept = engine.sweep(500)

    assert (swept.deleted, swept.more) == (100, False)
    assert rows(engine, "SELECT count(*) FROM workflow") == [(0,)]


def test_a_workflow_that_was_published_before_its_jobs_came_is_kept_for_a_day(engine, clock):
    engine.publish("w")
    clock.at += 80_000
    engine.sweep(100)
    engine.enqueue([job(id="a", workflow="w", held=True)])
    ready = engine.get(["a"])[0].state
    engine.publish("other")
    clock.at += 90_000
    for _ in range(2):
        engine.sweep(100)
    clock.at += 90_000
    engine.sweep(100)

    assert ready is State.READY
    assert rows(engine, "SELECT name FROM workflow") == [("w",)]


def test_a_workflow_that_was_never_published_goes_with_its_running_jobs(engine, clock):
    engine.enqueue([job(id="a", workflow="w"), job(id="b", workflow="w", held=True)], [Edge("a", "b")])
    [claim] = take(engine)
    engine.enqueue([job(id="outside")], [Edge("a", "outside", Rule.DONE)])
    clock.at += 90_000

    while engine.sweep(100).more:
        pass

    assert engine.get(["a", "b"]) == [None, None]
    assert engine.settle("s", [Succeeded(claim.token)]).verdicts == (Verdict.STALE,)
    assert engine.get(["outside"])[0].state is State.READY
    assert counts(engine) == {State.READY: 1}


def test_a_revived_workflow_is_not_deleted(engine, clock):
    engine.enqueue([job(id=name, workflow="w", keep_s=60.0, keep_failed_s=60.0) for name in "ab"])
    first, second = take(engine, 2)
    engine.settle("s", [Succeeded(first.token), Failed(second.token, "error", b"why")])
    clock.at += 3_700
    engine.steer("revive", ["b"])

    while engine.sweep(100).more:
        pass

    assert [job is not None for job in engine.get(["a", "b"])] == [True, True]


def _discarded_parent(engine: SqliteEngine) -> None:
    """Leave a job "b" behind one that was the newest of all and is deleted."""
    engine.enqueue([job(id="b"), job(id="a")], [Edge("a", "b")])
    [claim] = take(engine)
    engine.settle("s", [Succeeded(claim.token)])
    engine.steer("cancel", ["b"])
    engine.steer("discard", ["a"])


def test_a_new_job_does_not_stand_where_a_deleted_one_of_another_id_stood(engine):
    _discarded_parent(engine)

    engine.enqueue([job(id="c")])

    assert [(end.id, end.is_gone) for end in engine.parents("b")] == [("a", True)]


def test_an_id_that_is_used_again_stands_where_the_deleted_job_stood(engine):
    _discarded_parent(engine)

    engine.enqueue([job(id="a")])

    assert [(end.id, end.state, end.is_gone) for end in engine.parents("b")] == [("a", State.READY, False)]
    assert rows(engine, "SELECT count(*) FROM gone") == [(0,)]


# --- an idle worker pays nothing --------------------------------------------------------------------
def test_jobs_that_sleep_or_wait_are_not_looked_at(engine, monkeypatch):
    def asked_by_a_claim_and_a_sweep() -> list[str]:
        asked: list[str] = []
        with monkeypatch.context() as patch:
            for name in ("row", "rows"):
                patch.setattr(Transaction, name, noting(asked, getattr(Transaction, name)))
            take(engine)
            engine.sweep(100)
        return asked

    engine.enqueue([job(id="first")])
    engine.settle("s", [Succeeded(claim.token) for claim in take(engine)])
    before = asked_by_a_claim_and_a_sweep()
    for n in range(50):
        engine.enqueue([job(id=f"s{n}"), job(id=f"e{n}")])
        sleeps, waits = take(engine, 2)
        engine.settle("s", [Suspended(sleeps.token, delay_s=1e6)])
        engine.settle("s", [Suspended(waits.token, event=Await("go", "k", "wait"))])

    assert asked_by_a_claim_and_a_sweep() == before


@pytest.mark.parametrize("duty", ["graph", "intent", "suspend", "workflow", "schedule"])
def test_no_statement_of_workflows_reads_a_whole_table(engine, duty):
    for name, text in statements(duty).items():
        plan = rows(engine, "EXPLAIN QUERY PLAN " + re.sub(r"\?\d?", "0", text))
        scans = [step[3] for step in plan if step[3].startswith("SCAN") and not _is_fine(step[3])]
        assert (name, scans) in [(name, []), ("all", ["SCAN schedule"])]


def _is_fine(step: str) -> bool:
    """A list that was bound, a row of constants, and the first row of a table or an index."""
    words = step.split()
    return words[1] in {"c", "carray", "CONSTANT"} or step in FIRST_ROWS


FIRST_ROWS = {
    "SCAN intent USING COVERING INDEX intent_n",
    "SCAN intent USING INDEX intent_order",
    "SCAN schedule USING COVERING INDEX schedule_next",
}
