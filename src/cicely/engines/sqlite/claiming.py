"""The verb `claim`: hands ready jobs to a session, in the order of their rank.

Of each queue, the classes that this session can take are found by a seek each, those of jobs without
a lane and those over all lanes; their heads are merged. What is taken of one is always its beginning,
so one range leaves the index.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from cicely.core.job import Claim, Kind, Tallies
from cicely.core.outcome import ErrorRecord, Finish
from cicely.core.states import State
from cicely.engines.contract import MALFORMED_REASON, Ask, Demand, Intake
from cicely.engines.sqlite.cascade import begin, conclude, expire
from cicely.engines.sqlite.edges import complete
from cicely.engines.sqlite.endings import Endings, rows_of
from cicely.engines.sqlite.member import Member
from cicely.engines.sqlite.statements import statements
from cicely.engines.sqlite.sweeping import promote, take_back_messages
from cicely.engines.sqlite.transaction import READY, RUNNING, Transaction, Values, numbers, token_of

_SQL: Final = statements("claim")
_QUEUE: Final = _SQL["queue"]
_RUN: Final = _SQL["run"]
_REPEATED: Final = _SQL["repeated"]
_NEXT_DUE: Final = _SQL["next_due"]
_STEER: Final = statements("steer")
_SESSIONS: Final = statements("sessions")

PROMOTED_PER_CLAIM: Final = 256
EXPIRED_PER_CLAIM: Final = 256
_LARGEST_CHUNK: Final = 256
_SMALLEST_CHUNK: Final = 4
_FIRST_KEY: Final = (-(1 << 63), -1)
_FRESH: Final = Tallies()

#: What reading a row that was damaged by hand may raise.
UNREADABLE: Final = (UnicodeDecodeError, TypeError, ValueError, OverflowError)


def claim(txn: Transaction, member: Member, demand: Demand) -> Intake:
    """Hand out ready jobs to `member`."""
    if demand.visibility_s is not None:
        take_back_messages(txn, PROMOTED_PER_CLAIM)
    promote(txn, PROMOTED_PER_CLAIM)
    claims = _repeated(txn, member, demand)
    is_cut = False
    if not claims:
        taking = _Taking(txn, member, demand)
        for ask in demand.asks:
            taking.answer(ask)
        claims, is_cut = taking.claims, taking.is_cut
        if taking.flagged:
            complete(txn, claims, taking.flagged)
    txn.is_stirred = True
    txn.lookers[member.session.id] = bool(claims)
    # One that stopped at its bound has not seen what is there: let it come back at once.
    return Intake(tuple(claims), 0.0 if is_cut else next_due_in_s(txn))


def next_due_in_s(txn: Transaction) -> float | None:
    """Return in how many seconds the next job is due."""
    row = txn.row(_NEXT_DUE)
    return max(0.0, row[0] - txn.now) if row else None


def _repeated(txn: Transaction, member: Member, demand: Demand) -> list[Claim]:
    """Return what this very request was given before and is still held."""
    claims: list[Claim] = []
    flagged: dict[int, tuple[int, int]] = {}
    for *values, job_class, queue in txn.rows(_REPEATED, (member.number, demand.request)):
        task, kind = txn.names.class_of(job_class)
        fence = values[0]
        values[8] = fence - 1
        if values[12]:
            flagged[values[1]] = (len(claims), values[12])
        claims.append(
            _claim_of(values, demand.request, task=task, kind=kind, queue=txn.names.queue_name(queue))
        )
    if flagged:
        complete(txn, claims, flagged)
    if claims:
        txn.execute(_SESSIONS["trust"], (member.number,))
    return claims


def _claim_of(values: Sequence[Any], request: bytes, *, task: str, kind: Kind, queue: str) -> Claim:
    """Make a claim of a row of `heads`; raises one of UNREADABLE where it was damaged."""
    _, n, job_id, created_at, _, errors, crashes, lost, fence, options, body, checkpoint, _ = values
    tallies = Tallies(errors, crashes, lost) if errors or crashes or lost else _FRESH
    return Claim(
        token_of(request, n, fence + 1),
        job_id,
        task,
        kind,
        queue,
        fence + 1,
        body,
        options,
        tallies,
        checkpoint,
        created_at,
    )


class _Index(NamedTuple):
    """The statements that read and shorten one index of ready jobs."""

    next_class: str
    heads: str
    head_keys: str
    take: str


_WITHOUT_LANE: Final = _Index(_SQL["next_class"], _SQL["heads"], _SQL["head_keys"], _SQL["take"])
_OF_ALL_LANES: Final = _Index(
    _SQL["next_class_laned"], _SQL["heads_laned"], _SQL["head_keys_laned"], _SQL["take_laned"]
)


class _Stream:
    """The ready jobs of one class in one index, in order, read in chunks."""

    __slots__ = (
        "_at",
        "_chunk",
        "_read_to",
        "_txn",
        "_wanted",
        "first",
        "index",
        "key",
        "kind",
        "taken_to",
        "task",
    )

    def __init__(self, txn: Transaction, index: _Index, place: Values, *, wanted: int) -> None:
        self._txn = txn
        self.index = index
        #: Its queue and class.
        self.key = place[:2]
        #: (rank, n) of its first job.
        self.first = place[2:]
        self.task, self.kind = txn.names.class_of(place[1])
        self.taken_to: Values | None = None
        self._read_to: Values = _FIRST_KEY
        self._wanted = wanted
        self._chunk: list[Values] = []
        self._at = 0

    def head(self) -> Values | None:
        """Return the first job that was not taken yet."""
        if self._at == len(self._chunk):
            self._read()
        return self._chunk[self._at] if self._chunk else None

    def take(self) -> None:
        """Go on to the next one."""
        self.taken_to = self._chunk[self._at][:2]
        self._at += 1

    def _read(self) -> None:
        size = min(max(self._wanted, _SMALLEST_CHUNK), _LARGEST_CHUNK)
        try:
            chunk = self._txn.rows(self.index.heads, (*self.key, *self._read_to, size))
        except UNREADABLE:
            chunk = list(self._sifted(size))
        self._chunk = chunk
        self._at = 0
        self._wanted = 2 * size
        if chunk:
            self._read_to = chunk[-1][:2]

    def _sifted(self, size: int) -> Iterator[Values]:
        """Read the jobs one by one; in place of an unreadable one, its keys alone."""
        for key in self._txn.rows(self.index.head_keys, (*self.key, *self._read_to, size)):
            try:
                row = self._txn.row(_SQL["head"], key)
            except UNREADABLE:
                row = None
            yield row or (*key, *([None] * 11))


class _Taking:
    """One claim being filled."""

    def __init__(self, txn: Transaction, member: Member, demand: Demand) -> None:
        self._txn = txn
        self.now = txn.now
        self._member = member
        self._demand = demand
        self._late: list[int] = []
        self._damaged: list[int] = []
        self._expired = 0
        #: Whether so many were late that the rest was not looked at.
        self.is_cut = False
        #: Numbers of what was taken, by the fence of the claim.
        self._taken: dict[int, list[int]] = {}
        self._started: list[Values] = []
        self.claims: list[Claim] = []
        #: Places in `claims`, and the flags, of jobs that have more to them than their row.
        self.flagged: dict[int, tuple[int, int]] = {}

    def answer(self, ask: Ask) -> None:
        """Take what one ask wants, and write it down, so that the next ask does not see it."""
        if self.is_cut:
            return
        _Filling(self, ask).fill_from(self._streams(ask))

    def _streams(self, ask: Ask) -> Iterator[tuple[int, str, list[_Stream]]]:
        """Yield the queues that may be taken from, each with its fitting streams."""
        wanted = _most(ask)
        for name in self._demand.queues:
            row = self._txn.row(_QUEUE, (name,))
            if row is None or row[1]:
                continue
            fitting = [(index, place) for index, place in self._places(row[0]) if self._fits(place[1], ask)]
            share = wanted if len(fitting) < 2 else 1 + 2 * wanted // len(fitting)  # noqa: PLR2004
            yield row[0], name, [_Stream(self._txn, *place, wanted=share) for place in fitting]

    def _places(self, queue: int) -> Iterator[tuple[_Index, Values]]:
        """Yield (queue, class, rank, n) of the first job of each class in each index."""
        for index in (_WITHOUT_LANE, _OF_ALL_LANES):
            head = self._txn.row(index.next_class, (queue, -1))
            while head is not None:
                yield index, (queue, *head)
                head = self._txn.row(index.next_class, (queue, head[0]))

    def _fits(self, job_class: int, ask: Ask) -> bool:
        task, kind = self._txn.names.class_of(job_class)
        return kind in ask.kinds and self._member.runs(task)

    def take(self, row: Values, stream: _Stream, queue: str) -> bool:
        """Add a claim for a job; False where its row cannot be read."""
        demand = self._demand
        try:
            taken = _claim_of(row, demand.request, task=stream.task, kind=stream.kind, queue=queue)
        except UNREADABLE:
            self._damaged.append(row[1])
            return False
        if row[12]:
            self.flagged[row[1]] = (len(self.claims), row[12])
        self.claims.append(taken)
        self._taken.setdefault(taken.fence, []).append(row[1])
        if row[4] is not None:
            self._started.append((row[4], row[1]))
        return True

    def expire(self, row: Values) -> None:
        """Note a job that was to start before now."""
        self._late.append(row[1])
        self._expired += 1
        self.is_cut = self._expired >= EXPIRED_PER_CLAIM

    def write(self, queue: int, streams: list[_Stream]) -> None:
        """Write what was taken from one queue."""
        txn = self._txn
        self._end_late()
        self._park_damaged()
        for stream in streams:
            if stream.taken_to is not None:
                txn.execute(stream.index.take, (*stream.key, *stream.taken_to))
        demand = self._demand
        deadline_at = None if demand.visibility_s is None else self.now + demand.visibility_s
        for fence, ns in self._taken.items():
            held = (self._member.number, demand.request, fence, self.now, deadline_at)
            txn.execute(_RUN, (numbers(ns), *held))
        txn.many(_SQL["started"], self._started)
        taken = sum(map(len, self._taken.values()))
        txn.count(queue, READY, -taken)
        txn.count(queue, RUNNING, taken)
        self._taken, self._started = {}, []

    def _end_late(self) -> None:
        if not self._late:
            return
        expire(self._txn, self._late)
        self._late = []

    def _park_damaged(self) -> None:
        for n in self._damaged:
            _park(self._txn, n)
        self._damaged = []


class _Filling:
    """One ask being filled: slots of any task first, then the short ones."""

    def __init__(self, taking: _Taking, ask: Ask) -> None:
        self._taking = taking
        self._ask = ask
        self._now = taking.now
        self._taken = 0
        self._spent_s = 0.0
        self._is_over = False

    def fill_from(self, queues: Iterator[tuple[int, str, list[_Stream]]]) -> None:
        """Take from the queues in their order until the ask is full."""
        if self._is_full():
            return
        for queue, name, streams in queues:
            self._merge(name, streams)
            self._taking.write(queue, streams)
            if self._is_over or self._is_full():
                return

    def _is_full(self) -> bool:
        ask = self._ask
        return self._taken >= ask.slots and (not ask.pace or self._taken >= ask.limit)

    def _merge(self, queue: str, streams: list[_Stream]) -> None:
        heap = [(*stream.first, i) for i, stream in enumerate(streams)]
        heapq.heapify(heap)
        while heap:
            i = heap[0][2]
            stream = streams[i]
            if not self._consider(stream, queue):
                if self._is_over:
                    return
                # Nothing more of this task fits: the rest of its stream is left alone.
                heapq.heappop(heap)
                continue
            if self._is_full():
                return
            head = stream.head()
            if head is None:
                heapq.heappop(heap)
            else:
                heapq.heapreplace(heap, (head[0], head[1], i))

    def _consider(self, stream: _Stream, queue: str) -> bool:
        """Take the head of a stream if it may be; return whether the next one may be looked at."""
        row = stream.head()
        if row is None:
            return False
        expires_at = row[4]
        if expires_at is not None and expires_at <= self._now:
            self._taking.expire(row)
            stream.take()
            self._is_over = self._taking.is_cut
            return not self._is_over
        if self._taken >= self._ask.slots and not self._may_take_beyond(stream.task):
            return False
        self._taken += self._taking.take(row, stream, queue)
        stream.take()
        return True

    def _may_take_beyond(self, task: str) -> bool:
        pace_s = self._ask.pace.get(task)
        if pace_s is None:
            return False
        self._spent_s += pace_s
        self._is_over = self._taken >= self._ask.limit or self._spent_s > self._ask.buffer_s
        return not self._is_over


def _most(ask: Ask) -> int:
    """Return the largest number of jobs that an ask can take."""
    if not ask.pace:
        return ask.slots
    shortest_s = max(min(ask.pace.values()), 1e-6)
    return ask.slots + min(max(0, ask.limit - ask.slots), int(ask.buffer_s / shortest_s))


def _park(txn: Transaction, n: int) -> None:
    """End a job whose row somebody damaged, so that it stays visible and stands in nobody's way."""
    raw = txn.row(_STEER["raw"], (n,))
    if raw is None:
        return
    texts = [bytes(text).decode(errors="replace") for text in raw]
    txn.execute(_STEER["mend"], (n, *texts))
    error = ErrorRecord("Malformed", "its stored row cannot be read; it was edited by hand?")
    endings = Endings(txn)
    for row in rows_of(txn, (n,)):
        step = Finish(State.FAILED, row.tallies, MALFORMED_REASON, error=error.encoded())
        endings.finish(row, step)
    conclude(begin(txn), endings)
