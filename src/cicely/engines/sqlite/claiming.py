"""The verb `claim`: hands ready jobs to a session, in the order of their rank.

Of each queue, the classes that this session can take are found by a seek each; their heads are merged.
What is taken of one is always its beginning, so one range leaves the index. Queues with gated jobs go
another way: see gated.py.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Final

from cicely.core.job import Claim
from cicely.core.lanes import turn
from cicely.core.patience import LOOK_S
from cicely.core.resources import Amounts
from cicely.engines.contract import Ask, Demand, Intake
from cicely.engines.sqlite.agenda import has_intents
from cicely.engines.sqlite.bands import Band, Bands
from cicely.engines.sqlite.cascade import expire
from cicely.engines.sqlite.damage import park
from cicely.engines.sqlite.edges import complete
from cicely.engines.sqlite.gated import GatedQueue
from cicely.engines.sqlite.gates import gates_of
from cicely.engines.sqlite.heads import FLAGS, NO_UNITS, STREAM, UNREADABLE, Stream, claim_of
from cicely.engines.sqlite.limiting import read_flow
from cicely.engines.sqlite.member import Member
from cicely.engines.sqlite.openings import look_over
from cicely.engines.sqlite.reservations import units_in
from cicely.engines.sqlite.room import Room
from cicely.engines.sqlite.statements import statements
from cicely.engines.sqlite.sweeping import promote, take_back_messages
from cicely.engines.sqlite.telling import started
from cicely.engines.sqlite.transaction import READY, RUNNING, WATCHED, Transaction, Values, numbers

_SQL: Final = statements("claim")
_QUEUE: Final = _SQL["queue"]
_NEXT_CLASS: Final = _SQL["next_class"]
_RUN: Final = _SQL["run"]
_REPEATED: Final = _SQL["repeated"]
_NEXT_DUE: Final = _SQL["next_due"]
_SESSIONS: Final = statements("sessions")

PROMOTED_PER_CLAIM: Final = 256
EXPIRED_PER_CLAIM: Final = 256


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
        for place in taking.watched:
            started(txn, member.session.id, claims[place])
        # Who goes idle is told of all valves; a session that found work comes back by itself.
        if taking.is_gated or txn.gates is not None or not claims:
            look_over(txn)
    txn.is_stirred = True
    txn.lookers[member.session.id] = bool(claims)
    # One that stopped at its bound has not seen what is there, and who left something to do lets go of
    # more: let it come back at once.
    is_left = is_cut or (txn.may_have_intents and has_intents(txn))
    due_in_s = 0.0 if is_left else next_due_in_s(txn)
    if txn.gates is not None and gates_of(txn).has_kept_back:
        due_in_s = LOOK_S if due_in_s is None else min(due_in_s, LOOK_S)
    return Intake(tuple(claims), due_in_s)


def next_due_in_s(txn: Transaction) -> float | None:
    """Return in how many seconds the next job is due, or a valve opens at which jobs wait."""
    [(due_at, open_at)] = txn.rows(_NEXT_DUE, (txn.now,))
    if due_at is None or (open_at is not None and open_at < due_at):
        due_at = open_at
    return None if due_at is None else max(0.0, due_at - txn.now)


def _repeated(txn: Transaction, member: Member, demand: Demand) -> list[Claim]:
    """Return what this very request was given before and is still held."""
    claims: list[Claim] = []
    flagged: dict[int, tuple[int, int]] = {}
    for *row, job_class, queue, units, flow in txn.rows(_REPEATED, (member.number, demand.request)):
        task, kind = txn.names.class_of(job_class)
        if row[FLAGS]:
            flagged[row[1]] = (len(claims), row[FLAGS])
        name = txn.names.queue_name(queue)
        taken = claim_of(
            txn,
            row,
            demand.request,
            task=task,
            kind=kind,
            queue=name,
            units=units_in(units),
            keys=read_flow(flow)[2],
        )
        claims.append(taken)
    if flagged:
        complete(txn, claims, flagged)
    if claims:
        txn.execute(_SESSIONS["trust"], (member.number,))
    return claims


class _Queue:
    """A queue that is not paused, and its streams that fit."""

    __slots__ = ("is_gated", "name", "number", "streams")

    def __init__(self, number: int, name: str, streams: list[Stream], *, is_gated: bool) -> None:
        self.number = number
        self.name = name
        self.streams = streams
        self.is_gated = is_gated


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
        #: Whether so much had to be put aside that the rest was not looked at.
        self.is_cut = False
        #: Numbers of what was taken, by the fence of the claim.
        self._taken: dict[int, list[int]] = {}
        self._started: list[Values] = []
        self.claims: list[Claim] = []
        #: Places in `claims`, and the flags, of jobs that have more to them than their row.
        self.flagged: dict[int, tuple[int, int]] = {}
        #: Places in `claims` of jobs whose starts are told.
        self.watched: list[int] = []
        #: Whether gated jobs were looked at; what left their streams; what was charged, by fence and amount.
        self.is_gated = False
        self._left: list[Values] = []
        self._charged: dict[tuple[int, float], list[int]] = {}
        self._bands: Bands | None = None
        self._room: Room | None = None

    def answer(self, ask: Ask) -> None:
        """Take what one ask wants, and write it down, so that the next ask does not see it."""
        if self.is_cut:
            return
        filling = _Filling(self, ask)
        if not filling.is_done:
            filling.fill_from(self._queues(ask))

    def _queues(self, ask: Ask) -> Iterator[_Queue]:
        """Yield the queues that may be taken from, each with its fitting streams."""
        wanted = _most(ask)
        for name in self._demand.queues:
            row = self._txn.row(_QUEUE, (name,))
            if row is None or row[1]:
                continue
            fitting = [place for place in self._places(row[0]) if self._fits(place[1], ask)]
            share = wanted if len(fitting) < 2 else 1 + 2 * wanted // len(fitting)  # noqa: PLR2004
            streams = [Stream(self._txn, place, wanted=share) for place in fitting]
            yield _Queue(row[0], name, streams, is_gated=bool(row[2]))

    def _places(self, queue: int) -> Iterator[Values]:
        """Yield (queue, class, rank, n) of the first job of each class."""
        head = self._txn.row(_NEXT_CLASS, (queue, -1))
        while head is not None:
            yield (queue, *head)
            head = self._txn.row(_NEXT_CLASS, (queue, head[0]))

    def hand_out_gated(self, queue: _Queue, ask: Ask, filling: _Filling) -> None:
        """Take from a queue what flow control lets pass."""
        self.is_gated = True
        txn = self._txn
        self._bands = self._bands or Bands(txn, self._member)
        self._room = self._room or Room(txn, self._member.session)
        gated = GatedQueue(
            txn,
            queue=(queue.number, queue.name),
            bands=self._bands.of(queue.number, queue.name, ask),
            plain=queue.streams,
            room=self._room,
            wanted=_most(ask),
            turn=max(map(turn, ask.pace.values()), default=1),
        )
        gated.hand_out(self, filling)

    def _fits(self, job_class: int, ask: Ask) -> bool:
        task, kind = self._txn.names.class_of(job_class)
        return kind in ask.kinds and self._member.runs(task)

    def take(
        self,
        row: Values,
        of: Stream | Band,
        queue: str,
        units: Amounts = NO_UNITS,
        keys: tuple[str, ...] = (),
    ) -> bool:
        """Add a claim for a job; False where its row cannot be read."""
        txn, request = self._txn, self._demand.request
        try:
            taken = claim_of(
                txn, row, request, task=of.task, kind=of.kind, queue=queue, units=units, keys=keys
            )
        except UNREADABLE:
            self._damaged.append(row[1])
            return False
        if row[FLAGS]:
            self._note_flags(row[1], row[FLAGS])
        self.claims.append(taken)
        self._taken.setdefault(taken.fence, []).append(row[1])
        if row[4] is not None:
            self._started.append((row[4], row[1]))
        return True

    def _note_flags(self, n: int, flags: int) -> None:
        if flags & WATCHED:
            self.watched.append(len(self.claims))
        if flags != WATCHED:
            self.flagged[n] = (len(self.claims), flags)

    def left(self, row: Values) -> None:
        """Note that the job just taken stood in a stream."""
        self._left.append((row[STREAM], row[0], row[1]))

    def took(self, n: int, charged: float) -> None:
        """Note that the job just taken took something beside itself, and what its lane was charged."""
        fence = self.claims[-1].fence
        self._taken[fence].pop()
        self._charged.setdefault((fence, charged), []).append(n)

    def expire(self, row: Values) -> None:
        """Note a job that was to start before now."""
        self._late.append(row[1])
        self._expired += 1
        self.is_cut = self._expired >= EXPIRED_PER_CLAIM

    def cut(self) -> None:
        """Stop here: the next call goes on."""
        self.is_cut = True

    def write(self, queue: _Queue) -> None:
        """Write what was taken from one queue."""
        txn = self._txn
        if self._left:
            gates_of(txn).streams.leave(self._left)
            self._left = []
        self._end_late()
        self._park_damaged()
        for stream in queue.streams:
            if stream.taken_to is not None:
                txn.execute(_SQL["take"], (*stream.key, *stream.taken_to))
        demand = self._demand
        deadline_at = None if demand.visibility_s is None else self.now + demand.visibility_s
        taken = 0
        for fence, ns in self._taken.items():
            held = (self._member.number, demand.request, fence, self.now, deadline_at)
            if ns:
                txn.execute(_RUN, (numbers(ns), *held))
                taken += len(ns)
        if self._charged:
            taken += self._write_charged(deadline_at)
        txn.many(_SQL["started"], self._started)
        txn.count(queue.number, READY, -taken)
        txn.count(queue.number, RUNNING, taken)
        self._taken, self._started = {}, []

    def _write_charged(self, deadline_at: float | None) -> int:
        """Write the claims that took something; return how many."""
        session, request = self._member.number, self._demand.request
        charged, self._charged = self._charged, {}
        for (fence, amount), ns in charged.items():
            self._txn.execute(
                _SQL["run_gated"], (numbers(ns), session, request, fence, self.now, deadline_at, amount)
            )
        return sum(map(len, charged.values()))

    def _end_late(self) -> None:
        if not self._late:
            return
        expire(self._txn, self._late)
        self._late = []

    def _park_damaged(self) -> None:
        for n in self._damaged:
            park(self._txn, n)
        self._damaged = []


class _Filling:
    """One ask being filled: slots of any task first, then the short ones."""

    def __init__(self, taking: _Taking, ask: Ask) -> None:
        self._taking = taking
        self._ask = ask
        self._now = taking.now
        self.taken = 0
        self._spent_s = 0.0
        self._is_over = False

    def fill_from(self, queues: Iterator[_Queue]) -> None:
        """Take from the queues in their order until the ask is full."""
        for queue in queues:
            if queue.is_gated:
                self._taking.hand_out_gated(queue, self._ask, self)
            else:
                self._merge(queue.name, queue.streams)
            self._taking.write(queue)
            if self.is_done:
                return

    @property
    def is_done(self) -> bool:
        """Whether the ask wants nothing more."""
        return self._is_over or self._taking.is_cut or self._is_full()

    def wants(self, task: str) -> bool:
        """Return whether the ask takes a job of `task`."""
        return self.taken < self._ask.slots or self._may_take_beyond(task)

    def turn(self, task: str) -> int:
        """Return how many jobs of `task` a lane gets in a row."""
        return turn(self._ask.pace.get(task))

    def note(self, *, taken: bool) -> None:
        """Count a job."""
        self.taken += taken

    def _is_full(self) -> bool:
        ask = self._ask
        return self.taken >= ask.slots and (not ask.pace or self.taken >= ask.limit)

    def _merge(self, queue: str, streams: list[Stream]) -> None:
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

    def _consider(self, stream: Stream, queue: str) -> bool:
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
        if self.taken >= self._ask.slots and not self._may_take_beyond(stream.task):
            return False
        self.taken += self._taking.take(row, stream, queue)
        stream.take()
        return True

    def _may_take_beyond(self, task: str) -> bool:
        pace_s = self._ask.pace.get(task)
        if pace_s is None:
            return False
        self._spent_s += pace_s
        self._is_over = self.taken >= self._ask.limit or self._spent_s > self._ask.buffer_s
        return not self._is_over


def _most(ask: Ask) -> int:
    """Return the largest number of jobs that an ask can take."""
    if not ask.pace:
        return ask.slots
    shortest_s = max(min(ask.pace.values()), 1e-6)
    return ask.slots + min(max(0, ask.limit - ask.slots), int(ask.buffer_s / shortest_s))
