"""The verb `claim`: hands ready jobs to a session, in the order of their rank.

Of each queue, the pairs of lane and class that this session can take are found by a seek each; their
heads are locked, passing over what others claim just now, and merged. What was locked and not taken is
free again with the commit.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from typing import Any, Final

from cicely.core.job import Claim, Kind, Tallies
from cicely.engines.contract import Ask, Demand, Intake
from cicely.engines.postgres.cascade import expire
from cicely.engines.postgres.member import Member
from cicely.engines.postgres.statements import statements
from cicely.engines.postgres.sweeping import promote, take_back_messages
from cicely.engines.postgres.transaction import READY, RUNNING, Transaction, Values, token_of
from cicely.engines.postgres.workflows import with_extras

_SQL: Final = statements("claim")
_SESSIONS: Final = statements("sessions")
_QUEUES: Final = _SQL["queues"]
_PAIRS: Final = _SQL["pairs"]
_HEADS: Final = _SQL["heads"]
_START: Final = _SQL["start"]
_REPEATED: Final = _SQL["repeated"]
_NEXT_DUE: Final = _SQL["next_due"]

PROMOTED_PER_CLAIM: Final = 256
_LARGEST_CHUNK: Final = 256
_FRESH: Final = Tallies()


def claim(txn: Transaction, member: Member, demand: Demand) -> Intake:
    """Hand out ready jobs to `member`."""
    is_repeated = bool(_repeated(txn, member, demand))
    if is_repeated:
        # Its session's row is locked first, as by a beat: none hands these back any more.
        txn.execute(_SESSIONS["trust"], {"id": member.number})
    if demand.visibility_s is not None:
        take_back_messages(txn, PROMOTED_PER_CLAIM)
    promote(txn, PROMOTED_PER_CLAIM)
    claims = _repeated(txn, member, demand) if is_repeated else []
    if not claims:
        taking = _Taking(txn, member, demand)
        for ask in demand.asks:
            taking.answer(ask)
        claims = taking.claims
        if taking.flagged:
            claims = with_extras(txn, taking.flagged, claims)
    txn.is_stirred = True
    txn.claimer = member.session.id
    txn.passed_on = not claims
    return Intake(tuple(claims), next_due_in_s(txn))


def next_due_in_s(txn: Transaction) -> float | None:
    """Return in how many seconds the next job is due."""
    row = txn.row(_NEXT_DUE)
    return max(0.0, row[0] - txn.now) if row else None


def _repeated(txn: Transaction, member: Member, demand: Demand) -> list[Claim]:
    """Return what this very request was given before and is still held."""
    claims = []
    flagged = {}
    for *values, job_class, queue in txn.rows(
        _REPEATED, {"session": member.number, "request": demand.request}
    ):
        task, kind = txn.class_of(job_class)
        claims.append(_claim_of(values, demand.request, task=task, kind=kind, queue=txn.queue_name(queue)))
        if values[14]:
            flagged[values[2]] = (values[1], values[14])
    return with_extras(txn, flagged, claims) if flagged else claims


def _claim_of(values: Sequence[Any], request: bytes, *, task: str, kind: Kind, queue: str) -> Claim:
    """Make a claim of a row of `heads`."""
    _, n, job_id, created_at, _, errors, crashes, lost, fence, options, body, checkpoint, _, _, _ = values
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


class _Stream:
    """The ready jobs of one lane and class, in order, locked in chunks when they are first looked at."""

    __slots__ = (
        "_at",
        "_chunk",
        "_is_spent",
        "_read_to",
        "_txn",
        "_wanted",
        "first",
        "kind",
        "lane_key",
        "task",
    )

    def __init__(self, txn: Transaction, pair: Values, *, wanted: int) -> None:
        self._txn = txn
        self.lane_key = pair[:3]
        #: (rank, n) of its first job, which another claim may be taking.
        self.first = pair[3:]
        self.task, self.kind = txn.class_of(pair[2])
        # Not from the very first entry: the remains of jobs that are gone may stand before it.
        self._read_to: Values = (pair[3], pair[4] - 1)
        self._wanted = wanted
        self._chunk: list[Values] = []
        self._at = 0
        self._is_spent = False

    def head(self) -> Values | None:
        """Return the first job that was not taken yet."""
        if self._at == len(self._chunk):
            self._read()
        return self._chunk[self._at] if self._chunk else None

    def take(self) -> None:
        """Go on to the next one."""
        self._at += 1

    def _read(self) -> None:
        self._chunk, self._at = [], 0
        if self._is_spent:
            return
        size = min(max(self._wanted, 1), _LARGEST_CHUNK)
        queue, lane, job_class = self.lane_key
        rank, n = self._read_to
        bindings = {"queue": queue, "lane": lane, "class": job_class, "rank": rank, "n": n, "limit": size}
        self._chunk = self._txn.rows(_HEADS, bindings)
        self._wanted = 2 * size
        self._is_spent = len(self._chunk) < size
        if self._chunk:
            self._read_to = self._chunk[-1][:2]


class _Taking:
    """One claim being filled."""

    def __init__(self, txn: Transaction, member: Member, demand: Demand) -> None:
        self._txn = txn
        self.now = txn.now
        self._member = member
        self._demand = demand
        self._late: list[int] = []
        self._taken: list[Values] = []
        self._fences: list[int] = []
        #: The number and traits of jobs that are not plain, by id.
        self.flagged: dict[str, tuple[int, int]] = {}
        self.claims: list[Claim] = []

    def answer(self, ask: Ask) -> None:
        """Take what one ask wants, and write it down, so that the next ask does not see it."""
        _Filling(self, ask).fill_from(self._streams(ask))

    def _streams(self, ask: Ask) -> Iterator[tuple[int, str, list[_Stream]]]:
        """Yield the queues that may be taken from, each with its fitting streams."""
        wanted = _most(ask)
        open_queues = {name: number for number, name in self._open_queues()}
        pairs = [pair for pair in self._pairs(list(open_queues.values())) if self._fits(pair[2], ask)]
        for name in self._demand.queues:
            number = open_queues.get(name)
            if number is None:
                continue
            own = [pair for pair in pairs if pair[0] == number]
            share = wanted if len(own) < 2 else 1 + 2 * wanted // len(own)  # noqa: PLR2004
            yield number, name, [_Stream(self._txn, pair, wanted=share) for pair in own]

    def _open_queues(self) -> list[Values]:
        return self._txn.rows(_QUEUES, {"names": list(self._demand.queues)})

    def _pairs(self, queues: list[int]) -> list[Values]:
        """Return (queue, lane, class) for each pair that has ready jobs."""
        return self._txn.rows(_PAIRS, {"queues": queues}) if queues else []

    def _fits(self, job_class: int, ask: Ask) -> bool:
        task, kind = self._txn.class_of(job_class)
        return kind in ask.kinds and self._member.runs(task)

    def take(self, row: Values, stream: _Stream, queue: str) -> None:
        """Add a claim for a job."""
        taken = _claim_of(row, self._demand.request, task=stream.task, kind=stream.kind, queue=queue)
        self.claims.append(taken)
        self._taken.append(row)
        self._fences.append(taken.fence)
        if row[14]:
            self.flagged[taken.job_id] = (row[1], row[14])

    def expire(self, row: Values) -> None:
        """Note a job that was to start before now."""
        self._late.append(row[1])

    def write(self, queue: int) -> None:
        """Write what was taken from one queue."""
        txn, demand, now = self._txn, self._demand, self.now
        if self._late:
            expire(txn, self._late)
            self._late = []
        if not self._taken:
            return
        bounded = [row for row in self._taken if row[4] is not None]
        txn.execute(
            _START,
            {
                "places_0": self._places(0),
                "places_1": self._places(1),
                "places_2": self._places(2),
                "places_3": self._places(3),
                "expire_ats": [row[4] for row in bounded],
                "expire_ns": [row[1] for row in bounded],
                "ns": [row[1] for row in self._taken],
                "fences": self._fences,
                "traits": [row[14] for row in self._taken],
                "session": self._member.number,
                "request": demand.request,
                "now": now,
                "deadline_at": None if demand.visibility_s is None else now + demand.visibility_s,
            },
        )
        txn.count(queue, READY, -len(self._taken))
        txn.count(queue, RUNNING, len(self._taken))
        txn.taken += len(self._taken)
        self._taken, self._fences = [], []

    def _places(self, part: int) -> list[str]:
        """Return where in one part of `ready` the taken jobs stand."""
        return [row[12] for row in self._taken if row[13] == part]


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
            self._taking.write(queue)
            if self._is_over or self._is_full():
                return

    def _is_full(self) -> bool:
        ask = self._ask
        return self._taken >= ask.slots and (not ask.pace or self._taken >= ask.limit)

    def _merge(self, queue: str, streams: list[_Stream]) -> None:
        heap = [(*stream.first, i) for i, stream in enumerate(streams)]
        heapq.heapify(heap)
        while heap:
            *key, i = heap[0]
            head = streams[i].head()
            if head is None:
                heapq.heappop(heap)
            elif [head[0], head[1]] != key:
                heapq.heapreplace(heap, (head[0], head[1], i))
            elif self._consider(head, streams[i], queue):
                if self._is_full():
                    return
            elif self._is_over:
                return
            else:
                # Nothing more of this task fits: the rest of its stream is left alone.
                heapq.heappop(heap)

    def _consider(self, row: Values, stream: _Stream, queue: str) -> bool:
        """Take the head of a stream if it may be; return whether the next one may be looked at."""
        expires_at = row[4]
        if expires_at is not None and expires_at <= self._now:
            self._taking.expire(row)
            stream.take()
            return True
        if self._taken >= self._ask.slots and not self._may_take_beyond(stream.task):
            return False
        self._taken += 1
        self._taking.take(row, stream, queue)
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
