"""Adds edges, as their parents stand, and reads how the parents of a job stand."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final

from cicely.core.edge import INLINE_PARENTS, Edge, Fate, ParentEnd, holds
from cicely.core.job import Claim
from cicely.core.states import State
from cicely.core.traits import role_of, traits_of
from cicely.engines.sqlite.graph import ends_of, fates_of_gone, flag, nodes_of, standing
from cicely.engines.sqlite.statements import statements
from cicely.engines.sqlite.transaction import (
    CHILDREN,
    NODE,
    PARENTS,
    STEPS,
    SUCCEEDED,
    Transaction,
    Values,
    numbers,
    texts,
)
from cicely.errors import JobNotFound

_SQL: Final = statements("graph")
_ENQUEUE: Final = statements("enqueue")

#: A child of fewer edges is asked for its parents, another's parent for its children.
_FEW_EDGES: Final = 64


def check_ends(txn: Transaction, edges: Sequence[Edge], new_ids: Collection[str]) -> None:
    """Raise JobNotFound where an edge begins or ends nowhere."""
    ends = {end for edge in edges for end in (edge.parent, edge.child)} - set(new_ids)
    wanted = texts(ends)
    if wanted is None:
        return
    known = {row[0] for row in txn.rows(_SQL["numbers"], (wanted,))}
    known |= {row[0] for row in txn.rows(_ENQUEUE["known_tombs"], (wanted,))}
    for end in sorted(ends - known):
        raise JobNotFound(f"job {end} is neither known nor among those enqueued with its edge")


class Links:
    """The edges of one call: those that are new, decided where their parents have ended."""

    def __init__(
        self,
        txn: Transaction,
        *,
        fresh: Mapping[str, int],
        waiting: Collection[int],
        next_n: Callable[[], int],
    ) -> None:
        self._txn = txn
        self._fresh = fresh
        #: Those of the fresh jobs that wait.
        self._waiting = waiting
        self._next_n = next_n
        self._rows: list[Values] = []
        self.parents: set[int] = set()
        #: Of each child: how many of its new edges are open, are broken, and all.
        self.joins: dict[int, list[int]] = {}

    def add(self, edges: Sequence[Edge]) -> None:
        """Keep those that are new and whose child waits."""
        if not edges:
            return
        ns = self._numbers({end for edge in edges for end in (edge.parent, edge.child)})
        fresh = set(self._fresh.values())
        nodes = nodes_of(self._txn, {ns[edge.child] for edge in edges} - fresh)
        fates = self._fates({edge.parent: ns[edge.parent] for edge in edges}, fresh)
        seen: set[tuple[int, int]] = set()
        for edge in edges:
            parent, child = ns[edge.parent], ns[edge.child]
            node = nodes.get(child)
            waits = child in self._waiting if child in fresh else node is not None and bool(node.waits)
            if not waits or (parent, child) in seen:
                continue
            seen.add((parent, child))
            if node is not None and parent not in fresh and self._is_known(parent, child, node.joins):
                continue
            self._keep(edge, parent, child, fates.get(parent))

    def _numbers(self, ends: set[str]) -> dict[str, int]:
        ns = {end: self._fresh[end] for end in ends if end in self._fresh}
        for statement in ("numbers", "gone_numbers"):
            wanted = texts(ends - ns.keys())
            if wanted is not None:
                ns |= dict(self._txn.rows(_SQL[statement], (wanted,)))
        for end in sorted(ends - ns.keys()):
            ns[end] = self._next_n()
            self._txn.execute(_SQL["add_gone"], (ns[end], end))
        return ns

    def _fates(self, parents: Mapping[str, int], fresh: set[int]) -> dict[int, Fate]:
        """Return how the ends of parents count, of those that have one."""
        older = {job_id: n for job_id, n in parents.items() if n not in fresh}
        fates = {n: end.fate for n, end in ends_of(self._txn, older.values()).items()}
        wanted = texts(older)
        if wanted is None:
            return fates
        here = {row[0] for row in self._txn.rows(_SQL["numbers"], (wanted,))}
        gone = fates_of_gone(self._txn, [job_id for job_id in older if job_id not in here])
        return fates | {older[job_id]: fate for job_id, fate in gone.items()}

    def _is_known(self, parent: int, child: int, joins: int) -> bool:
        name = "has_edge_in" if joins < _FEW_EDGES else "has_edge_out"
        return self._txn.row(_SQL[name], (parent, child)) is not None

    def _keep(self, edge: Edge, parent: int, child: int, fate: Fate | None) -> None:
        held = None if fate is None else int(holds(edge.rule, fate))
        self._rows.append((parent, child, traits_of(edge), held))
        self.parents.add(parent)
        counted = self.joins.setdefault(child, [0, 0, 0])
        counted[0] += held is None
        counted[1] += held == 0
        counted[2] += 1

    def write(self) -> None:
        """Insert the edges, and count them at jobs that were stored before."""
        txn = self._txn
        txn.many(_SQL["add_edge"], self._rows)
        fresh = set(self._fresh.values())
        older = {child: counted for child, counted in self.joins.items() if child not in fresh}
        txn.many(_SQL["grow"], [(*counted, child) for child, counted in older.items()])
        flag(txn, older, NODE | PARENTS)
        flag(txn, self.parents - fresh, CHILDREN)


# --- reading --------------------------------------------------------------------------------------
def complete(txn: Transaction, claims: list[Claim], flagged: Mapping[int, tuple[int, int]]) -> None:
    """Fill in what claims carry beside their row; `flagged`: their places in `claims`, and their flags."""
    joined = txn.rows(_SQL["joined"], (numbers(flagged),))
    with_steps = numbers(n for n, (_, flags) in flagged.items() if flags & STEPS)
    steps: dict[int, int | None] = dict(txn.rows(_SQL["steps_of"], (with_steps,)) if with_steps else ())
    labels = {n: (joins, workflow, group) for n, joins, workflow, group in joined}
    ends = _ends_before(txn, {n: joins for n, joins, _, _ in joined if 0 < joins <= INLINE_PARENTS})
    for n, (place, _) in flagged.items():
        joins, workflow, group = labels.get(n, (0, "", ""))
        plain = claims[place]
        claims[place] = Claim(
            plain.token,
            plain.job_id,
            plain.task,
            plain.kind,
            plain.queue,
            plain.fence,
            plain.body,
            plain.options,
            plain.tallies,
            plain.checkpoint,
            plain.created_at,
            joins,
            tuple(ends.get(n, ())),
            steps.get(n) or 0,
            workflow,
            group,
            plain.units,
            plain.reason,
            plain.keys,
        )


def _ends_before(txn: Transaction, joins: Mapping[int, int]) -> dict[int, list[ParentEnd]]:
    """Return how the parents of some jobs stand, in the order of their edges; `joins`: how many each has."""
    ends: dict[int, list[ParentEnd]] = {}
    wanted = numbers(joins)
    found = sorted(txn.rows(_SQL["succeeded_parents"], (wanted, SUCCEEDED))) if wanted else ()
    for n, _, traits, job_id, result in found:
        ends.setdefault(n, []).append(ParentEnd(job_id, role_of(traits), State.SUCCEEDED, result or b""))
    others = [n for n, count in joins.items() if len(ends.get(n, ())) < count]
    for n in others:
        ends[n] = []
    for row in _parents(txn, others, limit=len(others) * INLINE_PARENTS):
        ends[row[0]].append(_end_of(row))
    return ends


def parents(txn: Transaction, job_id: str, after: int, limit: int) -> list[ParentEnd]:
    """Return how the parents of a job stand, in the order of its edges."""
    ns = [n for _, n in txn.rows(_SQL["numbers"], (texts((job_id,)),))]
    return [_end_of(row) for row in _parents(txn, ns, limit=limit, after=after)]


def _parents(txn: Transaction, ns: Iterable[int], *, limit: int, after: int = 0) -> list[Values]:
    wanted = numbers(ns)
    return txn.rows(_SQL["parents"], (wanted, limit, after)) if wanted else []


def _end_of(row: Values) -> ParentEnd:
    _, traits, job_id, is_gone, end, is_running, waits, due_at, result, error, cause = row
    role = role_of(traits)
    if is_gone:
        return ParentEnd(job_id, role, State.SUCCEEDED, is_gone=True)
    state = standing(end, is_running=is_running, waits=waits, due_at=due_at)
    return ParentEnd(job_id, role, state, result or b"", error or b"", cause)
