"""Decides the edges out of jobs that have ended: lets go what waited for them, or cancels it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from cicely.core.edge import Fate, Rule, broken_reason, holds, inherited
from cicely.core.outcome import CANCELLED, Finish
from cicely.core.states import State
from cicely.core.traits import CANCELS_SIBLINGS, JOIN_ALL, rule_of
from cicely.engines.sqlite import transaction
from cicely.engines.sqlite.agenda import CANCEL_BEFORE, DECIDE, PER_CALL, Agenda, Task, has_intents
from cicely.engines.sqlite.endings import Endings, Row, rows_of
from cicely.engines.sqlite.graph import End, Node, ends_of, flag, go_free, let_go, nodes_of, origin_of
from cicely.engines.sqlite.member import session_of
from cicely.engines.sqlite.statements import statements
from cicely.engines.sqlite.transaction import NODE, Transaction, Values, numbers

_SQL: Final = statements("graph")
_STEER: Final = statements("steer")
_INTENT: Final = statements("intent")

#: So many edges are decided by one call where they lead to few jobs.
_MOST_LINKS: Final = 4 * PER_CALL


class Broken(NamedTuple):
    """A job that waits, the traits of its edge that is broken, and where that began."""

    n: int
    traits: int
    end: End

    @property
    def reason(self) -> str:
        """Why the job is cancelled."""
        return broken_reason(rule_of(self.traits), self.end.fate, self.end.cause)


# --- the plain case: successes, for which all edges hold --------------------------------------
class Releases:
    """The open edges out of running jobs, read ahead of their success."""

    def __init__(self, txn: Transaction, parents: Sequence[int]) -> None:
        self._txn = txn
        self._links = txn.rows(_SQL["open_out_of"], (numbers(parents), _MOST_LINKS + 1))
        self._nodes = nodes_of(txn, {link[2] for link in self._links})

    @property
    def are_simple(self) -> bool:
        """Whether successes do nothing but count down and let go."""
        return (
            len(self._links) <= _MOST_LINKS
            and len(self._nodes) <= PER_CALL
            and all(rule_of(traits) is not Rule.FAILURE for _, _, _, traits in self._links)
            and not any(node.waits and node.broken for node in self._nodes.values())
            and not self._are_behind()
        )

    def _are_behind(self) -> bool:
        """Return whether something was written down of these jobs: what else was does not concern them."""
        if not has_intents(self._txn):
            return False
        concerned = {*self._nodes, *(parent for _, parent, _, _ in self._links)}
        return self._txn.row(_INTENT["of_any"], (numbers(concerned),)) is not None

    def carry_out(self, ended: Iterable[int]) -> None:
        """Decide the edges out of those that have succeeded."""
        parents = set(ended)
        held = [(number, child) for number, parent, child, _ in self._links if parent in parents]
        if not held:
            return
        fewer: dict[int, int] = {}
        for _, child in held:
            fewer[child] = fewer.get(child, 0) + 1
        txn = self._txn
        txn.execute(_SQL["all_hold"], (numbers(number for number, _ in held),))
        free, counted = [], []
        for child, count in fewer.items():
            node = self._nodes.get(child)
            is_last = node is not None and node.waits and node.pending == count and not node.held
            if is_last and node is not None and node.event is None:
                free.append(child)
            else:
                counted.append((count, 0, child))
        txn.many(_SQL["decided"], counted)
        if free:
            go_free(txn, free)


# --- any end ------------------------------------------------------------------------------------
def decide(agenda: Agenda, task: Task) -> Task | None:
    """Decide the edges out of an ended job, a page of them."""
    txn = agenda.txn
    end = ends_of(txn, (task.n,)).get(task.n)
    if end is None:
        return None
    links = txn.rows(_SQL["out_of"], (task.n, task.cursor, agenda.left + 1))
    is_cut = len(links) > agenda.left
    links = links[: agenda.left]
    page = _Page(agenda, task.n, end, links)
    for link in links:
        agenda.left -= 1
        broken = page.decide(link)
        if broken is not None and broken.traits & CANCELS_SIBLINGS:
            page.write()
            cancel_before(agenda, Task(CANCEL_BEFORE, broken.n, 0, broken.end.cause, broken.reason))
            return task._replace(cursor=link[0])
    page.write()
    return task._replace(cursor=links[-1][0] if links else task.cursor) if is_cut else None


class _Page:
    """Some of the edges out of one job, each into another, decided together."""

    def __init__(self, agenda: Agenda, parent: int, end: End, links: Sequence[Values]) -> None:
        self._agenda = agenda
        self._txn = agenda.txn
        self._parent = parent
        self._end = end
        self._nodes = nodes_of(agenda.txn, (child for _, child, _, held in links if held is None))
        self._held: list[Values] = []
        self._decided: list[Values] = []
        self._free: list[int] = []
        self._broken: list[Broken] = []

    def decide(self, link: Values) -> Broken | None:
        """Decide one edge; return it where it cancels the job behind it."""
        number, child, traits, was_held = link
        if was_held is not None:
            return None
        is_held = holds(rule_of(traits), self._end.fate)
        self._held.append((int(is_held), number))
        self._decided.append((1, int(not is_held), child))
        node = self._nodes.get(child)
        if node is None:
            return None
        node.pending -= 1
        node.broken += not is_held
        if not node.waits:
            return None
        if not node.broken:
            if node.is_free and node.event is None:
                self._free.append(child)
            return None
        broken = self._first_broken(node, None if is_held else traits)
        if broken is not None:
            self._broken.append(broken)
        return broken

    def _first_broken(self, node: Node, traits: int | None) -> Broken | None:
        """Return the broken edge that cancels a job, if one does; `traits` are of the one broken just now."""
        if node.broken == 1 and traits is not None:
            counts = node.is_free or not traits & JOIN_ALL
            return Broken(node.n, traits, self._end) if counts else None
        self._write_edges()
        return first_broken(self._txn, node)

    def _write_edges(self) -> None:
        self._txn.many(_SQL["hold"], self._held)
        self._txn.many(_SQL["decided"], self._decided)
        self._held, self._decided = [], []

    def write(self) -> None:
        """Write what was decided, and go on behind what is cancelled."""
        self._write_edges()
        let_go(self._txn, self._free)
        cancel_behind(self._agenda, self._broken)


def first_broken(txn: Transaction, node: Node) -> Broken | None:
    """Return the first broken edge into a waiting job that cancels it, if there is one."""
    found = txn.row(_SQL["first_broken"], (node.n, int(node.is_free), JOIN_ALL)) if node.broken else None
    return None if found is None else Broken(node.n, found[1], origin_of(txn, found[0]))


def cancel_behind(agenda: Agenda, broken: Sequence[Broken]) -> None:
    """Cancel waiting jobs whose edge broke."""
    if not broken:
        return
    txn = agenda.txn
    rows = {row.n: row for row in rows_of(txn, (one.n for one in broken))}
    endings = Endings(txn)
    for one in broken:
        row = rows[one.n]
        row.cause = one.end.cause
        endings.finish(row, Finish(State.CANCELLED, row.tallies, one.reason))
    txn.many(_SQL["because"], [(b.n, b.end.cause, int(_passes(b))) for b in broken])
    endings.write()
    go_on(agenda, endings)


def _passes(broken: Broken) -> bool:
    return inherited(rule_of(broken.traits), broken.end.fate) is Fate.FAILURE


def go_on(agenda: Agenda, endings: Endings) -> None:
    """Have the edges out of what has just ended decided."""
    agenda.push(*(Task(DECIDE, n) for n in endings.parents))


# --- a waiting job --------------------------------------------------------------------------------
def judge(agenda: Agenda, task: Task) -> None:
    """Let a waiting job go, or cancel it, where its edges say so."""
    agenda.left -= 1
    node = nodes_of(agenda.txn, (task.n,)).get(task.n)
    if node is None or not node.waits or cancel_broken(agenda, node):
        return
    if node.is_free and node.event is None:
        let_go(agenda.txn, (task.n,))


def cancel_broken(agenda: Agenda, node: Node) -> bool:
    """Cancel a waiting job where its edges say so; return whether they did."""
    broken = first_broken(agenda.txn, node)
    if broken is None:
        return False
    cancel_behind(agenda, (broken,))
    if broken.traits & CANCELS_SIBLINGS:
        cancel_before(agenda, Task(CANCEL_BEFORE, node.n, 0, broken.end.cause, broken.reason))
    return True


# --- cancelling ---------------------------------------------------------------------------------
def cancel(agenda: Agenda, row: Row, reason: str, *, cause: str = "") -> None:
    """Cancel a live job; one that runs is asked to end."""
    txn = agenda.txn
    row.cause = cause
    if cause:
        txn.execute(_SQL["because"], (row.n, cause, 0))
        if not row.flags & NODE:
            flag(txn, (row.n,), NODE)
    elif row.flags & NODE:
        txn.execute(_SQL["without_cause"], (row.n,))
    if row.is_running:
        _ask_to_end(txn, row, reason or CANCELLED)
        return
    endings = Endings(txn)
    endings.finish(row, Finish(State.CANCELLED, row.tallies, reason or CANCELLED))
    endings.write()
    go_on(agenda, endings)


def _ask_to_end(txn: Transaction, row: Row, reason: str) -> None:
    if not row.cancelling:
        txn.execute(_STEER["reason"], (row.n, reason))
    txn.execute(_STEER["mark"], (row.n,))
    holder = txn.row(_STEER["worker"], (row.session,))
    if holder is not None:
        txn.called.append(session_of(*holder).worker)


class _Parents:
    """The edges into one job, from a cursor on."""

    def __init__(self, txn: Transaction, n: int, cursor: int) -> None:
        self.n = n
        self.cursor = cursor
        self._txn = txn
        self._page: list[Values] = []

    def next(self) -> Values | None:
        """Return the next edge, or None."""
        if not self._page:
            self._page = self._txn.rows(_SQL["into"], (self.n, self.cursor, PER_CALL))[::-1]
        if not self._page:
            return None
        link = self._page.pop()
        self.cursor = link[0]
        return link


def cancel_before(agenda: Agenda, task: Task) -> None:
    """Cancel the parents of a job that are still live, and what those wait for."""
    if not _is_cancelled(agenda.txn, task.n, task.cause):
        return
    stack = [_Parents(agenda.txn, task.n, task.cursor)]
    while stack and agenda.left > 0:
        link = stack[-1].next()
        if link is None:
            stack.pop()
            continue
        agenda.left -= 1
        row = None if link[2] else next(iter(rows_of(agenda.txn, (link[1],))), None)
        if row is not None and row.end is None:
            cancel(agenda, row, task.reason, cause=task.cause)
            stack.append(_Parents(agenda.txn, row.n, 0))
    agenda.leave_first(*(task._replace(n=parents.n, cursor=parents.cursor) for parents in stack))


def _is_cancelled(txn: Transaction, n: int, cause: str) -> bool:
    """Return whether a job is, or is asked to be, cancelled for this cause: it may be back meanwhile."""
    if (txn.row(_SQL["cause"], (n,)) or ("",))[0] != cause:
        return False
    return any(row.end == transaction.CANCELLED or row.cancelling for row in rows_of(txn, (n,)))
