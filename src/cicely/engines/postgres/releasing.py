"""The common case of an end: successes that release what comes after them, and arrivals that are folded."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

import msgspec

from cicely.core.edge import Fate, holds
from cicely.core.traits import rule_of
from cicely.engines.postgres.cascade import MOST_TOUCHED, Cascade, follow
from cicely.engines.postgres.graph import MOST_AWAITED, End
from cicely.engines.postgres.statements import statements
from cicely.engines.postgres.transaction import Transaction
from cicely.engines.postgres.waiting import let_go

_SQL: Final = statements("graph")

#: So many arrivals of one job are folded, whatever it still waits for.
MANY_ARRIVALS: Final = 256


class Behind:
    """The edges out of jobs that may succeed in this call, which has locked them."""

    __slots__ = ("_answer", "_txn")

    def __init__(self, txn: Transaction, ns: Sequence[int]) -> None:
        self._txn = txn
        bounds = {"ns": list(ns), "limit": MOST_TOUCHED + 1, "most": MOST_AWAITED}
        self._answer = txn.later(_SQL["behind"], bounds)

    def links(self, ns: Collection[int]) -> list[_Behind] | None:
        """Return those out of `ns`; None where there are more than one call touches."""
        rows = self._txn.heard(self._answer)
        return [_Behind(*row) for row in rows if row[1] in ns] if len(rows) <= MOST_TOUCHED else None


def follow_successes(txn: Transaction, ends: Sequence[End], behind: Behind | None) -> bool:
    """Carry out what follows from successes: all at once where that only releases jobs.

    Return whether that was all, and the jobs are ready, and plain.
    """
    if not ends:
        return True
    ns = {end.n for end in ends}
    links = (behind or Behind(txn, sorted(ns))).links(ns)
    if links is not None and all(link.is_simple for link in links):
        return _release(txn, links)
    for end in ends:
        follow(txn, end)
    return False


def _release(txn: Transaction, links: list[_Behind]) -> bool:
    """Decide edges out of jobs that succeeded; return whether what goes is ready, and plain."""
    if not links:
        return True
    pending = {link.n: link.pending or 0 for link in links if link.n is not None}
    for link in links:
        if link.n is not None:
            pending[link.n] -= 1
    free = {link.n for link in links if link.n is not None and link.may_go and not pending[link.n]}
    txn.execute(
        _SQL["hold"],
        {
            "ids": [link.id for link in links],
            "ns": list(pending),
            "pending": list(pending.values()),
            "goes": [n in free for n in pending],
        },
    )
    _arrive(txn, [link for link in links if link.n is None])
    # What arrived meanwhile may be all that is left: somebody has to look after this commit.
    txn.arrived.update(n for n, left in pending.items() if left)
    return let_go(txn, sorted(free))


class _Behind(msgspec.Struct, gc=False, frozen=True):
    """An edge out of a job that succeeded, and the job behind it; `n` is None where another has its node."""

    id: int
    parent: int
    child: int
    traits: int
    is_busy: bool
    n: int | None
    may_go: bool | None
    pending: int | None
    broken: int | None

    @property
    def is_simple(self) -> bool:
        """Whether this edge holds, and nobody is to be cancelled by that."""
        return not self.is_busy and not self.broken and holds(rule_of(self.traits), Fate.SUCCESS)


def _arrive(txn: Transaction, links: Sequence[_Behind]) -> None:
    """Leave decisions for whoever locks the child."""
    if not links:
        return
    children = [link.child for link in links]
    ids = [link.id for link in links]
    txn.execute(_SQL["arrive"], {"children": children, "edges": ids, "helds": [True] * len(links)})
    txn.arrived.update(children)


def ripe(txn: Transaction, ns: Collection[int]) -> list[int]:
    """Return the jobs at which so much has arrived that they are to be looked at."""
    return [n for (n,) in txn.rows(_SQL["ripe"], {"ns": list(ns), "many": MANY_ARRIVALS})]


def fold(txn: Transaction, ns: Collection[int]) -> None:
    """Count what has arrived at jobs, and judge them; where another does so just now, it looks again."""
    free = [n for (n,) in txn.rows(_SQL["lockable"], {"ns": sorted(ns)})]
    if free:
        Cascade(txn).fold(free)


def fold_some(txn: Transaction, batch: int) -> bool:
    """Fold what a crash left; return whether there may be more."""
    arrived = [n for (n,) in txn.rows(_SQL["arrived"], {"batch": batch})]
    if arrived:
        fold(txn, set(arrived))
    return len(arrived) == batch
