"""Bringing jobs back from their end, and with them what ended because of that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cicely.core.edge import Role, Rule, broken_reason
from cicely.core.job import rank
from cicely.core.states import State
from cicely.core.traits import CANCELS_SIBLINGS, role_of, rule_of
from cicely.engines.contract import RECEIPT_LEASES
from cicely.engines.postgres import intents
from cicely.engines.postgres.cascade import Cascade
from cicely.engines.postgres.drawing import draw
from cicely.engines.postgres.endings import Row, locked_rows
from cicely.engines.postgres.gates import stood
from cicely.engines.postgres.graph import APART, DRAWS, OUT, Link, Node, end_of
from cicely.engines.postgres.intents import Kind, Work
from cicely.engines.postgres.settling import DEFAULT_LEASE_S
from cicely.engines.postgres.standing import stand_anywhere
from cicely.engines.postgres.statements import statements
from cicely.engines.postgres.transaction import READY, WAITING, Transaction, token_of

_SQL: Final = statements("graph")
_SETTLE: Final = statements("settle")
_ENQUEUE: Final = statements("enqueue")
_SUSPEND: Final = statements("suspend")


class Undoing(Cascade):
    """A cascade that can also make ends undone."""

    def __init__(self, txn: Transaction) -> None:
        super().__init__(txn)
        self._acts |= {
            Kind.UNDO: self._undo,
            Kind.BRING_BACK: self._bring_siblings_back,
            Kind.STAND_AGAIN: self._stand_again,
        }

    def revive(self, row: Row, reason: str) -> bool:
        """Run an ended job again, and let what was cancelled because of it, or ran after it, wait for it."""
        self._nodes.lock([row.n])
        node = self._nodes.get(row.n)
        if node is not None and node.broken:
            return False
        if row.unique_key is not None and not self._takes_key(row):
            return False
        self._bring_back([row], reason)
        if row.traits & OUT and node is not None and node.joins:
            # What is brought back because of those behind it may come before it.
            self._last.append(Work(Kind.STAND_AGAIN, row.n))
        elif node is None or node.is_free:
            self._make_ready(row)
        # All that comes back is judged when everything is back.
        self.run([Work(Kind.UNDO, row.n, row.id)] if row.traits & OUT else [])
        self._txn.spread += 1
        return True

    def _takes_key(self, row: Row) -> bool:
        return bool(self._txn.rows(_ENQUEUE["hold"], {"keys": [row.unique_key], "ids": [row.id]}))

    def _stand_again(self, work: Work) -> None:
        """Let a revived job run, all being back, unless it waits for one that is back as well."""
        self._touched += 1
        rows = locked_rows(self._txn, [work.n])
        self._nodes.lock([work.n])
        node = self._nodes.get(work.n)
        if node is None or not node.waits or not node.is_free:
            return
        for row in rows:
            self._make_ready(row)
        self._nodes.write()
        self._txn.is_stirred = True
        self._txn.work = None

    def _make_ready(self, row: Row) -> None:
        """Let a revived job run at once, whatever delay it asked for."""
        txn = self._txn
        node = self._nodes.get(row.n)
        if node is not None:
            node.waits = False
            self._nodes.touch(node)
        order = rank(row.priority, txn.now, ageing_s=row.ageing_s)
        txn.execute(_SUSPEND["postpone"], (None, order, row.n))
        stream = stand_anywhere(txn, row.n) if row.traits & APART else row.stream
        txn.execute(_SETTLE["ready"], (row.queue, stream, row.job_class, order, row.n))
        stood(txn, (stream,))
        if row.traits & DRAWS:
            stood(txn, draw(txn, [row.n]))
        txn.move(row.queue, WAITING, READY)

    def _bring_back(self, rows: Sequence[Row], reason: str) -> None:
        """Make ended jobs wait, whatever for, as if they had not ended."""
        if not rows:
            return
        txn = self._txn
        ns = [row.n for row in rows]
        self._keep_last_attempts(rows)
        txn.execute(
            _SQL["bring_back"],
            {
                "ns": ns,
                "fences": [row.fence for row in rows],
                "attempts": [row.attempt_then for row in rows],
                "starts": [row.started_at for row in rows],
                "reasons": [reason or "revived"] * len(rows),
            },
        )
        txn.execute(_SQL["clear_errors"], {"ns": ns})
        for row in rows:
            if row.traits & APART:
                stand_anywhere(txn, row.n)
        for row in rows:
            txn.move(row.queue, row.state_code, WAITING)
            node = self._nodes.get(row.n)
            if node is not None:
                node.waits, node.passes, node.cause = True, False, None
                self._nodes.touch(node)
        self._nodes.write()

    def _keep_last_attempts(self, rows: Sequence[Row]) -> None:
        """Turn ends into attempts, with receipts for whoever repeats their outcomes."""
        txn = self._txn
        ends = txn.rows(_SQL["ends"], {"ns": [row.n for row in rows]})
        until_at = txn.now + RECEIPT_LEASES * DEFAULT_LEASE_S
        attempts, receipts = [], []
        for n, ended_at, started_at, session, request, fence, attempt, outcome, error in ends:
            if session is not None:
                attempts.append((n, fence, attempt, outcome, started_at, ended_at, session, error))
            if request is not None:
                receipts.append((token_of(request, n, fence), outcome, until_at))
        txn.many(_SETTLE["attempt"], attempts)
        txn.many(_SETTLE["receipt"], receipts)
        txn.execute(_SQL["undone"], {"ns": [row.n for row in rows]})

    # --- the jobs behind ------------------------------------------------------------------
    def _undo(self, work: Work) -> Work | None:
        """Make the edges out of a job undecided, which is back."""
        room = self._room
        links = self._links("decided", work, room)
        self.flush()
        rows = {row.n: row for row in locked_rows(self._txn, {link.child for link in links})}
        self._nodes.lock(rows)
        for link in links:
            row = rows.get(link.child)
            if row is not None:
                self._undo_one(link, row, work)
        self._touched += len(links)
        return work.behind(links[-1].id) if len(links) == room else None

    def _undo_one(self, link: Link, seen: Row, work: Work) -> None:
        """Make an edge undecided again, its parent being back."""
        row = self._now(seen)
        node = self._nodes.get(row.n)
        if node is None:
            return
        if row.state is State.WAITING and not row.fence:
            self._reset(link, node)
        elif row.state is State.CANCELLED and node.cause:
            self._reset(link, node)
            self._undo_cancellation(link, row, node, work)
        elif self._runs_again(link, row):
            self._reset(link, node)
            self._bring_back([row], "")
            if row.state is State.SUCCEEDED:
                self._judge(row.n)
                self.flush()
            else:
                self._is_back(row, work)

    def _now(self, row: Row) -> Row:
        """Return a job as it is: another edge of this page may have brought it back."""
        node = self._nodes.get(row.n)
        if node is not None and node.waits and not row.waits:
            [row] = locked_rows(self._txn, [row.n])
        return row

    def _reset(self, link: Link, node: Node) -> None:
        self._txn.execute(_SQL["undecide"], {"ids": [link.id]})
        self._nodes.undecided(node, was_held=link.held)
        self._nodes.write()

    def _runs_again(self, link: Link, row: Row) -> bool:
        """Return whether a job that ended after its parent's end is to do so anew."""
        if row.end is None or rule_of(link.traits) is Rule.SUCCESS:
            return False
        if row.state is State.SUCCEEDED and role_of(link.traits) is Role.CALL:
            return False
        return row.unique_key is None or self._takes_key(row)

    def _undo_cancellation(self, link: Link, row: Row, node: Node, work: Work) -> None:
        if link.traits & CANCELS_SIBLINGS:
            rest = self._bring_siblings_back(Work(Kind.BRING_BACK, row.n, work.job))
            if rest is not None:
                self._queue.append(rest)
            row = self._now(row)
        if node.broken:
            parent, traits = self._txn.rows(_SQL["first_broken"], {"n": row.n, "is_free": True})[0]
            end = end_of(self._txn, parent)
            node.cause = end.cause
            self._nodes.touch(node)
            self._nodes.write()
            reason = broken_reason(rule_of(traits), end.fate, end.cause)
            self._txn.execute(_SQL["re_reason"], {"reason": reason, "n": row.n})
        elif row.state is State.CANCELLED and (row.unique_key is None or self._takes_key(row)):
            self._bring_back([row], "")
            self._is_back(row, work)

    def _bring_siblings_back(self, work: Work) -> Work | None:
        """Bring back what was cancelled because of the job that is back."""
        self.flush()
        room = self._room
        bounds = {"cause": work.job, "after": work.after, "limit": room}
        ns = [n for (n,) in self._txn.rows(_SQL["because_of"], bounds)]
        rows = locked_rows(self._txn, ns)
        self._nodes.lock(ns)
        for row in rows:
            node = self._nodes.get(row.n)
            if row.state is not State.CANCELLED or node is None or node.broken:
                continue
            if row.unique_key is None or self._takes_key(row):
                self._bring_back([row], "")
                self._is_back(row, work)
        self._touched += len(ns)
        return work.behind(ns[-1]) if len(ns) == room else None

    def _is_back(self, row: Row, work: Work) -> None:
        if row.traits & OUT:
            self._queue.append(Work(Kind.UNDO, row.n, work.job))
        self._last.append(Work(Kind.JUDGE, row.n))


def carry_on(txn: Transaction, limit: int) -> bool:
    """Carry out a page of what is left; return whether there is more."""
    found = intents.next_ones(txn, limit)
    cascade = Undoing(txn)
    for number, work in found:
        if not cascade.carry_on(number, work):
            break
    return txn.left_over or bool(found)
