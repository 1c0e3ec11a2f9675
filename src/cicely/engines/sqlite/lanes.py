"""Fair shares: the clocks of lanes and queues, as one call moves them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import msgspec

from cicely.core.lanes import Lane, LaneWeight, charge, charged, corrected, start
from cicely.engines.sqlite.statements import statements
from cicely.engines.sqlite.transaction import Transaction, texts

_SQL: Final = statements("stream")
_VALVE: Final = statements("valve")

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(LaneWeight).decode


class Kept:
    """A lane as it stands, and its number."""

    __slots__ = ("is_moved", "lane", "number", "weight")

    def __init__(self, number: int, clock: float, mean_s: float, weight: float) -> None:
        self.number = number
        self.lane = Lane(clock, mean_s)
        self.weight = weight
        self.is_moved = False


class _Shares:
    """What a queue's lanes share."""

    __slots__ = ("clock", "is_moved", "lanes")

    def __init__(self, clock: float, lanes: int) -> None:
        self.clock = clock
        self.lanes = lanes
        self.is_moved = False


class Lanes:
    """The lanes that one call names, each read once and written once."""

    def __init__(self, txn: Transaction) -> None:
        self._txn = txn
        self._lanes: dict[tuple[int, str], Kept] = {}
        self._shares: dict[int, _Shares] = {}

    def number_of(self, queue: int, name: str) -> int:
        """Return the number of a lane, which begins now where nobody named it before."""
        return self.lane(queue, name).number

    def note_plain(self, queue: int) -> None:
        """Take note of jobs of no lane, in a queue that may have lanes."""
        if self.shares(queue).lanes:
            self.number_of(queue, "")

    def know(self, queue: int, name: str, *kept: Any) -> Kept:
        """Take note of a lane that was read with something else, and return it as it stands."""
        found = self._lanes.get((queue, name))
        if found is None:
            found = self._lanes[queue, name] = Kept(*kept)
        return found

    def read(self, queue: int, names: Collection[str]) -> None:
        """Read several lanes at once."""
        wanted = texts(name for name in names if (queue, name) not in self._lanes)
        for name, *kept in self._txn.rows(_SQL["lanes"], (queue, wanted)) if wanted else ():
            self._lanes[queue, name] = Kept(*kept)

    def clock_of(self, queue: int, name: str) -> float:
        """Return a lane's clock."""
        return self.lane(queue, name).lane.clock

    def shares(self, queue: int) -> _Shares:
        """Return what a queue's lanes share."""
        found = self._shares.get(queue)
        if found is None:
            [row] = self._txn.rows(_SQL["shares"], (queue,))
            found = self._shares[queue] = _Shares(*row)
        return found

    def lane(self, queue: int, name: str) -> Kept:
        """Return a lane as it stands, which begins now where nobody named it before."""
        found = self._lanes.get((queue, name))
        if found is None:
            row = self._txn.row(_SQL["lane"], (queue, name))
            found = self._lanes[queue, name] = Kept(*row) if row else self._added(queue, name)
        return found

    def _added(self, queue: int, name: str) -> Kept:
        if name and self._txn.row(_SQL["has_lanes"], (queue,)) is None and self._has_jobs(queue):
            # Until now all its jobs were of no lane, and those have clocks from here on.
            self._lanes[queue, ""] = self._inserted(queue, "")
        return self._inserted(queue, name)

    def _has_jobs(self, queue: int) -> bool:
        return self._txn.has_counted(queue) or self._txn.row(_SQL["has_counts"], (queue,)) is not None

    def _inserted(self, queue: int, name: str) -> Kept:
        txn, shares = self._txn, self.shares(queue)
        found = txn.row(_VALVE["setting"], ("lane", f"{txn.names.queue_name(queue)}/{name}"))
        weight = _decode(found[0]).weight if found else 1.0
        [(number,)] = txn.rows(_SQL["add_lane"], (queue, name, shares.clock, weight))
        txn.execute(_SQL["one_more_lane"], (queue,))
        shares.lanes += 1
        return Kept(number, shares.clock, 1.0, weight)

    # --- moving ---------------------------------------------------------------------------
    def charge(self, queue: int, kept: Kept) -> float:
        """Charge a lane for a job that was claimed; return what."""
        lane = kept.lane
        kept.lane = charged(lane, self.shares(queue).clock, weight=kept.weight)
        kept.is_moved = True
        return charge(lane)

    def end_turn(self, queue: int, before: Lane) -> None:
        """Have a queue's clock follow a lane that had a turn, by how it stood before."""
        shares = self.shares(queue)
        queue_clock, shares.clock = shares.clock, start(before, shares.clock)
        shares.is_moved = shares.is_moved or queue_clock != shares.clock

    def correct(self, queue: int, name: str, *, was_charged: float, ran_s: float) -> None:
        """Correct a lane by how long its job ran."""
        kept = self.lane(queue, name)
        self._put(kept, corrected(kept.lane, was_charged=was_charged, ran_s=ran_s, weight=kept.weight))

    def give_back(self, queue: int, name: str, *, was_charged: float) -> None:
        """Give back what a lane was charged for a job that did not start."""
        kept = self.lane(queue, name)
        self._put(kept, Lane(kept.lane.clock - was_charged / kept.weight, kept.lane.mean_s))

    def _put(self, kept: Kept, lane: Lane) -> None:
        if lane != kept.lane:
            kept.lane = lane
            kept.is_moved = True

    def write(self) -> list[int]:
        """Store what moved; return the numbers of the lanes."""
        moved = [kept for kept in self._lanes.values() if kept.is_moved]
        self._txn.many(_SQL["move_lane"], [(k.lane.clock, k.lane.mean_s, k.number) for k in moved])
        for kept in moved:
            kept.is_moved = False
        queues = [(queue, shares) for queue, shares in self._shares.items() if shares.is_moved]
        self._txn.many(_SQL["move_queue"], [(shares.clock, queue) for queue, shares in queues])
        for _, shares in queues:
            shares.is_moved = False
        return [kept.number for kept in moved]

    # --- weights --------------------------------------------------------------------------
    def weigh(self, name: str, weight: LaneWeight | None) -> None:
        """Keep a weight under the name queue/lane, or forget it."""
        self.write()
        self._lanes.clear()
        if weight is not None:
            self._txn.execute(_VALVE["keep"], ("lane", name, _encode(weight)))
        given = 1.0 if weight is None else weight.weight
        parts = name.split("/")
        for at in range(1, len(parts)):
            self._txn.execute(_SQL["weigh"], ("/".join(parts[:at]), "/".join(parts[at:]), given))
