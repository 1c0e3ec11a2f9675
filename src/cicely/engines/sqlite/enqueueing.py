"""The verb `enqueue`: stores new jobs, and answers for those that are known already."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

import msgspec

from cicely.core.edge import Edge
from cicely.core.job import Enqueued, NewJob, rank, to_store
from cicely.core.rollup import Word
from cicely.engines.sqlite.backlogs import check_backlogs
from cicely.engines.sqlite.cascade import judge_each
from cicely.engines.sqlite.edges import Links, check_ends
from cicely.engines.sqlite.gates import gates_of
from cicely.engines.sqlite.graph import start_of
from cicely.engines.sqlite.limiting import encoded
from cicely.engines.sqlite.statements import statements
from cicely.engines.sqlite.transaction import (
    CHILDREN,
    NODE,
    PARENTS,
    READY,
    SCHEDULED,
    WAITING,
    WATCHED,
    WORKFLOW,
    Transaction,
    Values,
    numbers,
    texts,
)
from cicely.engines.sqlite.workflows import Labels

_SQL: Final = statements("enqueue")
_GRAPH: Final = statements("graph")
_KNOWN_ONE: Final = _SQL["known_one"]
_LAST_N: Final = _SQL["last_n"]
_JOB: Final = _SQL["job"]
_READY: Final = _SQL["ready"]
_READY_ALIKE: Final = _SQL["ready_alike"]

#: Bodies above this lie in a table of their own, so that a job's row stays small.
INLINE_BYTES: Final = 1_024

_NO_GATES: Final = (None, None)


def enqueue(txn: Transaction, jobs: Sequence[NewJob], edges: Sequence[Edge] = ()) -> list[Enqueued]:
    """Store those of `jobs` that are new, in their order, and the edges that are."""
    if edges:
        return _enqueue_graph(txn, jobs, edges)
    batch = _Batch(txn, _known(txn, jobs))
    batch.check_backlogs(jobs)
    answers = [batch.answer(job) for job in jobs]
    batch.write()
    txn.freshen()
    return answers


def _enqueue_graph(txn: Transaction, jobs: Sequence[NewJob], edges: Sequence[Edge]) -> list[Enqueued]:
    check_ends(txn, edges, {job.id for job in jobs})
    batch = _Batch(txn, _known(txn, jobs) if jobs else set(), {edge.child for edge in edges})
    batch.check_backlogs(jobs)
    answers = [batch.answer(job) for job in jobs]
    stands_for = {job.id: answer.id for job, answer in zip(jobs, answers, strict=True)}
    batch.link([_between(edge, stands_for) for edge in edges])
    batch.write()
    judge_each(txn, batch.decided)
    txn.freshen()
    return answers


def _between(edge: Edge, stands_for: dict[str, str]) -> Edge:
    """Return an edge between the jobs that stand for its ends."""
    parent, child = stands_for.get(edge.parent, edge.parent), stands_for.get(edge.child, edge.child)
    if (parent, child) == (edge.parent, edge.child):
        return edge
    return msgspec.structs.replace(edge, parent=parent, child=child)


def _known(txn: Transaction, jobs: Sequence[NewJob]) -> set[str]:
    """Return those ids of `jobs` that are taken."""
    if len(jobs) == 1:
        return {row[0] for row in txn.rows(_KNOWN_ONE, (jobs[0].id,))}
    ids = texts(job.id for job in jobs)
    known = {row[0] for row in txn.rows(_SQL["known_jobs"], (ids,))}
    if txn.row(_SQL["has_tombs"]):
        known |= {row[0] for row in txn.rows(_SQL["known_tombs"], (ids,))}
    return known


class _Batch:
    """The rows of one enqueue, gathered per table so that each statement runs over all of them."""

    def __init__(self, txn: Transaction, known: set[str], waiting: Collection[str] = ()) -> None:
        self._txn = txn
        self._known = known
        #: Ids of jobs with edges into them.
        self._waiting = waiting
        self._keys: dict[str, str] = {}
        [(last, last_gone, has_lanes, has_backlogs)] = txn.rows(_LAST_N)
        self._next_n: int = max(last or 0, last_gone or 0) + 1
        self._has_gone = last_gone is not None
        #: Whether any queue has lanes, and any key a bounded backlog.
        self._has_lanes = bool(has_lanes)
        self._has_backlogs = bool(has_backlogs)
        #: Flows and streams of the gated jobs.
        self._gates: dict[int, tuple[bytes | None, int | None]] = {}
        self._ns: dict[str, int] = {}
        self._labels: Labels | None = None
        #: waits, held, pending, broken, joins, workflow and group of the jobs that have such.
        self._nodes: dict[int, list[Any]] = {}
        self._flags: dict[int, int] = {}
        self._starts: dict[int, bytes | None] = {}
        self._links: Links | None = None
        self._jobs: list[Values] = []
        #: Those to stand in `ready`, by their queue, class and rank.
        self._ready: dict[Values, list[int]] = {}
        #: How many jobs of a class and queue.
        self._stored: dict[tuple[int, int], int] = {}
        self._payloads: list[Values] = []
        self._deferred: list[Values] = []
        self._expiring: list[Values] = []
        self._uniques: list[Values] = []
        self._tags: list[Values] = []

    def answer(self, new: NewJob) -> Enqueued:
        """Return who stands for `new`, and gather its rows where that is itself."""
        if new.id in self._known:
            return Enqueued(new.id, fresh=False)
        if new.unique:
            holder = self._holder_of(new.unique)
            if holder is not None:
                return Enqueued(holder, fresh=False)
            self._keys[new.unique] = new.id
        self._known.add(new.id)
        self._gather(new)
        return Enqueued(new.id, fresh=True)

    def check_backlogs(self, jobs: Sequence[NewJob]) -> None:
        """Refuse the call where the bound of a backlog would be exceeded."""
        if self._has_backlogs:
            check_backlogs(self._txn, to_store(jobs, self._is_known))

    def _is_known(self, new: NewJob) -> bool:
        return new.id in self._known or bool(new.unique and self._holder_of(new.unique))

    def _holder_of(self, key: str) -> str | None:
        if key in self._keys:
            return self._keys[key]
        row = self._txn.row(_SQL["holder"], (key,))
        return row[0] if row else None

    def _gather(self, new: NewJob) -> None:
        txn = self._txn
        now = txn.now
        n, self._next_n = self._next_n, self._next_n + 1
        queue = txn.names.queue_id(new.queue)
        job_class = txn.names.class_id(new.task, new.kind)
        due_at = new.due_at if new.due_at is not None else now + new.delay_s
        is_due = due_at <= now
        order = rank(new.priority, now if is_due else due_at, ageing_s=new.ageing_s)
        expires_at = new.expires_at if new.expires_s is None else now + new.expires_s
        waits = self._waits(new, n) if new.workflow or new.group or new.held or self._waiting else False
        if waits or not is_due or expires_at is not None:
            self._starts[n] = start_of(new)
        self._stored[job_class, queue] = self._stored.get((job_class, queue), 0) + 1
        may_be_gated = new.lane or new.flow is not None or self._has_lanes
        is_gated = may_be_gated and self._is_gated(new, queue, n)
        if waits:
            txn.count(queue, WAITING, 1)
            is_due, expires_at, order = True, None, 0
        elif is_due:
            if is_gated:
                self._stand(n, (queue, new.lane, job_class), order, new.workflow)
            else:
                self._ready.setdefault((queue, job_class, order), []).append(n)
            txn.count(queue, READY, 1)
        else:
            self._deferred.append((due_at, n))
            txn.count(queue, SCHEDULED, 1)
        if new.unique or new.tags or new.watched or expires_at is not None or len(new.body) > INLINE_BYTES:
            self._gather_parts(new, n, expires_at)
        self._jobs.append(
            (
                n, new.id, job_class, queue, new.lane, new.priority, order, now,
                None if is_due else due_at, expires_at, new.ageing_s, new.keep_s, new.keep_failed_s,
                new.remember_s, new.max_receives, new.unique or None,
                msgspec.json.encode(new.tags).decode() if new.tags else None, new.options,
                None if len(new.body) > INLINE_BYTES else new.body,
            )
        )  # fmt: skip

    def _gather_parts(self, new: NewJob, n: int, expires_at: float | None) -> None:
        if expires_at is not None:
            self._expiring.append((expires_at, n))
        if new.watched:
            self._flags[n] = self._flags.get(n, 0) | WATCHED
        if new.unique:
            self._uniques.append((new.unique, n))
        self._tags += [(tag, n) for tag in new.tags]
        if len(new.body) > INLINE_BYTES:
            self._payloads.append((n, new.body))

    def _is_gated(self, new: NewJob, queue: int, n: int) -> bool:
        """Note what holds a job back beside its queue; return whether anything does."""
        if new.flow is None and not new.lane:
            if self._has_lanes:
                # Those without a lane share with the others where there are any.
                gates_of(self._txn).lanes.note_plain(queue)
            return False
        gates_of(self._txn).lanes.number_of(queue, new.lane)
        self._has_lanes = True
        self._gates[n] = (None if new.flow is None else encoded(new.flow), None)
        return True

    def _stand(self, n: int, kind: tuple[int, str, int], order: int, workflow: str) -> None:
        flow, _ = self._gates[n]
        streams = gates_of(self._txn).streams
        stream = streams.number_of((*kind, flow), shuns="", workflow=workflow)
        streams.stand(stream, order, n)
        self._gates[n] = (flow, stream)

    def _waits(self, new: NewJob, n: int) -> bool:
        """Note what a job has beside its row; return whether it waits."""
        number, is_published = None, False
        if new.workflow or new.held:
            self._labels = self._labels or Labels(self._txn)
            number, is_published = self._labels.of(new.workflow)
        is_held = new.held and not is_published
        waits = is_held or new.id in self._waiting
        self._ns[new.id] = n
        if waits or number is not None or new.group:
            self._flags[n] = NODE | (WORKFLOW if new.workflow else 0)
            self._nodes[n] = [int(waits), int(is_held), 0, 0, 0, number, new.group or None]
        return waits

    def link(self, edges: Sequence[Edge]) -> None:
        """Add edges between what was gathered and what is known."""
        waiting = {n for n, node in self._nodes.items() if node[0]}
        self._links = Links(self._txn, fresh=self._ns, waiting=waiting, next_n=self._number)
        self._links.add(edges)
        for child, counted in self._links.joins.items():
            if child in self._nodes:
                self._nodes[child][2:5] = counted
                self._flags[child] |= PARENTS
        for n in self._links.parents & set(self._ns.values()):
            self._flags[n] = self._flags.get(n, 0) | CHILDREN

    def _number(self) -> int:
        n = self._next_n
        self._next_n += 1
        return n

    @property
    def decided(self) -> list[int]:
        """The new jobs that do not wait any longer, or whose edges are broken."""
        return [n for n, node in self._nodes.items() if node[0] and (node[3] or not node[1] + node[2])]

    def write(self) -> None:
        """Insert what was gathered."""
        txn, many = self._txn, self._txn.many
        for (job_class, queue), count in self._stored.items():
            self._txn.record.count(Word.ENQUEUED, job_class, queue, count)
        flags, starts = self._flags, self._starts
        gates = self._gates
        if flags or starts or gates:
            rows = [
                (*row, flags.get(row[0], 0), starts.get(row[0]), *gates.get(row[0], _NO_GATES))
                for row in self._jobs
            ]
            many(_SQL["flagged_job"], rows)
        else:
            many(_JOB, self._jobs)
        for alike, ns in self._ready.items():
            if len(ns) == 1:
                txn.execute(_READY, (*alike, ns[0]))
            else:
                txn.execute(_READY_ALIKE, (numbers(ns), *alike))
        many(_SQL["payload"], self._payloads)
        many(_SQL["deferred"], self._deferred)
        many(_SQL["expiring"], self._expiring)
        many(_SQL["uniq"], self._uniques)
        many(_SQL["tag"], self._tags)
        many(_GRAPH["add_node"], [(n, *node) for n, node in self._nodes.items()])
        if self._links is not None:
            self._links.write()
        if self._has_gone:
            self._adopt()

    def _adopt(self) -> None:
        """Have the edges out of deleted jobs begin at the new jobs of their ids."""
        txn = self._txn
        ids = {row[1]: row[0] for row in self._jobs}
        wanted = texts(ids)
        for job_id, old in txn.rows(_GRAPH["gone_numbers"], (wanted,)) if wanted else ():
            if txn.row(_GRAPH["has_edges_out"], (old,)) is not None:
                txn.execute(_GRAPH["adopt"], (old, ids[job_id]))
                txn.execute(_GRAPH["flag"], (numbers((ids[job_id],)), CHILDREN))
            txn.execute(_GRAPH["free_gone_id"], (old,))
            txn.execute(_GRAPH["forget_gone"], (numbers((old,)),))
