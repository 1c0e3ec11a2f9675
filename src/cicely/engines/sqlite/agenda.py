"""What an end, a publication or a revival sets in motion: tasks, carried out in bounded pages.

A call carries out so many at once; the rest is written down as *intents*, in the same transaction, and
carried out by later calls and by sweeps. The cursor of an intent moves with what was done, so each step
is done once. A task of a job waits behind the intents of that job; whatever else the call does, its other
moves and its claim, comes before what it wrote down. What is left of a cancellation comes first of all that
was: what it has not reached must not end because of what it has.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from cicely.core.failpoints import failpoint
from cicely.engines.sqlite.statements import statements
from cicely.engines.sqlite.transaction import Transaction

_SQL: Final = statements("intent")

#: So many other jobs are touched by one call at most.
PER_CALL: Final = 256

#: What there is to do, as it is stored: never to change, there are files.
DECIDE, CANCEL_BEFORE, PUBLISH, UNDO, TAKE_ALONG, JUDGE, UNLINK, STAND_AGAIN, BIND = range(1, 10)


#: The order of what was written down, as it is stored.
_FIRST, _IN_TURN, _LATE = -1, 0, 1


class Task(NamedTuple):
    """Something to be done about a job (or about a workflow, as minus its number) from a cursor on."""

    kind: int
    n: int
    cursor: int = 0
    cause: str = ""
    reason: str = ""


class Agenda:
    """The tasks of one call, first come first served; those pushed as late come when all is done."""

    def __init__(self, txn: Transaction, acts: Mapping[int, Act], left: int | None = None) -> None:
        self.txn = txn
        #: How many jobs may still be touched.
        self.left = PER_CALL if left is None else min(left, PER_CALL)
        self._acts = acts
        self._first: list[Task] = []
        self._queue: deque[Task] = deque()
        self._late: deque[Task] = deque()
        self._has_stored: bool | None = None

    def push(self, *tasks: Task) -> None:
        """Add tasks at the end."""
        self._queue.extend(tasks)

    def leave_first(self, *tasks: Task) -> None:
        """Have the next call begin with these: there is no time for them now."""
        self._first.extend(tasks)

    def push_late(self, *tasks: Task) -> None:
        """Add tasks that are begun one by one, when nothing else is left."""
        self._late.extend(tasks)

    def run(self) -> None:
        """Carry out what there is, and write down what is too much."""
        put_off = self._work_off()
        # What is late waits for what was put off as well.
        while self.left > 0 and self._late and not put_off:
            self._carry_out(self._late.popleft())
            put_off = self._work_off()
        self._write_down(put_off)

    def run_in_turn(self) -> None:
        """Carry out what is not late, where nothing older is left, and write down the rest."""
        is_turn = self.txn.row(_SQL["any_older"]) is None
        self._write_down(self._work_off() if is_turn else [])

    def _work_off(self) -> list[Task]:
        """Carry out what is not late; return what waits behind earlier tasks."""
        put_off: list[Task] = []
        while self.left > 0 and self._queue:
            task = self._queue.popleft()
            if self._is_behind(task):
                put_off.append(task)
            else:
                self._carry_out(task)
        return put_off

    def _carry_out(self, task: Task) -> None:
        rest = self.perform(task)
        if rest is not None:
            self._queue.appendleft(rest)

    def _write_down(self, put_off: list[Task]) -> None:
        self._store(self._first, _FIRST)
        self._store([*put_off, *self._queue], _IN_TURN)
        self._store([*self._late], _LATE)
        self._first.clear()
        self._queue.clear()
        self._late.clear()

    def perform(self, task: Task) -> Task | None:
        """Carry out one task as far as it may go; return what is left of it."""
        return self._acts[task.kind](self, task)

    def _is_behind(self, task: Task) -> bool:
        """Return whether an earlier task of this job was written down."""
        if self._has_stored is None:
            self._has_stored = has_intents(self.txn)
        return self._has_stored and self.txn.row(_SQL["of"], (task.n,)) is not None

    def _store(self, tasks: list[Task], order: int) -> None:
        self.txn.many(_SQL["add"], [(*task, order) for task in tasks])
        if tasks:
            self._has_stored = self.txn.may_have_intents = True


Act = Callable[[Agenda, Task], Task | None]


def has_intents(txn: Transaction) -> bool:
    """Return whether anything was written down."""
    return txn.row(_SQL["any"]) is not None


def carry_on(txn: Transaction, acts: Mapping[int, Act], left: int | None = None) -> None:
    """Carry out some of what was written down, the oldest first."""
    agenda = Agenda(txn, acts, left)
    while agenda.left > 0 and (stored := txn.row(_SQL["next"])) is not None:
        number, kind, n, cursor, cause, reason, _ = stored
        rest = agenda.perform(Task(kind, n, cursor, cause, reason))
        # A page that touches nothing counts as well: no loop here is without a bound.
        agenda.left -= 1
        if rest is not None:
            txn.execute(_SQL["move"], (number, rest.cursor))
        else:
            txn.execute(_SQL["drop"], (number,))
        # What follows from it comes after all that is written down, not after this page of it.
        agenda.run_in_turn()
        failpoint("sqlite.intent.after_page")
