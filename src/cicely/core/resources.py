"""What workers have and jobs need: counted things, named units, and devices with a capacity.

A worker offers, by resource, units with the amount that each holds: `{"memory_gb": {"": 64}}`,
`{"gpu": {"0": 1, "1": 1}}`, `{"gpu_memory_gb": {"0": 80, "1": 80}}`. What fits on one unit goes on the
fullest that has room, so that large jobs find free ones; what is larger than any takes whole
free units.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

#: By resource and unit, the amount.
Amounts = Mapping[str, Mapping[str, float]]
Wants = tuple[tuple[str, float], ...]

#: A job that a worker could run is passed over for so long; then the worker keeps free what it needs.
PATIENCE_S: Final = 60.0

#: Amounts are sums of decimals that people write.
_EPSILON: Final = 1e-9


def free(offers: Amounts, taken: Iterable[Amounts]) -> dict[str, dict[str, float]]:
    """Return what is left of `offers`; never below zero, also where offers shrank meanwhile."""
    left = {name: dict(units) for name, units in offers.items()}
    for amounts in taken:
        for name, units in amounts.items():
            for unit, amount in units.items():
                if unit in left.get(name, {}):
                    left[name][unit] = max(0.0, left[name][unit] - amount)
    return left


def place(wants: Wants, left: Amounts, offers: Amounts) -> dict[str, dict[str, float]] | None:
    """Return which units a job gets, by resource, or None where they are not free."""
    placed = {}
    for name, amount in wants:
        units = _place_one(amount, left.get(name, {}), offers.get(name, {}))
        if units is None:
            return None
        placed[name] = units
    return placed


def fits(wants: Wants, offers: Amounts) -> bool:
    """Return whether a worker with these offers could ever run the job."""
    return place(wants, offers, offers) is not None


def is_kept(wants: Wants, waiter: Wants, *, since: float, now: float) -> bool:
    """Return whether a worker keeps free what a job wants, for one that it passed over at `since`."""
    names = {name for name, _ in waiter}
    return now >= since + PATIENCE_S and any(name in names for name, _ in wants)


def _place_one(
    amount: float, left: Mapping[str, float], offers: Mapping[str, float]
) -> dict[str, float] | None:
    if amount <= max(offers.values(), default=0.0) + _EPSILON:
        room = [(has, unit) for unit, has in left.items() if has + _EPSILON >= amount]
        return {min(room)[1]: amount} if room else None
    whole: dict[str, float] = {}
    for unit in sorted(offers):
        if left.get(unit, 0.0) + _EPSILON >= offers[unit]:
            whole[unit] = offers[unit]
            if sum(whole.values()) + _EPSILON >= amount:
                return whole
    return None
