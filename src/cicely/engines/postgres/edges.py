"""Adding edges: between jobs of one call, out of jobs that run or have ended, into those that wait."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from cicely.core.edge import Edge, Fate, fate_of, holds
from cicely.core.traits import traits_of
from cicely.engines.postgres.cascade import Cascade
from cicely.engines.postgres.endings import Row, locked_rows
from cicely.engines.postgres.graph import OUT, end_of, flag
from cicely.engines.postgres.intents import Kind, Work
from cicely.engines.postgres.statements import statements
from cicely.engines.postgres.transaction import READY, Transaction, state_of
from cicely.errors import JobNotFound

_SQL: Final = statements("graph")
_WORKFLOW: Final = statements("workflow")
_SETTLE: Final = statements("settle")


class Ends:
    """The jobs at the ends of some edges, their places locked in the order of their numbers.

    `fresh` are those that this call stored; `is_strict` refuses what is unknown.
    """

    def __init__(self, txn: Transaction, edges: Sequence[Edge], fresh: Mapping[str, int]) -> None:
        self._txn = txn
        self.fresh = fresh
        named = {end for edge in edges for end in (edge.parent, edge.child)} - fresh.keys()
        known: dict[str, int] = dict(txn.rows(_SQL["known"], {"ids": list(named)})) if named else {}
        self.rows: dict[str, Row] = {row.id: row for row in locked_rows(txn, known.values())}
        unknown = [job_id for job_id in named if job_id not in self.rows]
        self.tombs: dict[str, int] = dict(txn.rows(_SQL["tombs"], {"ids": unknown})) if unknown else {}
        self._gone: dict[str, int] = dict(txn.rows(_SQL["gone"], {"ids": unknown})) if unknown else {}

    def refuse_unknown(self, edges: Sequence[Edge]) -> None:
        """Raise JobNotFound for an end that nobody knows."""
        for edge in edges:
            for end in (edge.parent, edge.child):
                if end not in self.fresh and end not in self.rows and end not in self.tombs:
                    raise JobNotFound(f"job {end} is neither known nor among those enqueued with its edge")

    def number_of(self, parent: str) -> int:
        """Return the number of a parent; one that is gone has one, too."""
        if parent in self.fresh:
            return self.fresh[parent]
        if parent in self.rows:
            return self.rows[parent].n
        if parent not in self._gone:
            self._gone |= dict(self._txn.rows(_SQL["lose"], {"ids": [parent]}))
        return self._gone[parent]

    def fate_of(self, parent: str) -> Fate | None:
        """Return how a parent's end counts, None while it has none."""
        if parent in self.fresh:
            return None
        row = self.rows.get(parent)
        if row is not None:
            return None if row.end is None else end_of(self._txn, row.n).fate
        tomb = self.tombs.get(parent)
        return Fate.FAILURE if tomb is None else fate_of(state_of(tomb))

    def number_of_waiting(self, child: str, waiting: Mapping[str, int]) -> int | None:
        """Return the number of a child that waits, else None."""
        if child in waiting:
            return waiting[child]
        row = self.rows.get(child)
        return row.n if row is not None and row.waits and row.end is None else None

    def before(self) -> list[Row]:
        """Return the known jobs."""
        return list(self.rows.values())


def add(txn: Transaction, edges: Sequence[Edge], ends: Ends, waiting: Mapping[str, int]) -> None:
    """Store edges into jobs that wait; those that are known change nothing."""
    rows = _new_ones(txn, edges, ends, waiting)
    if not rows:
        return
    parents, children, traits, helds = (list(column) for column in zip(*rows, strict=True))
    txn.execute(_SQL["add"], {"parents": parents, "children": children, "traits": traits, "helds": helds})
    _count(txn, children, helds)
    flag_parents(txn, ends, set(parents))


Stored = tuple[int, int, int, bool | None]


def _new_ones(
    txn: Transaction, edges: Sequence[Edge], ends: Ends, waiting: Mapping[str, int]
) -> list[Stored]:
    wanted: dict[tuple[int, int], Stored] = {}
    fates: dict[str, Fate | None] = {}
    for edge in edges:
        child = ends.number_of_waiting(edge.child, waiting)
        if child is None:
            continue
        parent = ends.number_of(edge.parent)
        if edge.parent not in fates:
            fates[edge.parent] = ends.fate_of(edge.parent)
        fate = fates[edge.parent]
        held = None if fate is None else holds(edge.rule, fate)
        wanted.setdefault((child, parent), (parent, child, traits_of(edge), held))
    fresh = set(waiting.values())
    old = [row for row in wanted.values() if row[1] not in fresh]
    known = _known_pairs(txn, old) if old else set()
    return [row for key, row in wanted.items() if key not in known]


def _known_pairs(txn: Transaction, rows: Iterable[Stored]) -> set[tuple[int, int]]:
    children = list({child for _, child, _, _ in rows})
    parents = list({parent for parent, _, _, _ in rows})
    found = txn.rows(_SQL["edges_into"], {"ns": children, "parents": parents})
    return {(child, parent) for child, parent in found}


def _count(txn: Transaction, children: Sequence[int], helds: Sequence[bool | None]) -> None:
    counts: dict[int, list[int]] = {}
    for child, held in zip(children, helds, strict=True):
        count = counts.setdefault(child, [0, 0, 0])
        count[0] += held is None
        count[1] += held is False
        count[2] += 1
    ns = sorted(counts)
    pending, broken, joins = (list(part) for part in zip(*(counts[n] for n in ns), strict=True))
    txn.execute(_WORKFLOW["count_edges"], {"ns": ns, "pending": pending, "broken": broken, "joins": joins})


def flag_parents(txn: Transaction, ends: Ends, parents: set[int]) -> None:
    """Note on jobs that there are edges out of them, also where they stand: claims and settles look there."""
    plain = [row for row in ends.before() if row.n in parents and not row.traits & OUT]
    flag(txn, [row.n for row in plain], OUT)
    running = [row.n for row in plain if row.is_running]
    if running:
        txn.execute(_SQL["flag_run"], {"ns": running, "traits": OUT})
    # A claim whose snapshot is older than this would take a job by its old row: it finds none.
    places = [
        (row.queue, row.stream, row.job_class, row.rank, row.n) for row in plain if row.state_code == READY
    ]
    txn.many(_SETTLE["unready"], places)
    txn.many(_SETTLE["ready"], places)


def judge_new(txn: Transaction, ns: Iterable[int]) -> None:
    """Let new jobs go, or cancel them, where their edges were decided already."""
    Cascade(txn).run([Work(Kind.JUDGE, n) for n in ns])
