"""Where the moves of jobs and what follows from them come together: every end goes through here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from cicely.core.failpoints import failpoint
from cicely.core.outcome import Finish
from cicely.core.states import State, allows
from cicely.engines.sqlite import agenda as tasks
from cicely.engines.sqlite.agenda import Act, Agenda, Task
from cicely.engines.sqlite.deciding import cancel_before, decide, go_on, judge
from cicely.engines.sqlite.deleting import unlink
from cicely.engines.sqlite.endings import Endings, Row, rows_of
from cicely.engines.sqlite.reserving import bind
from cicely.engines.sqlite.transaction import Transaction
from cicely.engines.sqlite.undoing import stand_again, take_along, undo
from cicely.engines.sqlite.workflows import let_held_go

ACTS: Final[dict[int, Act]] = {
    tasks.DECIDE: decide,
    tasks.CANCEL_BEFORE: cancel_before,
    tasks.PUBLISH: let_held_go,
    tasks.UNDO: undo,
    tasks.TAKE_ALONG: take_along,
    tasks.JUDGE: judge,
    tasks.UNLINK: unlink,
    tasks.STAND_AGAIN: stand_again,
    tasks.BIND: bind,
}


def begin(txn: Transaction) -> Agenda:
    """Return an empty agenda."""
    return Agenda(txn, ACTS)


def conclude(agenda: Agenda, endings: Endings) -> None:
    """Write what ended, and carry out what follows from it."""
    endings.write()
    if endings.parents:
        failpoint("sqlite.end.before_release")
        go_on(agenda, endings)
        agenda.run()


def judge_each(txn: Transaction, ns: Iterable[int]) -> None:
    """Let waiting jobs go, or cancel them, where their edges say so."""
    agenda = begin(txn)
    agenda.push_late(*(Task(tasks.JUDGE, n) for n in ns))
    agenda.run()


def each(txn: Transaction, rows: Sequence[Row], act: Callable[[Endings, Row], None]) -> None:
    """Do something with each of some jobs; what follows from one end comes before the next."""
    agenda = begin(txn)
    endings = Endings(txn)
    are_stale = False
    for known in rows:
        for row in rows_of(txn, (known.n,)) if are_stale else (known,):
            act(endings, row)
        if endings.parents:
            conclude(agenda, endings)
            endings = Endings(txn)
            are_stale = True
    conclude(agenda, endings)


def expire(txn: Transaction, ns: Iterable[int]) -> None:
    """End jobs that were to start before now."""
    each(txn, rows_of(txn, ns), _expire_one)


def _expire_one(endings: Endings, row: Row) -> None:
    if allows("expire", row.state):
        endings.finish(row, Finish(State.EXPIRED, row.tallies, "not started before its deadline"))


def carry_on(txn: Transaction, left: int | None = None) -> None:
    """Carry out some of what earlier calls left to do."""
    if tasks.has_intents(txn):
        txn.may_have_intents = True
        tasks.carry_on(txn, ACTS, left)
