"""Hands out what flow control lets pass: the lane whose clock is behind first, of each stream its head.

Streams whose valve was found shut are parked under it, and come back in sight when it may be open.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any, Final, Protocol

from cicely.core import patience
from cicely.core.flow import Use
from cicely.core.job import step
from cicely.core.lanes import Lane
from cicely.core.resources import Amounts
from cicely.engines.sqlite.bands import Band
from cicely.engines.sqlite.gates import Gates, gates_of
from cicely.engines.sqlite.heads import FLOW, GATED_WIDTH, NO_UNITS, STREAM, UNREADABLE, Stream
from cicely.engines.sqlite.lanes import Kept
from cicely.engines.sqlite.limiting import Guard, read_flow
from cicely.engines.sqlite.lines import Line, Parked, Plain, Seats, Siblings, Waiting
from cicely.engines.sqlite.openings import holds_for_all, looks_again_at, opening
from cicely.engines.sqlite.passing import Run
from cicely.engines.sqlite.patience import Waiters
from cicely.engines.sqlite.room import Room
from cicely.engines.sqlite.statements import statements
from cicely.engines.sqlite.transaction import Transaction, Values, numbers

_SQL: Final = statements("stream")

#: A claim looks at so many valves that may be open, and at so many streams of each.
_MOST_PARKS: Final = 64
#: When it has found so many streams shut, it goes on in another call: those are out of its way by then.
_MOST_SHUT: Final = 256
_MOST_PARKED: Final = 256
_LARGEST_PAGE: Final = 256
_SMALLEST_PAGE: Final = 4
#: Of a stream, so many times more are read with each look.
_GROWTH: Final = 4


class Taking(Protocol):
    """What a claim does with the jobs that pass."""

    def expire(self, row: Values) -> None:
        """Note a job that was to start before now."""

    def take(
        self,
        row: Values,
        of: Stream | Band,
        queue: str,
        units: Amounts = NO_UNITS,
        keys: tuple[str, ...] = (),
    ) -> bool:
        """Add a claim for a job; False where its row cannot be read."""

    def cut(self) -> None:
        """Stop here: the next call goes on."""

    def left(self, row: Values) -> None:
        """Note that the job just taken stood in a stream."""

    def took(self, n: int, charged: float) -> None:
        """Note that the job just taken took something beside itself, and what its lane was charged."""


class Filling(Protocol):
    """What an ask still wants."""

    @property
    def is_done(self) -> bool:
        """Whether it wants nothing more."""

    @property
    def taken(self) -> int:
        """How many it took so far."""

    def wants(self, task: str) -> bool:
        """Return whether it takes a job of `task`."""

    def turn(self, task: str) -> int:
        """Return how many jobs of `task` a lane gets in a row."""

    def note(self, *, taken: bool) -> None:
        """Count a job."""


_Thing = Line | Seats | Siblings | Plain | Waiting


class GatedQueue:
    """One queue as one ask takes from it."""

    def __init__(
        self,
        txn: Transaction,
        *,
        queue: tuple[int, str],
        bands: Sequence[Band],
        plain: Sequence[Stream],
        room: Room,
        wanted: int,
        turn: int,
    ) -> None:
        self._txn = txn
        self._gates: Gates = gates_of(txn)
        self._gates.write()
        self._queue, self._name = queue
        self._bands = {band.number: band for band in bands}
        self._room = room
        self._is_shared = self._gates.lanes.shares(self._queue).lanes > 1
        #: Of streams, and of the jobs of one, so many are read at once.
        self._page = min(max(wanted // (turn if self._is_shared else 1), _SMALLEST_PAGE), _LARGEST_PAGE)
        self._turn = turn
        self._heap: list[tuple[float, int, int, int, _Thing]] = []
        self._pushed = 0
        self._parks: dict[int, Parked] = {}
        self._shut = 0
        self._waiters = Waiters(txn, self._gates)
        self._run = Run(self._gates, self._waiters)
        #: Flows that do not pass now, since when, and where.
        self._blocked: dict[bytes | None, tuple[float, Guard]] = {}
        for stream in plain:
            lane = self._shared("")
            self._push((_clock_of(lane), *stream.first), Plain(lane, stream))
        for band in bands:
            self._read_seats(Seats(band))
        self._read_parks()

    def _shared(self, lane: str) -> Kept | None:
        """Return a lane where its clock counts."""
        return self._gates.lanes.lane(self._queue, lane) if self._is_shared else None

    def _known(self, lane: str, *kept: Any) -> Kept | None:
        """Return a lane that was read with something else, where its clock counts."""
        known = self._gates.lanes.know(self._queue, lane, *kept)
        return known if self._is_shared else None

    def _push(self, key: Values, thing: _Thing) -> None:
        self._pushed += 1
        heapq.heappush(self._heap, (key[0], key[1], key[2], self._pushed, thing))

    # --- the order ------------------------------------------------------------------------
    def hand_out(self, taking: Taking, filling: Filling) -> None:
        """Take from the queue until the ask wants nothing more."""
        while self._heap and not filling.is_done:
            clock, order, n, _, thing = self._heap[0]
            if thing.lane is not None and thing.lane.lane.clock > clock:
                heapq.heappop(self._heap)
                self._push((thing.lane.lane.clock, order, n), thing)
                continue
            heapq.heappop(self._heap)
            before = _standing(thing.lane)
            self._visit(thing, taking, filling)
            self._end_turn(thing.lane, before)
        self._run.end()
        self._close_parks()

    def _visit(self, thing: _Thing, taking: Taking, filling: Filling) -> None:
        match thing:
            case Line():
                self._visit_line(thing, taking, filling)
            case Plain():
                self._visit_plain(thing, taking, filling)
            case Seats():
                self._read_seats(thing)
            case Siblings():
                self._read_siblings(thing)
            case Waiting():
                self._visit_waiting(thing, taking, filling)

    def _end_turn(self, lane: Kept | None, before: Lane | None) -> None:
        """Have the queue's clock follow a lane that had a turn, which stood so before."""
        if lane is not None and before is not None and lane.lane is not before:
            self._gates.lanes.end_turn(self._queue, before)

    def _visit_line(self, line: Line, taking: Taking, filling: Filling) -> None:
        if line.at == len(line.rows):
            self._look_behind(line)
            if self._read_line(line):
                self._push((_clock_of(line.lane), *line.rows[0][:2]), line)
            return
        if self._take_turn(line, taking, filling):
            self._look_behind(line)
            return
        # What comes behind what was read is looked at when it is its turn.
        row = line.rows[min(line.at, len(line.rows) - 1)]
        self._push((_clock_of(line.lane), row[0], row[1]), line)

    def _take_turn(self, line: Line, taking: Taking, filling: Filling) -> bool:
        """Take the first jobs of a stream that pass; return whether nothing more of it may be looked at."""
        priority = step(line.rows[line.at][0])
        until = filling.taken + self._turn_of(line.lane, line.band.task, filling)
        while not line.band.is_out and self._consider(line, line.rows[line.at], taking, filling):
            line.at += 1
            if filling.taken == until or filling.is_done or not self._is_next(line, priority):
                return not line.rows
        return True

    def _turn_of(self, lane: Kept | None, task: str, filling: Filling) -> int:
        return 1 if lane is None else filling.turn(task)

    def _is_next(self, line: Line, priority: int) -> bool:
        """Return whether there is a next job of a stream, with this priority."""
        if line.at == len(line.rows):
            self._look_behind(line)
            if not self._read_line(line):
                return False
        return step(line.rows[line.at][0]) == priority

    def _look_behind(self, line: Line) -> None:
        """Have the other streams of a line's seat looked at, if they were not."""
        if line.is_leading:
            line.is_leading = False
            siblings = Siblings(line)
            self._push((_clock_of(line.lane), *siblings.read_to), siblings)

    def _consider(self, line: Line, row: Values, taking: Taking, filling: Filling) -> bool:
        """Take the head of a stream if it passes; return whether the next one may be looked at."""
        band = line.band
        flow, uses, keys = read_flow(row[FLOW])
        if uses and not self._run.lets_pass(row[FLOW]) and self._is_blocked(line, row):
            self._shut += 1
            if self._shut >= _MOST_SHUT:
                taking.cut()
            return False
        if uses and self._gates.valves.may_keep_room and self._is_kept_back(line, row, uses):
            return False
        units = self._units_for(line, row) if flow.resources else None
        if units is None and flow.resources:
            return False
        self._show(line, row)
        if row[4] is not None and row[4] <= self._txn.now:
            taking.expire(row)
            patience.went(self._waiters, row[1], uses)
            return True
        if not filling.wants(band.task):
            band.is_out = True
            return False
        is_taken = taking.take(row, band, self._name, units or NO_UNITS, keys)
        filling.note(taken=is_taken)
        if is_taken:
            self._pass(line, row, taking, units, is_held=bool(uses))
        return True

    def _units_for(self, line: Line, row: Values) -> Any:
        """Return what a job gets of its worker, None where that is not free."""
        # Whether room is kept for another depends on its valves.
        self._run.end()
        needs = line.band.needs
        units = self._room.units_for(needs, row)
        if units is None:
            line.band.is_out = not self._room.has(needs)
            self._show(line, row)
        return units

    def _pass(self, line: Line, row: Values, taking: Taking, units: Any, *, is_held: bool) -> None:
        n = row[1]
        charged = 0.0 if line.lane is None else self._gates.lanes.charge(self._queue, line.lane)
        if is_held:
            self._run.add(n)
        if units is not None:
            self._room.take(n, line.band.needs, units)
        if line.band.needs.shuns or line.band.needs.draws:
            self._txn.execute(_SQL["shun"], (n, None))
        taking.left(row)
        if charged or is_held or units is not None:
            taking.took(n, charged)

    def _visit_plain(self, plain: Plain, taking: Taking, filling: Filling) -> None:
        head = self._take_plain_turn(plain, taking, filling)
        if head is not None:
            self._push((_clock_of(plain.lane), *head[:2]), plain)

    def _take_plain_turn(self, plain: Plain, taking: Taking, filling: Filling) -> Values | None:
        """Take the first jobs of a class; return the next one, None where nothing more may be looked at."""
        stream = plain.stream
        head = stream.head()
        priority = None if head is None else step(head[0])
        until = filling.taken + self._turn_of(plain.lane, stream.task, filling)
        while (
            head is not None and step(head[0]) == priority and filling.taken < until and not filling.is_done
        ):
            if head[4] is not None and head[4] <= self._txn.now:
                taking.expire(head)
            elif not filling.wants(stream.task):
                return None
            else:
                self._take_plain(plain, head, taking, filling)
            stream.take()
            head = stream.head()
        return head

    def _take_plain(self, plain: Plain, row: Values, taking: Taking, filling: Filling) -> None:
        is_taken = taking.take(row, plain.stream, self._name)
        filling.note(taken=is_taken)
        if is_taken and plain.lane is not None:
            taking.took(row[1], self._gates.lanes.charge(self._queue, plain.lane))

    # --- what is shut ---------------------------------------------------------------------
    def _is_blocked(self, line: Line, row: Values) -> bool:
        found = self._blocked.get(row[FLOW])
        if found is None:
            self._run.end()
            found = opening(self._gates, row[FLOW])
            if found is None:
                self._run.begin(row[FLOW])
                return False
            self._blocked[row[FLOW]] = found
            self._note_waiter(line, row)
        at, guard = found
        now = self._txn.now
        visited = self._parks.get(guard.number)
        if visited is not None:
            visited.openings.append(at)
            visited.is_shut = visited.is_shut or holds_for_all(guard, at, now)
        if line.parked is None or line.parked is not visited:
            self._gates.streams.park(row[STREAM], self._queue, guard.number, looks_again_at(guard, at, now))
        return True

    def _note_waiter(self, line: Line, row: Values) -> None:
        """Note at its limits a job that only they hold back."""
        needs = line.band.needs
        if not needs.resources or self._room.has(needs):
            patience.note(self._waiters, row[1], read_flow(row[FLOW])[1])

    def _is_kept_back(self, line: Line, row: Values, uses: Sequence[Use]) -> bool:
        """Return whether a limit keeps for another job what this one would take; all look at it again."""
        self._run.end()
        if patience.kept_back(self._waiters, row[1], patience.Standing(row[STREAM], uses)) is None:
            return False
        self._gates.has_kept_back = True
        self._show(line, row)
        return True

    def _show(self, line: Line, row: Values) -> None:
        """Put a stream back in sight whose valve is open."""
        if line.parked is not None:
            self._gates.streams.unpark(row[STREAM])
            line.parked = None

    def _read_parks(self) -> None:
        txn = self._txn
        for (number,) in txn.rows(_SQL["opening"], (self._queue, txn.now, _MOST_PARKS)):
            guard = self._gates.valves.guard_of(number)
            if guard is None:
                continue
            wanted = (number, self._queue, numbers(self._bands), _MOST_PARKED)
            parked = Parked(guard, txn.rows(_SQL["parked"], wanted))
            self._parks[number] = parked
            for at, row in enumerate(parked.found):
                lane = self._known(*row[:5])
                self._push((_clock_of(lane), row[6], row[7]), Waiting(lane, parked, at))

    def _visit_waiting(self, waiting: Waiting, taking: Taking, filling: Filling) -> None:
        parked = waiting.parked
        if parked.is_shut:
            return
        found = parked.found[waiting.at]
        if found[7] not in parked.firsts:
            page = parked.found[waiting.at : waiting.at + _SMALLEST_PAGE]
            parked.firsts |= self._firsts([row[7] for row in page])
        parked.seen += 1
        row = parked.firsts.get(found[7])
        if row is not None:
            line = Line(self._bands[found[8]], waiting.lane, found[5], [row], parked=parked)
            self._visit_line(line, taking, filling)

    def _close_parks(self) -> None:
        """Note when the valves that may have been open are to be looked at again."""
        txn = self._txn
        for parked in self._parks.values():
            place = (parked.guard.number, self._queue)
            if parked.is_shut:
                at = looks_again_at(parked.guard, max(parked.openings), txn.now)
                txn.execute(_SQL["reopen"], (*place, at))
                continue
            if parked.seen < len(parked.found) or len(parked.found) == _MOST_PARKED:
                continue
            [(left,)] = txn.rows(_SQL["count_parked"], (*place, _MOST_PARKED))
            if left == 0:
                txn.execute(_SQL["unpark"], place)
            elif left == len(parked.openings):
                txn.execute(
                    _SQL["reopen"], (*place, looks_again_at(parked.guard, min(parked.openings), txn.now))
                )
            elif not parked.openings:
                # Only others can run these: they are to find them.
                for (stream,) in txn.rows(_SQL["let_stand"], (*place, _MOST_PARKED)):
                    self._gates.streams.touch(stream)

    # --- reading --------------------------------------------------------------------------
    def _read_seats(self, seats: Seats) -> None:
        if seats.band.is_out:
            return
        page = self._txn.rows(_SQL["best"], (seats.band.number, *seats.read_to, self._page))
        firsts = self._firsts([row[7] for row in page])
        for name, number, clock, mean_s, weight, seat, order, n in page:
            lane = self._known(name, number, clock, mean_s, weight)
            if n in firsts:
                line = Line(seats.band, lane, seat, [firsts[n]], parked=None)
                self._push((clock, order, n), line)
            seats.read_to = (clock, order, n)
        if len(page) == self._page:
            self._push(seats.read_to, seats)

    def _read_siblings(self, siblings: Siblings) -> None:
        if siblings.band.is_out:
            return
        page = self._txn.rows(_SQL["siblings"], (siblings.seat, *siblings.read_to, self._page))
        firsts = self._firsts([n for _, n in page])
        for order, n in page:
            if n in firsts:
                line = Line(siblings.band, siblings.lane, siblings.seat, [firsts[n]], parked=None)
                line.is_leading = False
                self._push((_clock_of(siblings.lane), order, n), line)
            siblings.read_to = (order, n)
        if len(page) == self._page:
            self._push((_clock_of(siblings.lane), *siblings.read_to), siblings)

    def _read_line(self, line: Line) -> bool:
        """Read on in a stream; return whether there was more."""
        last = line.rows[-1]
        line.page = min(max(_GROWTH * line.page, self._turn), _LARGEST_PAGE)
        wanted = (last[STREAM], *last[:2], line.page)
        try:
            rows = self._txn.rows(_SQL["heads"], wanted)
        except UNREADABLE:
            keys = self._txn.rows(_SQL["head_keys"], wanted)
            firsts = self._firsts([n for _, n in keys])
            rows = [firsts[n] for _, n in keys if n in firsts]
        line.rows, line.at = rows, 0
        return bool(rows)

    def _firsts(self, ns: Sequence[int]) -> dict[int, Values]:
        """Return the rows of jobs by their numbers."""
        if not ns:
            return {}
        try:
            return {row[1]: row for row in self._txn.rows(_SQL["firsts"], (numbers(ns),))}
        except UNREADABLE:
            return {n: row for n in ns if (row := self._sifted(n)) is not None}

    def _sifted(self, n: int) -> Values | None:
        """Read one job; in place of an unreadable one, its keys alone."""
        try:
            return self._txn.row(_SQL["firsts"], (numbers((n,)),))
        except UNREADABLE:
            keys = self._txn.row(_SQL["first_keys"], (n,))
            return None if keys is None else (keys[0], n, *([None] * (GATED_WIDTH - 3)), keys[1])


def _standing(lane: Kept | None) -> Lane | None:
    return None if lane is None else lane.lane


def _clock_of(lane: Kept | None) -> float:
    return 0.0 if lane is None else lane.lane.clock
