"""The sweep's duties at streams: their heads, parks at which nobody looked, and those that are empty."""

from __future__ import annotations

from typing import Final

from cicely.core.job import DAY_S
from cicely.engines.postgres.gates import gates_of
from cicely.engines.postgres.statements import statements
from cicely.engines.postgres.transaction import Transaction

_SQL: Final = statements("stream")
_VALVE: Final = statements("valve")

#: So many streams to which jobs came are looked at for each step of the other duties.
_CAME_PER_STEP: Final = 4
#: A valve that has been open for so long is let be: who is parked there comes back in sight.
_STALE_S: Final = 5.0
_MOST_PARKS: Final = 16
#: So many streams are looked at, whether a job is left of them, for each step of the other duties.
_LOOKED_AT_PER_STEP: Final = 4
#: A queue remembers the clocks of so many lanes of which no job is left.
_MOST_LANES: Final = 10_000


def look_after_streams(txn: Transaction, batch: int) -> bool:
    """Find heads, and park or let go what nobody looked at; return whether there may be more."""
    if not txn.rows(_SQL["any"]):
        return False
    gates = gates_of(txn)
    gates.lock()
    has_come = gates.fold(_CAME_PER_STEP * batch)
    stale = {"before": txn.now - _STALE_S, "limit": _MOST_PARKS}
    for valve, queue in txn.rows(_SQL["stale_parks"], stale):
        for statement in ("unpark_gates", "unpark_streams", "forget_park"):
            txn.execute(_SQL[statement], {"valve": valve, "queue": queue})
    txn.execute(_SQL["idle_gates"], {"limit": batch})
    txn.execute(_VALVE["forget_passed_over"], {"before": txn.now - DAY_S})
    _forget_empty(txn, batch)
    return has_come


def _forget_empty(txn: Transaction, batch: int) -> None:
    """Forget the streams, of the next few, of which no job is left, and what only they had."""
    streams = txn.names.streams
    page = {"after": streams.swept_to, "limit": _LOOKED_AT_PER_STEP * batch}
    [(last, count, empty)] = txn.rows(_SQL["empty_streams"], page)
    streams.swept_to = last if count == page["limit"] else 0
    # Who gives names just now goes first: another sweep comes by.
    if not empty or not txn.rows(_SQL["own_names"])[0][0]:
        return
    gone = txn.rows(_SQL["forget_streams"], {"ids": empty[:batch]})
    txn.execute(_SQL["forget_gates"], {"ids": sorted({gate for gate, _ in gone})})
    txn.execute(_SQL["forget_lanes"], {"ids": sorted({lane for _, lane in gone}), "most": _MOST_LANES})
