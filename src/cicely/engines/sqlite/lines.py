"""What stands in the order in which a claim looks at a queue with gated jobs.

`lane` is the lane whose clock counts for it; None where that is looked up with what it reads, and where the
queue has no lanes that share it.
"""

from __future__ import annotations

from typing import Final

from cicely.engines.sqlite.bands import Band
from cicely.engines.sqlite.heads import FIRST_KEY, Stream
from cicely.engines.sqlite.lanes import Kept
from cicely.engines.sqlite.limiting import Guard
from cicely.engines.sqlite.transaction import Values

_FIRST_SEAT: Final = (-1e300, *FIRST_KEY)


class Line:
    """The jobs of one stream, of which the first was read."""

    __slots__ = ("at", "band", "is_leading", "lane", "page", "parked", "rows", "seat")

    def __init__(
        self, band: Band, lane: Kept | None, seat: int, rows: list[Values], *, parked: Parked | None
    ) -> None:
        self.band = band
        self.lane = lane
        self.seat = seat
        self.rows = rows
        self.at = 0
        #: How many are read next: of many lanes that share, each may have its turn once.
        self.page = 1
        self.parked = parked
        #: Whether other streams of its seat were not looked at.
        self.is_leading = parked is None


class Seats:
    """The seats of a band, from where they were read to."""

    __slots__ = ("band", "lane", "read_to")

    def __init__(self, band: Band) -> None:
        self.band = band
        self.lane = None
        self.read_to: Values = _FIRST_SEAT


class Siblings:
    """The streams of a seat behind the first."""

    __slots__ = ("band", "lane", "read_to", "seat")

    def __init__(self, line: Line) -> None:
        self.band = line.band
        self.lane = line.lane
        self.seat = line.seat
        self.read_to: Values = line.rows[0][:2]


class Plain:
    """The jobs of a class that nothing holds back: they are of no lane."""

    __slots__ = ("lane", "stream")

    def __init__(self, lane: Kept | None, stream: Stream) -> None:
        self.lane = lane
        self.stream = stream


class Parked:
    """The streams at a valve that may be open, the best first."""

    __slots__ = ("firsts", "found", "guard", "is_shut", "openings", "seen")

    def __init__(self, guard: Guard, found: list[Values]) -> None:
        self.guard = guard
        self.found = found
        #: How many were visited, and the first jobs of those that were read.
        self.seen = 0
        self.firsts: dict[int, Values] = {}
        #: When it opens for those that did not pass, and whether that holds for all of them.
        self.openings: list[float] = []
        self.is_shut = False


class Waiting:
    """One of the streams at a valve that may be open."""

    __slots__ = ("at", "lane", "parked")

    def __init__(self, lane: Kept | None, parked: Parked, at: int) -> None:
        self.lane = lane
        self.parked = parked
        self.at = at
