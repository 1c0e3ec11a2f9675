"""What is left to do of an end, a revival or a publication: written down with it, done in pages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import Final

import msgspec

from cicely.core.edge import Fate
from cicely.engines.postgres.graph import End
from cicely.engines.postgres.statements import statements
from cicely.engines.postgres.transaction import Transaction
from cicely.engines.postgres.wire import Values

_SQL: Final = statements("intent")

#: Behind every edge that there is.
ALL: Final = (1 << 63) - 1


class Kind(IntEnum):
    """What is to be done with a job."""

    #: Decide the edges out of it: it has ended.
    RESOLVE = 0
    #: Cancel those before it that are live, and what those wait for.
    CANCEL_BEFORE = 1
    #: Make the edges out of it undecided: it is back.
    UNDO = 2
    #: Let it go, or cancel it, where its edges say so.
    JUDGE = 3
    #: Bring back what was cancelled because of it.
    BRING_BACK = 4
    #: Let the held jobs of a workflow go.
    PUBLISH = 5
    #: Let it run at once, being revived, unless it waits for another that is back.
    STAND_AGAIN = 6
    #: Have the ready jobs of its workflow draw what that has reserved.
    BIND = 7


#: These come when nothing else is left: their numbers lie behind all others.
_LATE: Final = (Kind.JUDGE, Kind.STAND_AGAIN)


class Work(msgspec.Struct, gc=False, frozen=True):
    """Something to do with the job `n`, behind the edge (or job) `after`, up to `upto`.

    `job` is its id, or the name of a workflow; `fate` and `cause` say how it ended, or who began.
    """

    kind: Kind
    n: int
    job: str = ""
    fate: Fate = Fate.SUCCESS
    cause: str = ""
    reason: str = ""
    after: int = 0
    upto: int = ALL

    def behind(self, after: int) -> Work:
        """Return what is left of it."""
        return msgspec.structs.replace(self, after=after)


def resolve(end: End) -> Work:
    """Return what follows an end."""
    return Work(Kind.RESOLVE, end.n, fate=end.fate, cause=end.cause)


def write(txn: Transaction, works: Iterable[Work]) -> None:
    """Write down what is left; edges that are added later are none of it."""
    for statement, rows in _by_statement(works):
        txn.many(_SQL[statement], rows)
        txn.left_over = True


def _by_statement(works: Iterable[Work]) -> Iterator[tuple[str, list[Values]]]:
    rows: dict[bool, list[Values]] = {}
    for w in works:
        row = (w.kind, w.n, w.job, w.fate, w.cause, w.reason, w.after, w.upto)
        rows.setdefault(w.kind in _LATE, []).append(row)
    for is_late, some in rows.items():
        yield "write_late" if is_late else "write", some


def busy(txn: Transaction, ns: Iterable[int]) -> set[int]:
    """Return the jobs whose earlier intents are not carried out."""
    wanted = list(ns)
    return {n for (n,) in txn.rows(_SQL["busy"], {"ns": wanted})} if wanted else set()


def next_ones(txn: Transaction, limit: int) -> list[tuple[int, Work]]:
    """Return the oldest intents, late ones only by themselves, where nobody else carries them out."""
    if txn.row(_SQL["any"]) is None or not is_alone(txn):
        return []
    rows = txn.rows(_SQL["first"], {"limit": limit})
    found = [
        (number, Work(Kind(kind), n, job, Fate(fate), cause, reason, after, upto))
        for number, kind, n, job, fate, cause, reason, after, upto in rows
    ]
    in_time = [(number, work) for number, work in found if work.kind not in _LATE]
    return in_time or found


def is_alone(txn: Transaction) -> bool:
    """Return whether nobody else carries intents out; then nobody else does until this commit."""
    [(is_free,)] = txn.rows(_SQL["alone"])
    return bool(is_free)


def remove(txn: Transaction, number: int) -> None:
    """Forget an intent that was carried out."""
    txn.execute(_SQL["remove"], (number,))


def move_on(txn: Transaction, number: int, rest: Work) -> None:
    """Keep what is left of an intent in its place."""
    txn.execute(_SQL["move_on"], (rest.after, number))
    txn.left_over = True
