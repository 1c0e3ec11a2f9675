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


def follow_successes(txn: Transaction, ends: Sequence[End]) -> None:
    """Carry out what follows from successes: all at once where that only releases jobs."""
    if not ends or _release(txn, [end.n for end in ends]):
        return
    for end in ends:
        follow(txn, end)


def _release(txn: Transaction, ns: list[int]) -> bool:
    """Decide all edges out of jobs that succeeded; False, and nothing done, where more follows than that."""
    bounds = {"ns": ns, "limit": MOST_TOUCHED + 1, "most": MOST_AWAITED}
    links = [_Behind(*row) for row in txn.rows(_SQL["behind"], bounds)]
    if len(links) > MOST_TOUCHED or not all(link.is_simple for link in links):
        return False
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
    let_go(txn, sorted(free))
    return True


class _Behind(msgspec.Struct, gc=False, frozen=True):
    """An edge out of a job that succeeded, and the job behind it; `n` is None where another has its node."""

    id: int
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
