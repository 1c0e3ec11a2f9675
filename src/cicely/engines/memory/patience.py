"""Who waits at limits in the memory engine: core/patience.py, asked about its tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from cicely.core.flow import Use
from cicely.core.limits import FRESH, Gauge, Waiter
from cicely.core.patience import Standing
from cicely.core.states import State
from cicely.core.valves import Valve
from cicely.engines.memory.rows import Row
from cicely.engines.memory.streams import stream_of


@dataclass(frozen=True, slots=True)
class Waiters:
    """What the rule asks of the engine."""

    clock: Callable[[], float]
    gauges: Mapping[str, Gauge]
    live: Mapping[str, Row]
    paused: set[str]
    valve_of: Callable[[str], Valve]
    opens_at: Callable[[Use], float]
    count_holders: Callable[[str, float], int]
    put_gauge: Callable[[str, Gauge], None]

    @property
    def now(self) -> float:
        """The instant of the call."""
        return self.clock()

    def gauge_of(self, key: str) -> Gauge:
        """Return where a valve stands."""
        return self.gauges.get(key, FRESH)

    def holders_of(self, key: str) -> int:
        """Return how many hold a key."""
        return self.count_holders(key, 0.0)

    def standing(self, n: int) -> Standing | None:
        """Return a job that could be claimed but for what it passes; None for any other."""
        row = next((row for row in self.live.values() if row.n == n), None)
        if row is None or row.state is not State.READY or row.new.queue in self.paused:
            return None
        is_late = row.expires_at is not None and row.expires_at <= self.now
        return None if is_late else standing_of(row)

    def put_first(self, key: str, first: Waiter | None) -> None:
        """Note who waits for a limit."""
        self.put_gauge(key, msgspec.structs.replace(self.gauge_of(key), first=first))

    def shown(self, gauge: Gauge) -> Gauge:
        """Return where a valve stands as clients see it: who waits there by the id."""
        first = gauge.first
        if first is None:
            return gauge
        names = (row.id for row in self.live.values() if row.n == first.n)
        named = msgspec.structs.replace(first, job=next(names, ""))
        return msgspec.structs.replace(gauge, first=named if named.job else None)


def standing_of(row: Row) -> Standing:
    """Return a ready job as the rule sees it."""
    return Standing(stream_of(row), row.new.flow.passes if row.new.flow else ())
