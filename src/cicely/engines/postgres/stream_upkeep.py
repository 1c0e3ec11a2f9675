"""The sweep's duties at streams: their heads, and parks at which nobody looked."""

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
    return has_come
