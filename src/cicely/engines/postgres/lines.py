"""What a claim of a gated queue has before it: streams as lines of jobs, and what it still wants."""

from __future__ import annotations

from typing import Any, Protocol

from cicely.core.job import Kind
from cicely.engines.contract import Ask
from cicely.engines.postgres.bands import Band
from cicely.engines.postgres.wire import Values


class Taking(Protocol):
    """What a claim does with the jobs that pass."""

    def expire(self, row: Values) -> None:
        """Note a job that was to start before now."""

    def take_gated(self, row: Values, band: Band, queue: str, units: Any) -> None:
        """Add a claim for a gated job."""

    def take(self, row: Values, stream: Any, queue: str) -> None:
        """Add a claim for a plain job."""

    def charge(self, amount: float) -> None:
        """Note what the lane of the job just taken was charged."""


class Filling(Protocol):
    """What an ask still wants, and how many jobs it took."""

    ask: Ask
    taken: int

    @property
    def is_done(self) -> bool:
        """Whether it wants nothing more."""

    @property
    def wanted(self) -> int:
        """How many it may still take."""

    def wants(self, task: str) -> bool:
        """Return whether it takes a job of `task`."""

    def note(self) -> None:
        """Count a job that was taken."""


class Plain(Protocol):
    """The ready jobs of one class that nothing holds back."""

    first: Values
    lane: int
    task: str
    kind: Kind

    def head(self) -> Values | None:
        """Return the first job that was not taken yet."""

    def take(self) -> None:
        """Go on to the next one."""


class Line:
    """The jobs of one stream, in the order of the statements `shared` and `unshared`."""

    __slots__ = (
        "at",
        "band",
        "first",
        "flow",
        "gate",
        "gate_park",
        "is_read",
        "is_spent",
        "lane",
        "number",
        "park",
        "rows",
    )

    def __init__(self, values: Values, band: Band) -> None:
        self.number, self.gate, self.lane, _, order, n, self.flow, _, self.gate_park, self.park, _, _ = values
        self.first = (order, n)
        self.band = band
        self.rows: list[Values] = []
        self.at = 0
        self.is_read = False
        #: Whether there are no more than those that were read.
        self.is_spent = False
