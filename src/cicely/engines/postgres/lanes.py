"""Fair shares: the clocks of lanes and queues, as one call moves them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Final

from cicely.core.lanes import Lane, charge, charged, corrected, start
from cicely.engines.postgres.arrays import floats, ints
from cicely.engines.postgres.statements import statements
from cicely.engines.postgres.transaction import Transaction
from cicely.engines.postgres.wire import Answer, Values

_SQL: Final = statements("stream")


class _Kept:
    """A lane as it stands."""

    __slots__ = ("is_moved", "lane", "number", "weight")

    def __init__(self, number: int, clock: float, mean_s: float, weight: float) -> None:
        self.number = number
        self.lane = Lane(clock, mean_s)
        self.weight = weight
        self.is_moved = False


class _Share:
    """A queue's clock, and whether it has lanes that share it."""

    __slots__ = ("clock", "is_moved", "is_shared")

    def __init__(self, clock: float, is_shared: bool) -> None:  # noqa: FBT001  (a row of the statement)
        self.clock = clock
        self.is_shared = is_shared
        self.is_moved = False


class Lanes:
    """The lanes that one call names, each read once and written once; the flow lock is held."""

    def __init__(self, txn: Transaction) -> None:
        self._txn = txn
        self._lanes: dict[int, _Kept] = {}
        self._by_name: dict[tuple[int, str], int] = {}
        self._shares: dict[int, _Share] = {}

    def share(self, queue: int) -> _Share:
        """Return what a queue's lanes share."""
        found = self._shares.get(queue)
        if found is None:
            row = self._txn.row(_SQL["outlook"], {"queue": queue, "now": self._txn.now})
            found = self._shares[queue] = _Share(*(row or (0.0, False))[:2])
        return found

    def know_share(self, queue: int, clock: float, *, is_shared: bool) -> None:
        """Take note of what a queue's lanes share, which was read with something else."""
        if queue not in self._shares:
            self._shares[queue] = _Share(clock, is_shared)

    def know(self, number: int, clock: float, mean_s: float, weight: float) -> None:
        """Take note of a lane that was read with something else."""
        if number not in self._lanes:
            self._lanes[number] = _Kept(number, clock, mean_s, weight)

    def ask(self, numbers: Collection[int]) -> Callable[[], None]:
        """Have lanes read with what is read next; return what takes note of them then."""
        wanted = [number for number in numbers if number not in self._lanes]
        answer = self._txn.later(_SQL["lanes_by_id"], {"ids": wanted}) if wanted else None
        return lambda: self._know_all(answer)

    def _know_all(self, answer: Answer | None) -> None:
        for row in () if answer is None else self._txn.heard(answer):
            self.know(*row)

    def number_of(self, queue: int, name: str) -> int:
        """Return the number of a lane; 0 where nobody named it."""
        found = self._by_name.get((queue, name))
        if found is None:
            row: Values = self._txn.row(_SQL["lane"], {"queue": queue, "name": name}) or (0, 0.0, 1.0, 1.0)
            self.know(*row)
            found = self._by_name[queue, name] = row[0]
        return found

    def clock_of(self, number: int) -> float:
        """Return the clock of a lane that is known."""
        return self._lanes[number].lane.clock

    def standing(self, number: int) -> Lane | None:
        """Return how a lane stands, None where it is not known."""
        kept = self._lanes.get(number)
        return None if kept is None else kept.lane

    # --- moving ---------------------------------------------------------------------------
    def charge(self, queue: int, number: int) -> float:
        """Charge a lane for a job that was claimed; return what, 0 where it has nobody to share with."""
        share = self.share(queue)
        if not share.is_shared:
            return 0.0
        kept = self._lanes[number]
        amount = float(charge(kept.lane))
        self._put(kept, charged(kept.lane, share.clock, weight=kept.weight))
        return amount

    def end_turn(self, queue: int, number: int, before: Lane | None) -> None:
        """Have a queue's clock follow a lane, if it had a turn, by how it stood before."""
        if before is None or self._lanes[number].lane is before:
            return
        share = self.share(queue)
        queue_clock, share.clock = share.clock, start(before, share.clock)
        share.is_moved = share.is_moved or queue_clock != share.clock

    def correct(self, number: int, *, was_charged: float, ran_s: float) -> None:
        """Correct a lane by how long its job ran."""
        kept = self._lanes[number]
        self._put(kept, corrected(kept.lane, was_charged=was_charged, ran_s=ran_s, weight=kept.weight))

    def give_back(self, number: int, *, was_charged: float) -> None:
        """Give back what a lane was charged for a job that did not start."""
        kept = self._lanes[number]
        self._put(kept, Lane(kept.lane.clock - was_charged / kept.weight, kept.lane.mean_s))

    def _put(self, kept: _Kept, lane: Lane) -> None:
        if lane != kept.lane:
            kept.lane = lane
            kept.is_moved = True

    def take_moved(self, queue: int) -> dict[str, Any]:
        """Return what moved, of shares that of `queue` alone, for whoever stores it."""
        share = self._shares[queue]
        share.is_moved = False
        return _columns(self._take_lanes()) | {"clock": share.clock, "queue": queue}

    def _take_lanes(self) -> list[_Kept]:
        moved = [kept for kept in self._lanes.values() if kept.is_moved and kept.number]
        for kept in moved:
            kept.is_moved = False
        return moved

    def write(self) -> None:
        """Store what moved."""
        moved = self._take_lanes()
        queues = [queue for queue, share in self._shares.items() if share.is_moved]
        for queue in queues:
            self._shares[queue].is_moved = False
        if not moved and not queues:
            return
        if not queues:
            self._txn.execute(_SQL["move_lanes"], _columns(moved))
            return
        first, *others = queues
        shared = {"clock": self._shares[first].clock, "queue": first}
        self._txn.execute(_SQL["move_both"], _columns(moved) | shared)
        for queue in others:
            self._txn.execute(_SQL["move_share"], (self._shares[queue].clock, queue))


def _columns(lanes: list[_Kept]) -> dict[str, Any]:
    return {
        "ids": ints([kept.number for kept in lanes]),
        "clocks": floats([kept.lane.clock for kept in lanes]),
        "means": floats([kept.lane.mean_s for kept in lanes]),
    }
