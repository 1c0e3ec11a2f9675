"""Valves: the limits and breakers that a claim passes, asked in one way."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cicely.core import breaker, limits
from cicely.core.breaker import BreakerRule
from cicely.core.flow import BREAKER_PREFIX
from cicely.core.limits import Gauge, Limit

Valve = Limit | BreakerRule


def key_of(valve: Valve) -> str:
    """Return the key that a valve guards."""
    return valve.key if isinstance(valve, Limit) else BREAKER_PREFIX + valve.name


def default_of(key: str) -> Valve:
    """Return what guards a key that nobody configured: it bounds nothing until it is refused or fails."""
    if key.startswith(BREAKER_PREFIX):
        return BreakerRule(key.removeprefix(BREAKER_PREFIX))
    return Limit(key=key)


def opens_at(
    valve: Valve, gauge: Gauge, cost: Mapping[str, float], *, now: float, held: Callable[[float], int]
) -> float:
    """Return when a job may pass: `now` if at once, `limits.NEVER` if only a release can tell."""
    if isinstance(valve, Limit):
        return limits.opens_at(valve, gauge, cost, now=now, held=held)
    return breaker.opens_at(gauge, now=now, held=held)


def room_for(
    valve: Valve, gauge: Gauge, cost: Mapping[str, float], *, now: float, held: Callable[[float], int]
) -> float:
    """Return how many jobs of this cost pass one after the other, where one does; never too many."""
    if isinstance(valve, Limit):
        return limits.room_for(valve, gauge, cost, now=now, held=held)
    return limits.NEVER if breaker.phase(gauge, now=now) is breaker.Phase.CLOSED else 1.0


def reserved(valve: Valve, gauge: Gauge, cost: Mapping[str, float], *, now: float, count: int = 1) -> Gauge:
    """Return the gauge after a job, or `count`, have passed; the same object where nothing changed."""
    return limits.reserved(valve, gauge, cost, now=now, count=count) if isinstance(valve, Limit) else gauge
