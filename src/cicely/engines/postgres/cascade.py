"""What follows an end: the edges out of a job are decided, those behind it go on or are cancelled."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from cicely.core.edge import Fate, broken_reason, fate_of, holds, inherited
from cicely.core.failpoints import failpoint
from cicely.core.outcome import CANCELLED, Finish
from cicely.core.states import State, allows
from cicely.core.traits import CANCELS_SIBLINGS, JOIN_ALL, rule_of
from cicely.engines.postgres import intents
from cicely.engines.postgres.drawing import bind
from cicely.engines.postgres.endings import Endings, Row, fresh, locked_rows, rows_of
from cicely.engines.postgres.gates import stood
from cicely.engines.postgres.graph import NODE, OUT, End, Link, Node, Nodes, end_of, ensure_nodes
from cicely.engines.postgres.intents import Kind, Work
from cicely.engines.postgres.member import session_of
from cicely.engines.postgres.statements import statements
from cicely.engines.postgres.transaction import Transaction
from cicely.engines.postgres.waiting import let_go
from cicely.engines.postgres.wire import Values

_SQL: Final = statements("graph")
_STEER: Final = statements("steer")
_WORKFLOW: Final = statements("workflow")
_RESERVE: Final = statements("reserve")

#: So many other jobs are touched by one call; fewer where it took long.
MOST_TOUCHED: Final = 256
_FEW_TOUCHED: Final = 64
_LONG_S: Final = 0.020
#: So many jobs of a workflow are looked at in a page, which counts as so many that are touched.
_PAGE: Final = 256
_COST_OF_A_PAGE: Final = 64


#: Does a page of work, and returns what is left of it.
Act = Callable[[Work], Work | None]


class Cascade:
    """Carries work out in its order, until all is done or too much was touched."""

    def __init__(self, txn: Transaction) -> None:
        self._txn = txn
        self._nodes = Nodes(txn)
        self._endings = Endings(txn)
        self._queue: deque[Work] = deque()
        self._last: deque[Work] = deque()
        self._free: list[int] = []
        self._cancelled: list[tuple[int, str, End]] = []
        self._touched = 0
        self._began = time.monotonic()
        self._acts: dict[Kind, Act] = {
            Kind.RESOLVE: self._resolve,
            Kind.CANCEL_BEFORE: self._cancel_before,
            Kind.PUBLISH: self._publish,
            Kind.JUDGE: self._judge_alone,
            Kind.BIND: self._bind,
        }

    # --- the order of work ----------------------------------------------------------------
    def run(self, works: Iterable[Work]) -> None:
        """Carry out `works` and all that follows; what is too much is written down as intents."""
        self._queue.extend(works)
        is_all_done = self._work_off()
        # What is last waits for what was put off as well.
        while self._last and is_all_done and not self._is_tired:
            self._carry_out_first(self._last)
            is_all_done = self._work_off()
        self._leave_the_rest()

    def _work_off(self) -> bool:
        """Carry out all but what comes last; return whether nothing waits behind an earlier intent."""
        is_all_done = True
        while self._queue and not self._is_tired:
            if intents.busy(self._txn, [self._queue[0].n]):
                intents.write(self._txn, [self._queue.popleft()])
                is_all_done = False
            else:
                self._carry_out_first(self._queue)
        return is_all_done

    def _carry_out_first(self, works: deque[Work]) -> None:
        rest = self._carry_out(works.popleft())
        if rest is not None:
            self._queue.appendleft(rest)

    def carry_on(self, number: int, work: Work) -> bool:
        """Carry out one intent and what follows; return whether there is time for another."""
        rest = self._carry_out(work)
        if rest is None:
            intents.remove(self._txn, number)
            # What comes last does so after all that is written down, not after this page of it.
            self._work_off()
        else:
            intents.move_on(self._txn, number, rest)
        self._leave_the_rest()
        return not self._is_tired

    def _leave_the_rest(self) -> None:
        """Write what was done, and down what is left."""
        self.flush()
        intents.write(self._txn, [*self._queue, *self._last])
        failpoint("postgres.cascade.written")
        self._queue.clear()
        self._last.clear()

    @property
    def _is_tired(self) -> bool:
        if self._touched >= MOST_TOUCHED:
            return True
        return self._touched >= _FEW_TOUCHED and time.monotonic() - self._began > _LONG_S

    @property
    def _room(self) -> int:
        return max(1, MOST_TOUCHED - self._touched)

    def _carry_out(self, work: Work) -> Work | None:
        """Do a page of work; return what is left of it."""
        rest = self._acts[work.kind](work)
        self._flush_cancelled()
        return rest

    def _judge_alone(self, work: Work) -> None:
        self._nodes.lock([work.n])
        self._judge(work.n)
        self._touched += 1

    # --- deciding -------------------------------------------------------------------------
    def _resolve(self, work: Work) -> Work | None:
        """Decide the edges out of a job that has ended."""
        room = self._room
        links = self._links("undecided", work, room)
        helds = [holds(rule_of(link.traits), work.fate) for link in links]
        self.decide(links, helds)
        end = End(work.n, work.fate, work.cause)
        for link, held in zip(links, helds, strict=True):
            node = self._nodes.get(link.child)
            if node is not None:
                self._nodes.decided(node, is_held=held)
                self._judge(node.n, msgspec.structs.replace(link, held=held), end)
        self._touched += len(links)
        return work.behind(links[-1].id) if len(links) == room else None

    def _links(self, statement: str, work: Work, limit: int) -> list[Link]:
        bounds = {"ns": [work.n], "n": work.n, "after": work.after, "upto": work.upto, "limit": limit}
        return [Link(*row) for row in self._txn.rows(_SQL[statement], bounds)]

    def decide(self, links: Sequence[Link], helds: Sequence[bool]) -> None:
        """Note what became of edges, and lock the jobs behind them; elsewhere it is an arrival."""
        if not links:
            return
        txn = self._txn
        txn.execute(_SQL["decide"], {"ids": [link.id for link in links], "helds": list(helds)})
        self._nodes.lock_free(link.child for link in links)
        others = [
            (link, held)
            for link, held in zip(links, helds, strict=True)
            if self._nodes.get(link.child) is None
        ]
        if others:
            txn.execute(
                _SQL["arrive"],
                {
                    "children": [link.child for link, _ in others],
                    "edges": [link.id for link, _ in others],
                    "helds": [held for _, held in others],
                },
            )
            txn.arrived.update(link.child for link, _ in others)

    def fold(self, ns: Sequence[int]) -> None:
        """Count what has arrived at jobs, and judge them."""
        self._nodes.lock(ns)
        for n in ns:
            self._judge(n)
        self._flush_cancelled()
        self.run(())

    def _judge(self, n: int, latest: Link | None = None, end: End | None = None) -> None:
        """Let a waiting job go, or cancel it, where its edges say so."""
        node = self._nodes.get(n)
        if node is None or not node.waits:
            return
        if node.broken and (node.is_free or latest is None or not latest.traits & JOIN_ALL):
            broken = self._first_broken(node, latest)
            if broken is not None:
                parent, traits = broken
                known = end if end is not None and end.n == parent else None
                self._cancel_behind(node, known or end_of(self._txn, parent), traits)
                return
        if node.is_free and node.event is None:
            node.waits = False
            self._nodes.touch(node)
            self._free.append(n)

    def _first_broken(self, node: Node, latest: Link | None) -> Values | None:
        """Return the parent and the traits of the edge that cancels a job, None where it is to wait."""
        if latest is not None and node.broken == 1 and latest.held is False:
            return latest.parent, latest.traits
        return self._txn.row(_SQL["first_broken"], {"n": node.n, "is_free": node.is_free})

    def _cancel_behind(self, node: Node, end: End, traits: int) -> None:
        """Cancel a job because an edge into it broke."""
        rule = rule_of(traits)
        node.waits = False
        node.cause = end.cause
        node.passes = inherited(rule, end.fate) is Fate.FAILURE
        self._nodes.touch(node)
        reason = broken_reason(rule, end.fate, end.cause)
        self._cancelled.append((node.n, reason, End(node.n, inherited(rule, end.fate), end.cause)))
        if traits & CANCELS_SIBLINGS:
            self._flush_cancelled()
            rest = self._cancel_before(Work(Kind.CANCEL_BEFORE, node.n, cause=end.cause, reason=reason))
            if rest is not None:
                self._queue.append(rest)

    def _flush_cancelled(self) -> None:
        """End the jobs that were cancelled, so that the next look sees them."""
        if not self._cancelled:
            self._nodes.write()
            return
        self.flush()

    def flush(self) -> None:
        """Write all that was decided so far."""
        self._nodes.write()
        rows = {row.n: row for row in rows_of(self._txn, [n for n, _, _ in self._cancelled])}
        for n, reason, end in self._cancelled:
            row = rows[n]
            # Its node says already that it waits no more.
            row.waits = True
            self._endings.causes[n] = end.cause
            self._endings.finish(row, Finish(State.CANCELLED, row.tallies, reason))
            if row.traits & OUT:
                self._queue.append(intents.resolve(end))
        self._cancelled = []
        self._endings.write()
        let_go(self._txn, self._free)
        self._free = []

    # --- the siblings ---------------------------------------------------------------------
    def _cancel_before(self, work: Work) -> Work | None:
        """Cancel the live jobs before one, and those before them; depth first."""
        stack = [work]
        while stack:
            if self._is_tired:
                # The deepest first, as it would have been.
                self._queue.extendleft(stack[1:])
                return stack[0] if stack else None
            top = stack.pop()
            room = self._room
            bounds = {"n": top.n, "after": top.after, "limit": room}
            links = self._txn.rows(_SQL["parents_of"], bounds)
            stack += self._cancel_parents(top, links, is_last=len(links) < room)
        return None

    def _cancel_parents(self, work: Work, links: Sequence[tuple[int, int]], *, is_last: bool) -> list[Work]:
        """Cancel parents up to the first that waits for others itself; return what is to be done then."""
        self.flush()
        rows = {row.n: row for row in locked_rows(self._txn, {parent for _, parent in links})}
        for number, parent in links:
            row = rows.get(parent)
            self._touched += 1
            if row is None or row.state.is_final:
                continue
            self.cancel(row, work.reason, cause=work.cause)
            if row.traits & NODE:
                deeper = Work(Kind.CANCEL_BEFORE, parent, cause=work.cause, reason=work.reason)
                return [work.behind(number), deeper]
        return [] if is_last or not links else [work.behind(links[-1][0])]

    def cancel(self, row: Row, reason: str, *, cause: str = "") -> None:
        """Cancel a live job, whose place is locked; one that runs is asked to end."""
        self._because_of(row, cause)
        self._endings.causes[row.n] = cause
        if not row.is_running:
            self._endings.finish(row, Finish(State.CANCELLED, row.tallies, reason or CANCELLED))
            self._endings.write()
            if row.traits & OUT:
                self._queue.append(intents.resolve(End(row.n, fate_of(State.CANCELLED), cause or row.id)))
            return
        txn = self._txn
        if not row.cancelling:
            txn.execute(_STEER["reason"], (reason or CANCELLED, row.n))
        txn.execute(_STEER["mark"], (row.n,))
        txn.spread += 1
        holder = txn.row(_STEER["worker"], (row.session,))
        if holder is not None:
            txn.called.append(session_of(*holder).worker)

    def _because_of(self, row: Row, cause: str) -> None:
        if not cause and not row.traits & NODE:
            return
        ensure_nodes(self._txn, [row.n])
        self._nodes.lock([row.n])
        node = self._nodes.get(row.n)
        if node is not None:
            node.cause = cause or None
            node.passes = False
            node.waits = False
            self._nodes.touch(node)
            self._nodes.write()

    # --- publishing -----------------------------------------------------------------------
    def _publish(self, work: Work) -> Work | None:
        """Let the held jobs of a workflow go."""
        room = self._room
        bounds = {"workflow": work.job, "after": work.after, "limit": room}
        held = [n for (n,) in self._txn.rows(_WORKFLOW["held"], bounds)]
        self._txn.execute(_WORKFLOW["unhold"], {"workflow": work.job, "ns": held})
        self._nodes.lock(held)
        failpoint("postgres.publish.page")
        for n in held:
            node = self._nodes.get(n)
            if node is not None:
                node.held = False
                self._nodes.touch(node)
        for n in held:
            self._judge(n)
        self._touched += len(held)
        return work.behind(held[-1]) if len(held) == room else None

    # --- what is reserved -----------------------------------------------------------------
    def _bind(self, work: Work) -> Work | None:
        """Have the jobs of a workflow that are ready by now draw what it has reserved as well."""
        bounds = {"workflow": work.job, "after": work.after, "limit": _PAGE}
        page = [n for (n,) in self._txn.rows(_RESERVE["members"], bounds)]
        stood(self._txn, bind(self._txn, work.job, page))
        self._touched += _COST_OF_A_PAGE
        return work.behind(page[-1]) if len(page) == _PAGE else None


class Moves(Endings):
    """Endings after which the edges out of the jobs that ended are decided."""

    def finish(self, row: Row, step: Finish, reason: str = "", request: bytes | None = None) -> None:
        super().finish(row, step, reason, request)
        if row.traits & OUT:
            self.write()
            follow(self._txn, End(row.n, fate_of(step.state), self._cause_of(row)))

    def _cause_of(self, row: Row) -> str:
        if not row.traits & NODE:
            return row.id
        [(cause,)] = self._txn.rows(_SQL["cause"], {"n": row.n}) or [("",)]
        return cause or row.id


def follow(txn: Transaction, end: End) -> None:
    """Carry out what follows from the end of a job."""
    Cascade(txn).run([intents.resolve(end)])
    txn.spread += 1


def expire(txn: Transaction, ns: Iterable[int]) -> None:
    """End jobs that were to start before now, wherever they stand."""
    endings = Moves(txn)
    for row in fresh(txn, locked_rows(txn, ns)):
        if allows("expire", row.state):
            late = Finish(State.EXPIRED, row.tallies, "not started before its deadline")
            endings.finish(row, late)
    endings.write()
