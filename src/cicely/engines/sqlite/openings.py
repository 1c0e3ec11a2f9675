"""When valves open at which jobs wait, and parking those that nobody looked at."""

from __future__ import annotations

from typing import Final

from cicely.core.limits import NEVER
from cicely.engines.sqlite.gates import Gates, gates_of
from cicely.engines.sqlite.limiting import Guard, read_flow
from cicely.engines.sqlite.statements import statements
from cicely.engines.sqlite.transaction import Transaction

_SQL: Final = statements("stream")

#: Of streams that nobody looked at, so many are asked when their valves open.
_LOOKED_OVER: Final = 16
_SEEN: Final = 64


def opening(gates: Gates, flow: bytes | None) -> tuple[float, Guard] | None:
    """Return when and where a job is let pass that is not now; None for one that is."""
    worst: tuple[float, Guard] | None = None
    for use in read_flow(flow)[1]:
        at = gates.valves.opens_at(use)
        if worst is None or at > worst[0]:
            worst = (at, gates.valves.guard(use.key))
    return worst if worst is not None and worst[0] > gates.now else None


def look_over(txn: Transaction) -> None:
    """Find out when valves open at which nobody looked: of streams in sight, and of some that are parked."""
    gates = gates_of(txn)
    gates.write()
    known: dict[bytes, tuple[float, Guard] | None] = {}
    for stream, queue, flow in txn.rows(_SQL["keyed"], (_LOOKED_OVER, _SEEN)):
        found = known[flow] if flow in known else known.setdefault(flow, opening(gates, flow))
        if found is not None:
            at, guard = found
            gates.streams.park(stream, queue, guard.number, looks_again_at(guard, at, txn.now))
    for valve, queue in txn.rows(_SQL["parks_opening"], (txn.now, _LOOKED_OVER)):
        _look_at_park(txn, gates, valve, queue)
    gates.write()


def _look_at_park(txn: Transaction, gates: Gates, valve: int, queue: int) -> None:
    """Find out when a valve opens for some of those that are parked at it."""
    parked = txn.rows(_SQL["parked_heads"], (valve, queue, _LOOKED_OVER))
    opens_at: list[float] = []
    for stream, flow in parked:
        found = opening(gates, flow)
        if found is None:
            gates.streams.unpark(stream)
            continue
        at, guard = found
        if guard.number != valve:
            gates.streams.park(stream, queue, guard.number, looks_again_at(guard, at, txn.now))
            continue
        opens_at.append(at)
        if holds_for_all(guard, at, txn.now):
            txn.execute(_SQL["reopen"], (valve, queue, looks_again_at(guard, at, txn.now)))
            return
    if opens_at and len(parked) < _LOOKED_OVER:
        txn.execute(_SQL["reopen"], (valve, queue, min(opens_at)))
    elif not opens_at and txn.row(_SQL["is_parked_at"], (valve, queue)) is None:
        txn.execute(_SQL["unpark"], (valve, queue))


def holds_for_all(guard: Guard, at: float, now: float) -> bool:
    """Return whether a valve that opens then for one job does so for any."""
    return not guard.asks_for_cost or at == NEVER or now < guard.gauge.shut_until


def looks_again_at(guard: Guard, at: float, now: float) -> float | None:
    """Return when to look at a valve again that opens then; None where a release will tell."""
    if at < NEVER:
        return at
    # A ceiling grows by itself: as long as there is one, every claim looks.
    return now if guard.gauge.ceiling else None
