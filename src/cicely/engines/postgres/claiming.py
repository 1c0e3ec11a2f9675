"""The verb `claim`: hands ready jobs to a session, in the order of their rank.

Of each queue, the classes that this session can take are found by a seek each; their heads are locked,
passing over what others claim just now, and merged. What was locked and not taken is free again with the
commit. Queues with gated jobs go another way: see gated.py.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from typing import Any, Final

from cicely.core.event import JOB_STARTED, Event
from cicely.core.job import Claim
from cicely.core.resources import Amounts
from cicely.engines.contract import Ask, Demand, Intake
from cicely.engines.postgres.arrays import Array, bigints, floats, ints, smallints, tids
from cicely.engines.postgres.bands import Band, Bands
from cicely.engines.postgres.cascade import expire
from cicely.engines.postgres.coming_back import comes_back_in_s
from cicely.engines.postgres.gated import GatedQueue
from cicely.engines.postgres.gates import Gates, gates_of
from cicely.engines.postgres.graph import APART, GATED, HOLDS, LABEL, LINKED, WATCHED
from cicely.engines.postgres.heads import Chunk, Stream, claim_of, with_flow, with_flows
from cicely.engines.postgres.limiting import read_flow
from cicely.engines.postgres.member import Member
from cicely.engines.postgres.outlook import Look, Outlook, most_of
from cicely.engines.postgres.room import Room
from cicely.engines.postgres.standing import stand_anywhere
from cicely.engines.postgres.statements import statements
from cicely.engines.postgres.sweeping import promote, take_back_messages
from cicely.engines.postgres.transaction import READY, RUNNING, Transaction
from cicely.engines.postgres.wire import Values
from cicely.engines.postgres.workflows import Extras, with_extras

_SQL: Final = statements("claim")
_SESSIONS: Final = statements("sessions")
_PAIRS: Final = _SQL["pairs"]
_START: Final = _SQL["start"]
_REPEATED: Final = _SQL["repeated"]
_START_GATED: Final = _SQL["start_gated"]
_OUTLOOK: Final = statements("stream")["outlook"]

PROMOTED_PER_CLAIM: Final = 256

#: As a charge: the job took nothing that is to come back.
NOTHING: Final = -1.0


def claim(
    txn: Transaction, session_id: str, demand: Demand, look: Look | None = None
) -> Callable[[], Intake]:
    """Hand out ready jobs to a session, whose `look` may have been asked for. Raises SessionClosed.

    Return what answers with them after the commit.
    """
    seen = (look or Look(txn, session_id, demand)).seen()
    member = seen.member
    is_repeated = seen.is_repeated
    if is_repeated:
        # Its session's row is locked first, as by a beat: none hands these back any more.
        txn.execute(_SESSIONS["trust"], {"id": member.number})
    if _bring_back(txn, demand, seen):
        seen = Look(txn, session_id, demand).seen()
    claims = _repeated(txn, member, demand) if is_repeated else []
    still_seen: Outlook | None = seen
    is_behind = False
    extras: Extras | None = None
    if not claims:
        taking = _Taking(txn, demand, seen)
        for ask in demand.asks:
            taking.answer(ask)
        claims = taking.claims
        if taking.flagged:
            extras = Extras(txn, taking.flagged)
        is_behind = taking.is_cut or (taking.is_behind and not claims)
        still_seen = taking.seen
    txn.is_stirred = True
    txn.claimer = session_id
    txn.passed_on = not claims
    due_in_s = 0.0 if is_behind else comes_back_in_s(txn, still_seen, has_found=bool(claims))
    return lambda: Intake(tuple(claims if extras is None else extras.added_to(claims)), due_in_s)


def _bring_back(txn: Transaction, demand: Demand, seen: Outlook) -> bool:
    """Make ready what is due, or was kept too long; return whether there was anything."""
    taken_back = take_back_messages(txn, PROMOTED_PER_CLAIM) if demand.visibility_s is not None else 0
    is_due = seen.due_at is not None and seen.due_at <= txn.now
    return bool(taken_back + (promote(txn, PROMOTED_PER_CLAIM) if is_due or taken_back else 0))


def _repeated(txn: Transaction, member: Member, demand: Demand) -> list[Claim]:
    """Return what this very request was given before and is still held."""
    claims = []
    flagged = {}
    gated = []
    for *values, job_class, queue in txn.rows(
        _REPEATED, {"session": member.number, "request": demand.request}
    ):
        task, kind = txn.class_of(job_class)
        claims.append(claim_of(values, demand.request, task=task, kind=kind, queue=txn.queue_name(queue)))
        if values[14] & LINKED:
            flagged[values[2]] = (values[1], values[14])
        if values[14] & GATED:
            gated.append(values[1])
    if gated:
        claims = with_flows(txn, gated, claims)
    return with_extras(txn, flagged, claims) if flagged else claims


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

    def __init__(self, txn: Transaction, demand: Demand, seen: Outlook) -> None:
        self._txn = txn
        self.now = txn.now
        #: What there was before; None for what it says of others once something was ended.
        self.seen: Outlook | None = seen
        self._queues = seen.queues
        self._first_pairs: list[Values] | None = seen.pairs
        self._first_heads = Chunk(seen.heads, seen.most_heads) if seen.heads else None
        self._member = seen.member
        self._demand = demand
        self._late: list[int] = []
        self._taken: list[Values] = []
        self._fences: list[int] = []
        #: The number and traits of jobs that are not plain, by id.
        self.flagged: dict[str, tuple[int, int]] = {}
        self.claims: list[Claim] = []
        #: Of those taken, what lanes were charged, by number.
        self._charged: dict[int, float] = {}
        self.gates: Gates | None = None
        #: Whether more jobs came than were looked at.
        self.is_behind = False
        #: Whether more may have passed than one call hands out.
        self.is_cut = False
        self._bands: Bands | None = None
        self._room: Room | None = None

    def answer(self, ask: Ask) -> None:
        """Take what one ask wants, and write it down, so that the next ask does not see it."""
        _Filling(self, ask).fill_from(self._streams(ask))

    def _streams(self, ask: Ask) -> Iterator[_Queue]:
        """Yield the queues that may be taken from, each with its fitting streams."""
        wanted = most_of(ask)
        pairs = [pair for pair in self._pairs() if self._fits(pair[1], ask)]
        for name in self._demand.queues:
            if name not in self._queues:
                continue
            number, is_gated = self._queues[name]
            own = [pair for pair in pairs if pair[0] == number]
            share = wanted if len(own) < 2 else 1 + 2 * wanted // len(own)  # noqa: PLR2004
            streams = [Stream(self._txn, pair, wanted=share, seen=self._seen_of(pair)) for pair in own]
            yield _Queue(number, name, streams, is_gated=is_gated)

    def _seen_of(self, pair: Values) -> Chunk | None:
        """Return the first jobs of a pair where they were read already, once."""
        heads = self._first_heads
        if heads is None or heads.rows[0][-2:] != pair[:2]:
            return None
        self._first_heads = None
        return heads

    def hand_out_gated(self, queue: _Queue, ask: Ask, filling: _Filling) -> None:
        """Take from a queue what flow control lets pass."""
        txn = self._txn
        gates = gates_of(txn)
        gates.lock()
        outlook = txn.later(_OUTLOOK, {"queue": queue.number, "now": txn.now})
        if self.gates is None:
            self.gates = gates
            self.is_behind = gates.fold()
        self._bands = self._bands or Bands(txn, self._member)
        self._room = self._room or Room(txn, self.gates, self._member.session)
        [(clock, is_shared, parks, *bands)] = txn.heard(outlook)
        self.gates.lanes.know_share(queue.number, clock, is_shared=is_shared)
        gated = GatedQueue(
            txn,
            self.gates,
            queue=(queue.number, queue.name),
            bands=self._bands.of(zip(*bands, strict=True), queue.name, ask),
            parks=parks,
            plain=queue.streams,
            room=self._room,
        )
        gated.hand_out(self, filling)
        self.is_cut = self.is_cut or gated.is_cut
        gated.note_heads()
        self.write(queue.number)
        gated.write()

    def _pairs(self) -> list[Values]:
        """Return (queue, class) for each pair that has plain ready jobs; the first ask's were seen."""
        seen, self._first_pairs = self._first_pairs, None
        if seen is not None:
            return seen
        queues = [number for number, _ in self._queues.values()]
        return self._txn.rows(_PAIRS, {"queues": queues}) if queues else []

    def _fits(self, job_class: int, ask: Ask) -> bool:
        task, kind = self._txn.class_of(job_class)
        return kind in ask.kinds and self._member.runs(task)

    def take(self, row: Values, stream: Stream, queue: str) -> None:
        """Add a claim for a job."""
        taken = claim_of(row, self._demand.request, task=stream.task, kind=stream.kind, queue=queue)
        self.claims.append(taken)
        self._taken.append(row)
        self._fences.append(taken.fence)
        if row[14]:
            self._note(taken, row)

    def _note(self, taken: Claim, row: Values) -> None:
        """Take note of what else belongs to a job."""
        if row[14] & LINKED:
            self.flagged[taken.job_id] = (row[1], row[14])
        if row[14] & WATCHED:
            started = Event(
                kind=JOB_STARTED,
                at=self.now,
                job_id=taken.job_id,
                task=taken.task,
                queue=taken.queue,
                attempt=taken.attempt,
                fence=taken.fence,
            )
            has_label = bool(row[14] & LABEL)
            self._txn.record.tell_of(started, row[1], self._member.number, has_label=has_label)

    def take_gated(self, row: Values, band: Band, queue: str, units: Amounts | None) -> None:
        """Add a claim for a gated job."""
        taken = claim_of(row, self._demand.request, task=band.task, kind=band.kind, queue=queue)
        self.claims.append(with_flow(taken, row[16], units))
        self._taken.append(row)
        self._fences.append(taken.fence)
        self._note(taken, row)
        if row[14] & APART:
            stand_anywhere(self._txn, row[1])
        if units or read_flow(row[16])[1]:
            self._charged[row[1]] = 0.0

    def charge(self, amount: float) -> None:
        """Note what the lane of the job just taken was charged."""
        if amount:
            self._charged[self._taken[-1][1]] = amount

    def expire(self, row: Values) -> None:
        """Note a job that was to start before now."""
        self._late.append(row[1])

    def write(self, queue: int) -> None:
        """Write what was taken from one queue."""
        txn, demand, now = self._txn, self._demand, self.now
        if self._late:
            expire(txn, self._late)
            self._late = []
            self.seen = None
        if not self._taken:
            return
        bounded = [row for row in self._taken if row[4] is not None]
        ns = [row[1] for row in self._taken]
        traits = [row[14] for row in self._taken]
        started: dict[str, Any] = {
            "places_0": self._places(0),
            "places_1": self._places(1),
            "places_2": self._places(2),
            "places_3": self._places(3),
            "expire_ats": floats([row[4] for row in bounded]),
            "expire_ns": bigints([row[1] for row in bounded]),
            "ns": bigints(ns),
            "fences": ints(self._fences),
            "session": self._member.number,
            "request": demand.request,
            "now": now,
            "deadline_at": None if demand.visibility_s is None else now + demand.visibility_s,
        }
        if self._charged:
            charged, self._charged = self._charged, {}
            held = zip(ns, traits, strict=True)
            started["traits"] = smallints([t | HOLDS if n in charged else t for n, t in held])
            started["charged"] = floats([charged.get(n, NOTHING) for n in ns])
            txn.execute(_START_GATED, started | gates_of(txn).take_moves(queue))
        else:
            started["traits"] = smallints(traits)
            txn.execute(_START, started)
        txn.count(queue, READY, -len(self._taken))
        txn.count(queue, RUNNING, len(self._taken))
        txn.taken += len(self._taken)
        self._taken, self._fences = [], []

    def _places(self, part: int) -> Array:
        """Return where in one part of `ready` the taken jobs stand."""
        return tids([row[12] for row in self._taken if row[13] == part])


class _Filling:
    """One ask being filled: slots of any task first, then the short ones."""

    def __init__(self, taking: _Taking, ask: Ask) -> None:
        self._taking = taking
        self.ask = ask
        self._now = taking.now
        self.taken = 0
        self._spent_s = 0.0
        self._is_over = False

    def fill_from(self, queues: Iterator[_Queue]) -> None:
        """Take from the queues in their order until the ask is full."""
        if self._is_full():
            return
        for queue in queues:
            if queue.is_gated:
                self._taking.hand_out_gated(queue, self.ask, self)
            else:
                self._merge(queue.name, queue.streams)
                self._taking.write(queue.number)
            if self.is_done:
                return

    @property
    def is_done(self) -> bool:
        """Whether the ask wants nothing more."""
        return self._is_over or self._is_full()

    @property
    def wanted(self) -> int:
        """How many it may still take."""
        return max(1, most_of(self.ask) - self.taken)

    def wants(self, task: str) -> bool:
        """Return whether the ask takes a job of `task`."""
        return self.taken < self.ask.slots or self._may_take_beyond(task)

    def note(self) -> None:
        """Count a job that was taken."""
        self.taken += 1

    def _is_full(self) -> bool:
        ask = self.ask
        return self.taken >= ask.slots and (not ask.pace or self.taken >= ask.limit)

    def _merge(self, queue: str, streams: list[Stream]) -> None:
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

    def _consider(self, row: Values, stream: Stream, queue: str) -> bool:
        """Take the head of a stream if it may be; return whether the next one may be looked at."""
        expires_at = row[4]
        if expires_at is not None and expires_at <= self._now:
            self._taking.expire(row)
            stream.take()
            return True
        if self.taken >= self.ask.slots and not self._may_take_beyond(stream.task):
            return False
        self.taken += 1
        self._taking.take(row, stream, queue)
        stream.take()
        return True

    def _may_take_beyond(self, task: str) -> bool:
        pace_s = self.ask.pace.get(task)
        if pace_s is None:
            return False
        self._spent_s += pace_s
        self._is_over = self.taken >= self.ask.limit or self._spent_s > self.ask.buffer_s
        return not self._is_over
