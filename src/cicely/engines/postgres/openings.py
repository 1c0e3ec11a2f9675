"""When valves open at which jobs wait."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from cicely.core.limits import CUT_COOLDOWN_S, NEVER, REGROWTH, Limit
from cicely.engines.postgres.gates import Gates
from cicely.engines.postgres.limiting import Guard, Valves, read_flow
from cicely.engines.postgres.statements import statements
from cicely.engines.postgres.transaction import Transaction
from cicely.engines.postgres.wire import Values

_SQL: Final = statements("stream")

#: Of streams that nobody looked at, so many are asked when their valves open.
_LOOKED_OVER: Final = 32
_SOON_S: Final = 0.001


class Waiting(NamedTuple):
    """What there is to know of those who wait, in the order of the statement `next_due`."""

    parked_until: float | None
    may_be_open: bool
    gates: list[int]
    has_new: bool


def holds_for_all(guard: Guard, at: float, now: float) -> bool:
    """Return whether a valve that opens then for one job does so for any."""
    return not guard.asks_for_cost or at == NEVER or now < guard.gauge.shut_until


def looks_again_at(guard: Guard, at: float, now: float) -> float:
    """Return when to look at a valve again that opens then; NEVER where a release will tell."""
    if at < NEVER:
        return at
    gauge = guard.gauge
    if not gauge.ceiling or not isinstance(guard.valve, Limit):
        return NEVER
    per_s = max(1.0, REGROWTH * gauge.ceiling) / CUT_COOLDOWN_S
    grown = gauge.ceiling + per_s * max(0.0, now - gauge.ceiling_at)
    grows_to = min(math.floor(grown) + 1.0, 2 * gauge.ceiling + 1.0)
    return max(now + _SOON_S, gauge.ceiling_at + (grows_to - gauge.ceiling) / per_s)


def next_opening(txn: Transaction, waiting: Waiting) -> float | None:
    """Return when the next valve opens at which jobs wait.

    Those that nobody looked at are looked at, and parked where the lock is held.
    """
    gates: Gates | None = txn.gates
    seen = gates.seen if gates is not None else set()
    rows = []
    if waiting.may_be_open or not seen.issuperset(waiting.gates):
        wanted = {"now": txn.now, "seen": sorted(seen), "limit": _LOOKED_OVER}
        rows = txn.rows(_SQL["keyed"], wanted)
    if waiting.has_new:
        rows += txn.rows(_SQL["keyed_new"], {"limit": _LOOKED_OVER})
    valves = Valves(txn) if gates is None else gates.valves
    valves.read({use.key for row in rows for use in read_flow(row[3])[1]})
    found = [(row, opening) for row in rows if (opening := valves.opening(row[3])) is not None]
    if found and gates is not None and gates.is_locked:
        for row, opening in found:
            _park(gates, row, opening)
        gates.write()
    openings = [at for _, (at, _) in found if at < NEVER]
    return min(openings if waiting.parked_until is None else [*openings, waiting.parked_until], default=None)


def _park(gates: Gates, row: Values, opening: tuple[float, Guard]) -> None:
    stream, gate, queue, _ = row
    at, guard = opening
    again_at = looks_again_at(guard, at, gates.now)
    if holds_for_all(guard, at, gates.now):
        gates.park_gate(gate, queue, guard, again_at)
    else:
        gates.park_stream(stream, queue, guard, again_at)
