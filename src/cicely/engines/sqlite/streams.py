"""Streams: where ready jobs stand that something beside their queue holds back."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

import msgspec

from cicely.core.flow import Flow, Needs
from cicely.engines.sqlite.lanes import Lanes
from cicely.engines.sqlite.limiting import Valves, read_flow
from cicely.engines.sqlite.reservations import Reservations
from cicely.engines.sqlite.statements import statements
from cicely.engines.sqlite.transaction import Transaction, Values, numbers

_SQL: Final = statements("stream")
_VALVE: Final = statements("valve")

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Needs).decode
_NO_WANTS: Final = Needs()


def wants_of(stored: bytes) -> Needs:
    """Read what a band wants of a session and its worker; keys are not part of it."""
    return _decode(stored) if stored else _NO_WANTS


class Streams:
    """The streams that one call touches: their heads are found anew before anybody looks."""

    def __init__(self, txn: Transaction, valves: Valves, lanes: Lanes, reservations: Reservations) -> None:
        self._txn = txn
        self._valves = valves
        self._lanes = lanes
        self._reservations = reservations
        self._known: dict[Values, int] = {}
        #: Of touched streams, how many jobs came.
        self._touched: dict[int, int] = {}
        self._places: list[Values] = []
        self._stands: list[Values] = []
        #: Streams that were parked for what is their head by now.
        self._judged: set[int] = set()

    # --- where a job stands ---------------------------------------------------------------
    def number_of(self, kind: tuple[int, str, int, bytes | None], *, shuns: str, workflow: str) -> int:
        """Return the stream of such jobs, a new one where there is none. `kind`: queue, lane, class, flow.

        Where what they want is reserved for their workflow they stand apart, and shun nobody.
        """
        queue, lane, job_class, stored = kind
        flow = read_flow(stored)[0]
        draws = ""
        if workflow and flow.resources and self._reservations.has_some_for(workflow, flow.resources):
            shuns, draws = "", workflow
        place = (*kind, shuns, draws)
        found = self._known.get(place)
        if found is None:
            needs = Needs((), flow.resources, flow.traits, shuns, draws)
            found = self._known[place] = self._interned(queue, lane, job_class, flow, needs)
        return found

    def _interned(self, queue: int, lane: str, job_class: int, flow: Flow, needs: Needs) -> int:
        txn = self._txn
        lane_number = self._lanes.number_of(queue, lane)
        keys = "".join(f",{self._valves.guard(key).number}" for key in flow.keys)
        keys = keys and keys + ","
        wants = b"" if needs == _NO_WANTS else _encode(needs)
        row = txn.row(_SQL["stream"], (queue, job_class, lane_number, wants, keys))
        if row is not None:
            return int(row[0])
        [(band,)] = txn.rows(_SQL["add_band"], (queue, job_class, wants))
        clock = self._lanes.clock_of(queue, lane)
        [(seat,)] = txn.rows(_SQL["add_seat"], (band, lane_number, clock))
        return int(txn.rows(_SQL["add_stream"], (queue, seat, keys))[0][0])

    def stand(self, stream: int, order: int, n: int) -> None:
        """Put a ready job in its place; stored by `write`."""
        self._places.append((stream, order, n))
        self._judged.discard(stream)
        self._touched[stream] = self._touched.get(stream, 0) + 1

    def make_ready(self, ns: Iterable[int]) -> None:
        """Put gated jobs, whose rows say all, in their places."""
        rows = self._txn.rows(_SQL["standing"], (numbers(ns),))
        for n, queue, lane, job_class, order, flow, shuns, workflow in rows:
            kind = (queue, lane, job_class, flow)
            stream = self.number_of(kind, shuns=shuns or "", workflow=workflow or "")
            self.stand(stream, order, n)
            self._stands.append((stream, n))
        # Who reads a row that says that it is ready finds it there.
        self._write_places()

    def leave(self, places: Collection[Values]) -> None:
        """Remove ready jobs from their places: (stream, rank, n)."""
        self._write_places()
        self._txn.execute(_SQL["leave"], (numbers(n for _, _, n in places),))
        for stream, _, _ in places:
            self._touched[stream] = self._touched.get(stream, 0) - 1

    def touch(self, stream: int) -> None:
        """Have a stream's head, and that of its seat, found anew."""
        self._touched.setdefault(stream, 0)

    # --- parking --------------------------------------------------------------------------
    def park(self, stream: int, queue: int, valve: int, open_at: float | None) -> None:
        """Put a stream out of sight until a valve may be open."""
        self._txn.execute(_SQL["park_stream"], (stream, valve))
        self._txn.execute(_SQL["park"], (valve, queue, open_at))
        self._judged.add(stream)
        self.touch(stream)

    def unpark(self, stream: int) -> None:
        """Put a stream back in sight."""
        self._txn.execute(_SQL["park_stream"], (stream, 0))
        self.touch(stream)

    # --- writing --------------------------------------------------------------------------
    def _write_places(self) -> None:
        places, self._places = self._places, []
        self._txn.many(_SQL["stand"], places)
        stands, self._stands = self._stands, []
        self._txn.many(_SQL["stands"], stands)

    def write(self) -> None:
        """Store what came, and find the heads of what was touched."""
        self._write_places()
        moved = self._lanes.write()
        touched, self._touched = self._touched, {}
        seats: set[int] = set()
        if touched:
            seats = self._find_heads(touched)
        if moved:
            seats.update(seat for (seat,) in self._txn.rows(_SQL["seats_of_lanes"], (numbers(moved),)))
        if seats:
            self._find_seats(seats)
        woken = self._valves.woken()
        if woken:
            self._txn.execute(_SQL["wake"], (numbers(woken),))

    def _find_heads(self, touched: dict[int, int]) -> set[int]:
        """Find the first job of each of these streams; return their seats."""
        in_sight = self._txn.rows(_SQL["find_heads"], (numbers(touched),))
        self._count_ready([(number, keys) for number, _, keys in in_sight], touched)
        seats = {seat for _, seat, _ in in_sight}
        if len(in_sight) < len(touched):
            others = touched.keys() - {row[0] for row in in_sight}
            seats |= self._find_parked_heads(others, touched)
        self._judged.clear()
        return seats

    def _find_parked_heads(self, streams: Iterable[int], touched: Mapping[int, int]) -> set[int]:
        found = self._txn.rows(_SQL["touched"], (numbers(streams),))
        self._count_ready([(row[0], row[3]) for row in found], touched)
        changed = [row for row in found if row[5:7] != row[7:9]]
        heads = [(0 if n is None else park, order, n, number) for number, *_, park, _, _, order, n in changed]
        self._txn.many(_SQL["head"], heads)
        self._wake_parks([row for row in changed if row[4] and row[0] not in self._judged])
        return {row[2] for row in found}

    def _count_ready(self, found: Iterable[tuple[int, str]], touched: Mapping[int, int]) -> None:
        """Count the jobs that came, or went, by the keys of their streams."""
        came: dict[int, int] = {}
        for number, keys in found:
            for key in map(int, keys[1:-1].split(",")) if keys and touched[number] else ():
                came[key] = came.get(key, 0) + touched[number]
        self._txn.many(_VALVE["ready"], [(count, key) for key, count in came.items() if count])

    def _wake_parks(self, changed: Collection[Values]) -> None:
        """Have parked streams that changed looked at again, and forget where none is left."""
        txn = self._txn
        for place in {(row[4], row[1]) for row in changed}:
            if txn.row(_SQL["is_parked_at"], place) is None:
                txn.execute(_SQL["unpark"], place)
            else:
                txn.execute(_SQL["reopen"], (*place, 0.0))

    def _find_seats(self, seats: Iterable[int]) -> None:
        self._txn.execute(_SQL["find_seats"], (numbers(seats),))

    def forget(self, batch: int) -> None:
        """Delete what is empty: who comes later begins anew."""
        self.write()
        self._known.clear()
        self._txn.execute(_SQL["forget_streams"], (batch,))
        self._txn.execute(_SQL["forget_seats"], (batch,))
        self._txn.execute(_SQL["forget_bands"])
