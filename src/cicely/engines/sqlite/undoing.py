"""Brings ended jobs back: what was cancelled because of a revived job waits again, and so on."""

from __future__ import annotations

from typing import Final

from cicely.core.edge import Role, Rule, broken_reason
from cicely.core.job import rank
from cicely.core.states import State
from cicely.core.traits import CANCELS_SIBLINGS, role_of, rule_of
from cicely.engines.contract import RECEIPT_LEASES
from cicely.engines.sqlite.agenda import JUDGE, STAND_AGAIN, TAKE_ALONG, UNDO, Agenda, Task
from cicely.engines.sqlite.endings import Row, rows_of
from cicely.engines.sqlite.gates import gates_of
from cicely.engines.sqlite.graph import Node, nodes_of, origin_of
from cicely.engines.sqlite.statements import statements
from cicely.engines.sqlite.transaction import (
    CANCELLED,
    CHILDREN,
    FAILED,
    NODE,
    READY,
    WAITING,
    Transaction,
    Values,
    numbers,
    token_of,
)

_SQL: Final = statements("graph")
_STEER: Final = statements("steer")
_ENQUEUE: Final = statements("enqueue")
_SETTLE: Final = statements("settle")
_SWEEP: Final = statements("sweep")
_WORKFLOW: Final = statements("workflow")

#: A session that is gone leaves its receipts for ten of these.
DEFAULT_LEASE_S: Final = 30.0
#: How soon after a revival a workflow's retention is looked at again.
_LOOK_AGAIN_S: Final = 1_800.0


def revive(agenda: Agenda, row: Row, reason: str) -> bool:
    """Run an ended job again; what was cancelled because of it, or ran after it, waits for it."""
    txn = agenda.txn
    node = nodes_of(txn, (row.n,)).get(row.n) if row.flags & NODE else None
    if has_holder(txn, row) or (node is not None and node.broken):
        return False
    order = rank(row.priority, txn.now, ageing_s=row.ageing_s)
    _bring_back(txn, row, reason, order)
    if node is not None:
        txn.execute(_SQL["without_cause"], (row.n,))
        txn.execute(_WORKFLOW["stay"], (row.n, txn.now + _LOOK_AGAIN_S))
    if node is not None and (not node.is_free or _may_come_behind(row, node)):
        txn.execute(_SQL["wait"], (row.n,))
        txn.move(row.queue, row.state_code, WAITING)
        agenda.push_late(Task(STAND_AGAIN, row.n))
    else:
        _make_ready(txn, row, row.state_code, order)
    if row.flags & CHILDREN:
        agenda.push(Task(UNDO, row.n, 0, row.id))
    return True


def _may_come_behind(row: Row, node: Node) -> bool:
    """Return whether jobs before this one may be brought back because of those behind it."""
    return bool(row.flags & CHILDREN and node.joins)


def stand_again(agenda: Agenda, task: Task) -> None:
    """Make a revived job ready, all being back, unless it waits for one that is back as well."""
    agenda.left -= 1
    txn = agenda.txn
    node = nodes_of(txn, (task.n,)).get(task.n)
    if node is None or not node.waits or not node.is_free:
        return
    [row] = rows_of(txn, (task.n,))
    txn.execute(_SQL["stop_waiting"], (numbers((task.n,)),))
    _make_ready(txn, row, WAITING, row.rank)


def _make_ready(txn: Transaction, row: Row, source: int, order: int) -> None:
    """Let a revived job run at once, whatever delay it asked for."""
    if row.lane or row.flow is not None:
        gates_of(txn).streams.make_ready((row.n,))
    else:
        txn.execute(_ENQUEUE["ready"], (row.queue, row.job_class, order, row.n))
    txn.move(row.queue, source, READY)
    txn.freshen()


def has_holder(txn: Transaction, row: Row) -> bool:
    """Return whether another live job holds this one's unique key."""
    return row.unique_key is not None and txn.row(_ENQUEUE["holder"], (row.unique_key,)) is not None


def _bring_back(txn: Transaction, row: Row, reason: str, order: int) -> None:
    _keep_last_attempt(txn, row)
    txn.execute(
        _STEER["revive"],
        (row.n, row.fence, row.attempt_then, row.started_at, order, reason or "revived"),
    )
    txn.execute(_STEER["clear_error"], (row.n,))
    if row.unique_key is not None:
        txn.execute(_ENQUEUE["uniq"], (row.unique_key, row.n))


def _keep_last_attempt(txn: Transaction, row: Row) -> None:
    """Turn a job's end into one of its attempts, with a receipt for whoever repeats the outcome."""
    [end] = txn.rows(_STEER["end"], (row.n,))
    state, ended_at, started_at, session, request, fence, attempt, outcome, error = end
    if session is not None:
        record = (row.n, fence, attempt, outcome, started_at, ended_at, session, error)
        txn.execute(_SETTLE["attempt"], record)
    if request is not None:
        until_at = txn.now + RECEIPT_LEASES * DEFAULT_LEASE_S
        txn.execute(_SETTLE["receipt"], (token_of(request, row.n, fence), outcome, until_at))
    txn.execute(_STEER["undone"], (row.n,))
    keep_s = row.keep_failed_s if state == FAILED else row.keep_s
    txn.execute(_SWEEP["unsweepable"], (ended_at + keep_s, row.n))


def _wait_again(agenda: Agenda, row: Row) -> None:
    """Bring back a job that ended because of another, or after it."""
    txn = agenda.txn
    _bring_back(txn, row, "", row.rank)
    txn.execute(_SQL["wait_again"], (row.n,))
    txn.execute(_WORKFLOW["stay"], (row.n, txn.now + _LOOK_AGAIN_S))
    txn.move(row.queue, row.state_code, WAITING)


def undo(agenda: Agenda, task: Task) -> Task | None:
    """Make the edges out of a job that is back undecided again, a page of them."""
    links = agenda.txn.rows(_SQL["out_of"], (task.n, task.cursor, agenda.left + 1))
    for link in links:
        if agenda.left <= 0:
            return task
        agenda.left -= 1
        task = task._replace(cursor=link[0])
        if link[3] is not None:
            _undo_one(agenda, link, task.cause)
    return None


def _undo_one(agenda: Agenda, link: Values, cause: str) -> None:
    txn = agenda.txn
    _, child, traits, _ = link
    row = next(iter(rows_of(txn, (child,))), None)
    if row is None:
        return
    if row.state is State.WAITING and not row.fence:
        _reopen(txn, link)
    elif row.end == CANCELLED and (txn.row(_SQL["cause"], (child,)) or (None,))[0]:
        _reopen(txn, link)
        if traits & CANCELS_SIBLINGS:
            rest = take_along(agenda, Task(TAKE_ALONG, child, 0, cause))
            if rest is not None:
                agenda.push(rest)
        _undo_cancellation(agenda, child, cause)
    elif _runs_again(txn, row, traits):
        _reopen(txn, link)
        _wait_again(agenda, row)
        if row.state is not State.SUCCEEDED:
            _undo_behind(agenda, row, cause)
        _judge_later(agenda, row)


def _reopen(txn: Transaction, link: Values) -> None:
    number, child, _, held = link
    txn.execute(_SQL["reopen"], (number,))
    txn.execute(_SQL["decided"], (-1, -int(not held), child))


def _runs_again(txn: Transaction, row: Row, traits: int) -> bool:
    """Return whether a job that ended after its parent's end is to do so anew."""
    if row.end is None or rule_of(traits) is Rule.SUCCESS:
        return False
    if row.state is State.SUCCEEDED and role_of(traits) is Role.CALL:
        return False
    return not has_holder(txn, row)


def _undo_cancellation(agenda: Agenda, child: int, cause: str) -> None:
    """Bring back a job that was cancelled because of its edges, unless others of them are broken."""
    txn = agenda.txn
    [row] = rows_of(txn, (child,))
    if row.end is None:
        return
    node = nodes_of(txn, (child,))[child]
    if not node.broken:
        if not has_holder(txn, row):
            _wait_again(agenda, row)
            _undo_behind(agenda, row, cause)
            _judge_later(agenda, row)
        return
    found = txn.row(_SQL["first_broken"], (child, 1, 0))
    if found is not None:
        parent, traits = found
        end = origin_of(txn, parent)
        reason = broken_reason(rule_of(traits), end.fate, end.cause)
        txn.execute(_SQL["new_cause"], (child, end.cause))
        txn.execute(_SQL["end_reason"], (child, reason))


def _undo_behind(agenda: Agenda, row: Row, cause: str) -> None:
    """Have the edges out of a job that is back made undecided again."""
    if row.flags & CHILDREN:
        agenda.push(Task(UNDO, row.n, 0, cause))


def _judge_later(agenda: Agenda, row: Row) -> None:
    """Judge a job that is back in the end, if it waits for nobody by then."""
    node = nodes_of(agenda.txn, (row.n,))[row.n]
    if node.is_free or node.broken:
        agenda.push_late(Task(JUDGE, row.n))


def take_along(agenda: Agenda, task: Task) -> Task | None:
    """Bring back the jobs that were cancelled for one cause, a page of them."""
    wanted = (task.cause, task.cursor, CANCELLED, agenda.left + 1)
    found = agenda.txn.rows(_SQL["taken_along"], wanted)
    is_cut = len(found) > agenda.left
    for row in rows_of(agenda.txn, (n for (n,) in found[: max(0, agenda.left)])):
        agenda.left -= 1
        task = task._replace(cursor=row.n)
        if not has_holder(agenda.txn, row):
            _wait_again(agenda, row)
            _undo_behind(agenda, row, task.cause)
            _judge_later(agenda, row)
    return task if is_cut else None
