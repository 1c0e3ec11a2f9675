"""Workflows: publishing one, and deleting it when all its jobs are past their retention."""

from __future__ import annotations

from typing import Final

from cicely.core.failpoints import failpoint
from cicely.core.job import DAY_S
from cicely.core.outcome import Finish
from cicely.core.states import State
from cicely.engines.sqlite.agenda import DECIDE, JUDGE, PUBLISH, Agenda, Task
from cicely.engines.sqlite.deleting import delete, has_live_child
from cicely.engines.sqlite.endings import Removals, rows_of
from cicely.engines.sqlite.graph import let_go, nodes_of
from cicely.engines.sqlite.statements import statements
from cicely.engines.sqlite.transaction import CHILDREN, Transaction, Values, numbers

_SQL: Final = statements("workflow")

#: How often a workflow is looked at, and how soon again where the last of its jobs is nearly old enough.
LOOK_EVERY_S: Final = 1_800.0
_SOON_S: Final = 60.0
#: How a workflow stands: some of its jobs may live, all of them are being deleted, old or abandoned.
_LIVES, _LEAVES, _ABANDONED = range(3)
#: The jobs that are held without a workflow are nobody's to delete.
_NEVER: Final = 1e18


class Labels:
    """The workflows that one call names, by their numbers."""

    def __init__(self, txn: Transaction) -> None:
        self._txn = txn
        self._known: dict[str, tuple[int, bool]] = {}

    def of(self, name: str) -> tuple[int, bool]:
        """Return the number of a workflow, and whether it is published."""
        found = self._known.get(name)
        if found is None:
            row = self._txn.row(_SQL["known"], (name,)) or (_added(self._txn, name, published=0), 0)
            found = self._known[name] = (row[0], bool(row[1]))
        return found


def _added(txn: Transaction, name: str, *, published: int) -> int:
    check_at = txn.now + LOOK_EVERY_S if name else _NEVER
    row = txn.row(_SQL["add"], (name, check_at, published))
    return int(row[0]) if row else 0


def publish(agenda: Agenda, name: str) -> None:
    """Let the held jobs of a workflow go, those of later calls as well."""
    number = _added(agenda.txn, name, published=1)
    failpoint("sqlite.publish.before_release")
    agenda.push(Task(PUBLISH, -number))
    agenda.run()


def let_held_go(agenda: Agenda, task: Task) -> Task | None:
    """Let the held jobs of a published workflow go, a page of them."""
    txn = agenda.txn
    found = txn.rows(_SQL["held"], (-task.n, agenda.left + 1))
    ns = [n for (n,) in found[: agenda.left]]
    if not ns:
        return None
    is_cut = len(found) > agenda.left
    agenda.left -= len(ns)
    txn.execute(_SQL["let_go"], (numbers(ns),))
    nodes = nodes_of(txn, ns)
    waiting = [nodes[n] for n in ns if nodes[n].waits]
    let_go(txn, [node.n for node in waiting if node.is_free and not node.broken and node.event is None])
    agenda.push_late(*(Task(JUDGE, node.n) for node in waiting if node.broken))
    return task if is_cut else None


# --- retention ----------------------------------------------------------------------------------
def delete_old_workflows(agenda: Agenda, batch: int) -> tuple[int, bool]:
    """Look at workflows whose turn it is; return how many jobs went, and whether there is more."""
    left, deleted = batch, 0
    while left > 0:
        due = agenda.txn.row(_SQL["due"], (agenda.txn.now,))
        if due is None:
            return deleted, False
        looked_at, gone = _look_at(agenda, due, left)
        left -= max(1, looked_at)
        deleted += gone
    return deleted, True


def _look_at(agenda: Agenda, due: Values, batch: int) -> tuple[int, int]:
    """Look at a page of one workflow; return how many jobs were looked at and how many went."""
    txn = agenda.txn
    number, cursor, phase = due
    if phase == _ABANDONED or _is_abandoned(txn, number):
        gone = _delete_abandoned(agenda, number, batch)
        return gone, gone
    found = [n for (n,) in txn.rows(_SQL["members"], (number, cursor, batch))]
    stays_until = _stays_until(txn, found)
    is_last = len(found) < batch
    if stays_until is not None:
        txn.execute(_SQL["look_again"], (number, stays_until, 0, _LIVES))
        return len(found), 0
    if phase == _LEAVES or (is_last and found and not cursor):
        delete(txn, found)
        if is_last:
            txn.execute(_SQL["drop"], (number,))
        else:
            txn.execute(_SQL["look_again"], (number, txn.now, 0, _LEAVES))
        return len(found), len(found)
    if found and not is_last:
        txn.execute(_SQL["look_again"], (number, txn.now, found[-1], _LIVES))
    else:
        # One without jobs was published before they come, perhaps: it is kept for a day.
        at = txn.now if found or cursor else txn.now + DAY_S
        txn.execute(_SQL["look_again"], (number, at, 0, _LEAVES))
    return len(found), 0


def _stays_until(txn: Transaction, ns: list[int]) -> float | None:
    """Return when to look again where one of these jobs has to stay, else None."""
    for n, flags, delete_at in txn.rows(_SQL["last_ends"], (numbers(ns),)):
        if delete_at is None or (flags & CHILDREN and has_live_child(txn, n)):
            return txn.now + LOOK_EVERY_S
        if delete_at > txn.now:
            return max(float(delete_at), txn.now + _SOON_S)
    return None


def _is_abandoned(txn: Transaction, number: int) -> bool:
    """Return whether jobs of a workflow were held for a day."""
    oldest = txn.row(_SQL["held_since"], (number,))
    return oldest is not None and oldest[0] <= txn.now - DAY_S


def _delete_abandoned(agenda: Agenda, number: int, batch: int) -> int:
    """Delete the jobs of a workflow that nobody published, wherever they stand."""
    txn = agenda.txn
    ns = [n for (n,) in txn.rows(_SQL["members"], (number, 0, batch))]
    endings = Removals(txn)
    for row in rows_of(txn, ns):
        if row.end is None:
            endings.finish(row, Finish(State.CANCELLED, row.tallies, "its workflow was never published"))
    endings.write()
    agenda.push(*(Task(DECIDE, n) for n in endings.parents))
    agenda.run()
    delete(txn, ns)
    if len(ns) < batch:
        txn.execute(_SQL["drop"], (number,))
    else:
        txn.execute(_SQL["look_again"], (number, txn.now, 0, _ABANDONED))
    return len(ns)
