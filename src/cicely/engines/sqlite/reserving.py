"""Carries out what outcomes keep of their worker for their workflow, and what they free."""

from __future__ import annotations

from typing import Final

from cicely.core.outcome import Outcome, Succeeded, frees_of, keeps_of
from cicely.engines.sqlite.agenda import BIND, PER_CALL, Agenda, Task
from cicely.engines.sqlite.gates import gates_of
from cicely.engines.sqlite.limiting import read_flow
from cicely.engines.sqlite.member import session_of
from cicely.engines.sqlite.reservations import Held
from cicely.engines.sqlite.statements import statements
from cicely.engines.sqlite.transaction import Transaction, numbers

_SQL: Final = statements("reserve")
_STEER: Final = statements("steer")
_SESSIONS: Final = statements("sessions")

#: So many jobs of a workflow are looked at in a page, which counts as so many that are touched.
_PAGE: Final = PER_CALL
_COST_OF_A_PAGE: Final = 16


def heed(agenda: Agenda, outcome: Outcome, n: int, job_id: str, session: int, *, cancelling: bool) -> None:
    """End what an outcome frees, then keep what its job, of a workflow, leaves to it."""
    if isinstance(outcome, Succeeded) and outcome.keeps == outcome.frees == ():
        return
    frees, keeps = frees_of(outcome), keeps_of(outcome, cancelling=cancelling)
    if not frees and not keeps:
        return
    txn = agenda.txn
    found = txn.row(_SQL["workflow"], (n,))
    if found is None:
        return
    number, workflow = found
    kept = gates_of(txn).reservations
    if frees:
        kept.free(workflow, frees)
        txn.freshen()
    holder = txn.row(_STEER["worker"], (session,)) if keeps else None
    if holder is not None and kept.keep(Held(n, job_id, workflow, session_of(*holder).offers), keeps):
        agenda.push(Task(BIND, -number))
        agenda.run()


def bind(agenda: Agenda, task: Task) -> Task | None:
    """Have the jobs of a workflow that are ready by now draw what it has reserved as well."""
    txn = agenda.txn
    agenda.left -= _COST_OF_A_PAGE
    found = txn.row(_SQL["name"], (-task.n,))
    page = [n for (n,) in txn.rows(_SQL["members"], (-task.n, task.cursor, _PAGE))]
    if not page or found is None:
        return None
    gates = gates_of(txn)
    wanting = [
        row[:3]
        for row in txn.rows(_SQL["standing"], (numbers(page),))
        if gates.reservations.has_some_for(found[0], read_flow(row[3])[0].resources)
    ]
    if wanting:
        gates.streams.leave(wanting)
        gates.streams.make_ready(n for _, _, n in wanting)
        agenda.left -= len(wanting)
    return task._replace(cursor=page[-1]) if len(page) == _PAGE else None


def end_with_worker(txn: Transaction, worker: str) -> None:
    """End what is reserved on a worker, if a session that was closed just now was its last."""
    kept = gates_of(txn).reservations
    if kept.left_on(worker) and _is_gone(txn, worker):
        kept.end_on(worker)


def _is_gone(txn: Transaction, worker: str) -> bool:
    rows = txn.rows(_SESSIONS["open_sessions"])
    return all(session_of(key, facts).worker != worker for key, facts, *_ in rows)


def end_unused(txn: Transaction, batch: int) -> int:
    """End at most `batch` reservations of workflows of which no job is live; return how many."""
    ended = gates_of(txn).reservations.end_first(batch)
    if ended:
        txn.freshen()
    return ended
