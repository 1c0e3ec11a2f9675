"""Hands out what flow control lets pass: the lane whose clock is behind first, of each stream its head.

What a shut valve holds back is parked at it, and is looked at again when it may be open: a gate where the
valve lets none of its jobs pass, else the stream whose head costs too much.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Final

from cicely.core import patience
from cicely.core.job import step
from cicely.core.lanes import turn
from cicely.engines.postgres.arrays import bigints, ints
from cicely.engines.postgres.bands import Band
from cicely.engines.postgres.gates import Gates
from cicely.engines.postgres.limiting import Guard, read_flow
from cicely.engines.postgres.lines import Filling, Line, Plain, Taking
from cicely.engines.postgres.openings import holds_for_all, looks_again_at
from cicely.engines.postgres.passing import Run
from cicely.engines.postgres.patience import Waiters
from cicely.engines.postgres.room import Room
from cicely.engines.postgres.statements import statements
from cicely.engines.postgres.transaction import Transaction
from cicely.engines.postgres.wire import Values

_SQL: Final = statements("stream")

_FIRST: Final = (-1e300, -(1 << 62), -1)
_SMALLEST_PAGE: Final = 16
_LARGEST_PAGE: Final = 256
_MOST_OF_ONE: Final = 400
#: So many are handed out by one call, which has the lock meanwhile; who wants more asks again.
_MOST_AT_ONCE: Final = 400


class GatedQueue:
    """One queue as one ask takes from it; the flow lock is held, and heads are found."""

    def __init__(
        self,
        txn: Transaction,
        gates: Gates,
        *,
        queue: tuple[int, str],
        bands: Sequence[Band],
        parks: Sequence[int],
        plain: Sequence[Plain],
        room: Room,
    ) -> None:
        self._txn = txn
        self._gates = gates
        self._queue, self._name = queue
        self._bands = {band.number: band for band in bands}
        self._plain = plain
        self._room = room
        self._is_shared = gates.lanes.share(self._queue).is_shared
        self._heap: list[tuple[float, int, int, int, Line | Plain]] = []
        self._pushed = 0
        self._read_to: Values = _FIRST
        self._is_all_read = not bands
        self._pages = self._fetches = 0
        self._lines: list[Line] = []
        #: Gates of which nothing more is looked at.
        self._out: set[int] = set()
        self._moved: dict[int, Line] = {}
        #: Valves that may be open again, by number; of those that are not: when, and where that is for all.
        self._open: dict[int, list[float]] = {valve: [] for valve in parks}
        self._shut: dict[int, Guard] = {}
        self._passed: set[int] = set()
        self._blocked: dict[bytes | None, tuple[float, Guard]] = {}
        self._waiters = Waiters(txn, gates)
        self._run = Run(gates.valves, self._waiters)
        #: Flows that were found shut, of which one was noted.
        self._noted: set[bytes | None] = set()
        self._handed_out = 0

    @property
    def is_cut(self) -> bool:
        """Whether so many were handed out that the others have to wait for another call."""
        return self._handed_out >= _MOST_AT_ONCE

    # --- the order ------------------------------------------------------------------------
    def hand_out(self, taking: Taking, filling: Filling) -> None:
        """Take from the queue until the ask wants nothing more."""
        for stream in self._plain:
            if self._is_shared:
                stream.lane = self._gates.lanes.number_of(self._queue, "")
            self._push(stream)
        while not (filling.is_done or self.is_cut) and (thing := self._next(filling)) is not None:
            before = self._gates.lanes.standing(thing.lane)
            if isinstance(thing, Line):
                self._visit(thing, taking, filling)
            else:
                self._visit_plain(thing, taking, filling)
            self._gates.lanes.end_turn(self._queue, thing.lane, before)

    def _next(self, filling: Filling) -> Line | Plain | None:
        """Return what comes next, None where there is nothing more."""
        while True:
            while not self._is_all_read and (not self._heap or self._heap[0][:3] > self._read_to):
                self._read_page(filling)
            if not self._heap:
                return None
            clock, *_, thing = heapq.heappop(self._heap)
            if self._clock_of(thing.lane) <= clock:
                return thing
            self._push(thing)

    def note_heads(self) -> None:
        """Note who stands first now in the streams that moved; where nobody knows, it is looked for."""
        self._run.end()
        moved, self._moved = self._moved, {}
        for number, line in moved.items():
            if line.at < len(line.rows):
                self._gates.heads[number] = line.rows[line.at]
            else:
                self._gates.came.add(number)

    def write(self) -> None:
        """Write what moved, once what was taken has left its place."""
        self._gates.find_heads()
        self._room.write()
        self._look_again()
        self._close_parks()
        self._gates.write()

    def _look_again(self) -> None:
        """Park gates that what was taken has shut: those who wait there are told when they open."""
        for gate, line in self._waiting().items():
            flow = line.rows[line.at][16] if line.is_read else line.flow
            if gate not in self._out and not self._is_blocked(line, flow):
                uses = read_flow(flow)[1]
                if not any(self._gates.valves.guard(use.key).asks_for_cost for use in uses):
                    self._gates.seen.add(gate)
        self._gates.seen |= self._out

    def _waiting(self) -> dict[int, Line]:
        """Return one of the streams of each gate in which jobs are known to be left."""
        lines = [thing for *_, thing in self._heap if isinstance(thing, Line)]
        return {line.gate: line for line in lines if not line.is_read or line.at < len(line.rows)}

    def _clock_of(self, lane: int) -> float:
        return self._gates.lanes.clock_of(lane) if self._is_shared else 0.0

    def _push(self, thing: Line | Plain) -> None:
        self._pushed += 1
        heapq.heappush(self._heap, (self._clock_of(thing.lane), *thing.first, self._pushed, thing))

    # --- one visit ------------------------------------------------------------------------
    def _visit(self, line: Line, taking: Taking, filling: Filling) -> None:
        if line.gate in self._out or line.band.is_out:
            return
        if not line.is_read:
            # Its head may be gone, but one with the same flow that does not pass needs no look.
            if self._is_blocked(line, line.flow):
                self._note_waiter(line, line.first[1], line.flow)
                return
            self._read_lines(line, filling)
        if line.at == len(line.rows) and not self._read_on(line):
            return
        if tuple(line.rows[line.at][:2]) != line.first:
            self._moved[line.number] = line
        elif not self._take_turn(line, taking, filling):
            return
        self._push_again(line)

    def _take_turn(self, line: Line, taking: Taking, filling: Filling) -> bool:
        """Take the first jobs of a stream that pass; return whether the next one may be looked at."""
        priority = step(line.first[0])
        until = filling.taken + self._turn_of(line.band.task, filling)
        while self._consider(line, line.rows[line.at], taking, filling):
            line.at += 1
            self._moved[line.number] = line
            if filling.taken == until or filling.is_done or not self._is_next(line, priority):
                return True
        return False

    def _turn_of(self, task: str, filling: Filling) -> int:
        return turn(filling.ask.pace.get(task)) if self._is_shared else 1

    def _is_next(self, line: Line, priority: int) -> bool:
        """Return whether there is a next job of a stream, with this priority."""
        return (line.at < len(line.rows) or self._read_on(line)) and step(line.rows[line.at][0]) == priority

    def _push_again(self, line: Line) -> None:
        """Have a stream looked at again when it is its turn: then also what is behind what was read."""
        if line.rows:
            line.first = tuple(line.rows[min(line.at, len(line.rows) - 1)][:2])
            self._push(line)

    def _consider(self, line: Line, row: Values, taking: Taking, filling: Filling) -> bool:
        """Take the head of a stream if it passes; return whether the next one may be looked at."""
        if self._is_blocked(line, row[16]):
            self._note_waiter(line, row[1], row[16])
        elif not self._is_kept_back(line, row):
            return self._take(line, row, taking, filling)
        return False

    def _take(self, line: Line, row: Values, taking: Taking, filling: Filling) -> bool:
        """Take a job that its valves let pass; return whether the next one may be looked at."""
        band = line.band
        flow, uses = read_flow(row[16])
        if line.gate_park or line.park:
            # The valves at which it was parked let it pass.
            self._passed.update((line.gate_park, line.park))
        units = None
        if flow.resources:
            self._run.end()
            units = self._room.units_for(band.needs, row)
            if units is None:
                band.is_out = not self._room.has(band.needs)
                return False
        if row[4] is not None and row[4] <= self._txn.now:
            taking.expire(row)
            patience.went(self._waiters, row[1], uses)
            return True
        if not filling.wants(band.task):
            return False
        taking.take_gated(row, band, self._name, units)
        filling.note()
        self._handed_out += 1
        taking.charge(self._gates.lanes.charge(self._queue, line.lane))
        if uses:
            self._run.add(row[1])
        if units is not None:
            self._room.take(row[1], band.needs, units)
        return True

    def _visit_plain(self, stream: Plain, taking: Taking, filling: Filling) -> None:
        row = stream.head()
        if row is not None and tuple(row[:2]) == tuple(stream.first):
            row = self._plain_turn(stream, row, taking, filling)
        if row is not None:
            stream.first = row[:2]
            self._push(stream)

    def _plain_turn(self, stream: Plain, row: Values, taking: Taking, filling: Filling) -> Values | None:
        """Take the first jobs of a class; return the next one, None where nothing more may be looked at."""
        priority = step(row[0])
        until = filling.taken + self._turn_of(stream.task, filling)
        head: Values | None = row
        while head is not None and step(head[0]) == priority and filling.taken < until:
            if not self._consider_plain(stream, head, taking, filling):
                return None
            stream.take()
            head = None if filling.is_done else stream.head()
        return head

    def _consider_plain(self, stream: Plain, row: Values, taking: Taking, filling: Filling) -> bool:
        """Take the head of a class; return whether the next one may be looked at."""
        if row[4] is not None and row[4] <= self._txn.now:
            taking.expire(row)
            return True
        if not filling.wants(stream.task):
            return False
        taking.take(row, stream, self._name)
        filling.note()
        self._handed_out += 1
        taking.charge(self._gates.lanes.charge(self._queue, stream.lane))
        return True

    # --- what is shut ---------------------------------------------------------------------
    def _is_blocked(self, line: Line, flow: bytes | None) -> bool:
        if self._run.lets_pass(flow):
            return False
        found = self._blocked.get(flow)
        if found is None:
            self._run.end()
            found = self._gates.valves.opening(flow)
            if found is None:
                self._run.begin(flow)
                return False
            self._blocked[flow] = found
        at, guard = found
        now = self._txn.now
        if guard.number in self._open:
            self._open[guard.number].append(at)
        self._shut[guard.number] = guard
        again_at = looks_again_at(guard, at, now)
        if holds_for_all(guard, at, now):
            self._out.add(line.gate)
            if line.gate_park != guard.number or guard.number not in self._open:
                self._gates.park_gate(line.gate, self._queue, guard, again_at)
        elif line.park != guard.number or guard.number not in self._open:
            self._gates.park_stream(line.number, self._queue, guard, again_at)
        return True

    def _note_waiter(self, line: Line, n: int, flow: bytes | None) -> None:
        """Note at its limits a job that only they hold back."""
        needs = line.band.needs
        if flow not in self._noted and (not needs.resources or self._room.has(needs)):
            self._noted.add(flow)
            patience.note(self._waiters, n, read_flow(flow)[1])

    def _is_kept_back(self, line: Line, row: Values) -> bool:
        """Return whether a limit keeps for another job what this one would take; all look at it again."""
        if not self._gates.valves.may_keep_room:
            return False
        self._run.end()
        one = patience.Standing(line.number, read_flow(row[16])[1])
        if patience.kept_back(self._waiters, row[1], one) is None:
            return False
        self._gates.has_kept_back = True
        return True

    def _close_parks(self) -> None:
        """Note when valves that may have been open are to be looked at again, and forget those that are."""
        now = self._txn.now
        for valve, openings in self._open.items():
            if openings:
                guard = self._shut[valve]
                if holds_for_all(guard, openings[-1], now) or self._are_all(valve, openings):
                    self._gates.reopen(valve, self._queue, looks_again_at(guard, min(openings), now))
            elif valve in self._passed:
                where = {"valve": valve, "queue": self._queue}
                for statement in ("unpark_gates", "unpark_streams", "forget_park"):
                    self._txn.execute(_SQL[statement], where)
        self._open = {}

    def _are_all(self, valve: int, openings: Sequence[float]) -> bool:
        """Return whether all who are parked at a valve were looked at, and none passes now."""
        [(parked,)] = self._txn.rows(_SQL["count_parked"], {"valve": valve, "queue": self._queue})
        return bool(parked == len(openings))

    # --- reading --------------------------------------------------------------------------
    def _read_page(self, filling: Filling) -> None:
        """Read the next streams, the best first."""
        turn_jobs = max(self._turn_of(band.task, filling) for band in self._bands.values())
        size = min(max(-(-filling.wanted // turn_jobs), _SMALLEST_PAGE) << self._pages, _LARGEST_PAGE)
        self._pages += 1
        clock, order, n = self._read_to
        bounds = {
            "bands": [band.number for band in self._bands.values() if not band.is_out],
            "open": [0, *self._open],
            "out": sorted(self._out),
            "clock": clock,
            "rank": order,
            "n": n,
            "limit": size,
        }
        page = self._txn.rows(_SQL["shared" if self._is_shared else "unshared"], bounds)
        self._gates.valves.read({use.key for row in page for use in read_flow(row[6])[1]})
        for row in page:
            if self._is_shared:
                self._gates.lanes.know(row[2], row[3], row[10], row[11])
            line = Line(row, self._bands[row[7]])
            self._lines.append(line)
            self._push(line)
            self._read_to = row[3:6]
        self._is_all_read = len(page) < size

    def _read_lines(self, line: Line, filling: Filling) -> None:
        """Read the first jobs of a stream, and of those that come next."""
        most = min(self._turn_of(line.band.task, filling), filling.wanted)
        wanted = min(-(-filling.wanted // most) << self._fetches, filling.wanted)
        self._fetches += 1
        lines = [line]
        for other in self._lines:
            if len(lines) >= wanted:
                break
            if other is not line and not other.is_read and other.gate not in self._out:
                lines.append(other)
        if len(lines) < wanted:
            most = 1 + 2 * filling.wanted // len(lines)
        if len(lines) == 1:
            most = int(min(most, max(1.0, self._gates.valves.room(read_flow(line.flow)[1]))))
        self._fetch(lines, min(most, _MOST_OF_ONE))
        self._lines = [one for one in self._lines if not one.is_read]

    def _read_on(self, line: Line) -> bool:
        """Read on in a stream; return whether there was more."""
        self._moved[line.number] = line
        if line.is_spent or not line.rows:
            return False
        self._fetch([line], min(2 * len(line.rows), _MOST_OF_ONE))
        return bool(line.rows)

    def _fetch(self, lines: Sequence[Line], most: int) -> None:
        after = [line.rows[-1][:2] if line.rows else _FIRST[1:] for line in lines]
        wanted = {
            "queue": self._queue,
            "streams": ints([line.number for line in lines]),
            "classes": ints([line.band.job_class for line in lines]),
            "ranks": bigints([order for order, _ in after]),
            "ns": bigints([n for _, n in after]),
            # And the one that stands first then.
            "limit": most + 1,
        }
        by_number = {line.number: line for line in lines}
        for line in lines:
            line.rows, line.at, line.is_read = [], 0, True
        for row in self._txn.rows(_SQL["heads"], wanted):
            by_number[row[17]].rows.append(row)
        for line in lines:
            line.is_spent = len(line.rows) <= most
