"""Jobs that let go of their slot: what they wait for, their steps, and the events that they take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cicely.core.job import rank
from cicely.core.outcome import Await, Step, Suspended
from cicely.engines.contract import KEEP_EVENT_S
from cicely.engines.sqlite.agenda import Agenda
from cicely.engines.sqlite.deciding import cancel_broken
from cicely.engines.sqlite.edges import Links
from cicely.engines.sqlite.endings import Row
from cicely.engines.sqlite.graph import flag, let_go, nodes_of
from cicely.engines.sqlite.statements import statements
from cicely.engines.sqlite.transaction import NODE, RUNNING, SCHEDULED, STEPS, WAITING, Transaction, numbers
from cicely.engines.sqlite.workflows import publish

_SQL: Final = statements("suspend")
_GRAPH: Final = statements("graph")
_SETTLE: Final = statements("settle")
_ENQUEUE: Final = statements("enqueue")


def suspend(agenda: Agenda, row: Row, outcome: Suspended) -> None:
    """Let a running job wait for what it asked for; it expires no more."""
    txn = agenda.txn
    record_steps(txn, row.n, outcome.steps)
    _stop_running(txn, row, outcome.reason)
    if outcome.publishes:
        publish(agenda, outcome.publishes)
    _add_edges(txn, row, outcome)
    node = nodes_of(txn, (row.n,))[row.n]
    if node.waits and not cancel_broken(agenda, node) and node.is_free and node.event is None:
        _wait(txn, row, outcome)
    agenda.run()


def _stop_running(txn: Transaction, row: Row, reason: str) -> None:
    txn.execute(_SETTLE["unrun"], (numbers((row.n,)),))
    txn.execute(
        _SETTLE["again"],
        (
            row.n, row.errors, row.crashes, row.lost, row.fence, row.attempt, row.started_at,
            row.job_class, row.rank, None, reason, None,
        ),
    )  # fmt: skip
    txn.execute(_GRAPH["wait"], (row.n,))
    flag(txn, (row.n,), NODE)
    txn.move(row.queue, RUNNING, WAITING)


def _add_edges(txn: Transaction, row: Row, outcome: Suspended) -> None:
    if not outcome.edges:
        return
    links = Links(txn, fresh={}, waiting=(), next_n=lambda: next_number(txn))
    links.add(outcome.edges)
    links.write()


def next_number(txn: Transaction) -> int:
    """Return a number that no job has or had, as far as anything still names it."""
    [(of_jobs, of_gone, *_)] = txn.rows(_ENQUEUE["last_n"])
    return 1 + max(of_jobs or 0, of_gone or 0)


def _wait(txn: Transaction, row: Row, outcome: Suspended) -> None:
    """Begin the wait of a job whose edges do not keep it: for an event, a time, or for nothing."""
    wanted = outcome.event
    until = None if outcome.delay_s is None else txn.now + outcome.delay_s
    if wanted is not None and not _take_event(txn, row.n, wanted):
        txn.execute(_SQL["await"], (row.n, wanted.name, wanted.key, wanted.step))
        if until is not None:
            txn.execute(_SQL["due"], (row.n, until))
            txn.execute(_ENQUEUE["deferred"], (until, row.n))
    elif wanted is None and until is not None:
        txn.execute(_GRAPH["stop_waiting"], (numbers((row.n,)),))
        order = rank(row.priority, until, ageing_s=row.ageing_s)
        txn.execute(_GRAPH["go_later"], (row.n, order, until, None))
        txn.execute(_ENQUEUE["deferred"], (until, row.n))
        txn.move(row.queue, WAITING, SCHEDULED)
        txn.is_stirred = True
    else:
        let_go(txn, (row.n,))


# --- steps ----------------------------------------------------------------------------------------
def record_steps(txn: Transaction, n: int, steps: Sequence[Step]) -> None:
    """Keep the steps of a job whose keys are new."""
    if steps:
        txn.many(_SQL["step"], [(n, step.key, step.value) for step in steps])
        flag(txn, (n,), STEPS)


def steps(txn: Transaction, job_id: str, after: int, limit: int) -> list[Step]:
    """Return the recorded steps of a job, oldest first."""
    return [Step(key, value) for key, value in txn.rows(_SQL["steps"], (job_id, after, limit))]


# --- events ---------------------------------------------------------------------------------------
def signal(txn: Transaction, event_id: str, name: str, key: str, value: bytes) -> str:
    """Give an event to the oldest job that waits for it, else keep it; return the job's id."""
    if txn.row(_SQL["known"], (event_id,)) is not None:
        return ""
    waiting = txn.row(_SQL["awaiting"], (name, key))
    kept = b"" if waiting else value
    txn.execute(_SQL["send"], (event_id, name, key, kept, txn.now, int(waiting is not None)))
    if waiting is None:
        return ""
    n, step = waiting
    record_steps(txn, n, (Step(step, value),))
    txn.execute(_GRAPH["clear_event"], (n,))
    job_id, due_at = txn.rows(_SQL["awaited"], (n,))[0]
    if due_at is not None:
        txn.execute(_SETTLE["undeferred"], (due_at, n))
    let_go(txn, (n,))
    return str(job_id)


def stop_awaiting(txn: Transaction, ns: Sequence[int]) -> set[int]:
    """End the waits of those that wait for an event whose time is over: they get an empty value."""
    waited = txn.rows(_SQL["awaited_in_vain"], (numbers(ns),))
    for n, step in waited:
        record_steps(txn, n, (Step(step, b""),))
        txn.execute(_GRAPH["clear_event"], (n,))
    stopped = {n for n, _ in waited}
    if stopped:
        txn.execute(_GRAPH["stop_waiting"], (numbers(stopped),))
    return stopped


def _take_event(txn: Transaction, n: int, wanted: Await) -> bool:
    """Record the oldest event that fits as a step of the job; False where there is none."""
    found = txn.row(_SQL["oldest"], (wanted.name, wanted.key))
    if found is None:
        return False
    seq, value = found
    txn.execute(_SQL["take"], (seq,))
    record_steps(txn, n, (Step(wanted.step, value),))
    return True


def forget_events(txn: Transaction, batch: int) -> None:
    """Drop the events, and the ids of taken ones, whose time is over."""
    txn.execute(_SQL["forget"], (txn.now - KEEP_EVENT_S, batch))
