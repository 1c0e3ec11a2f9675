"""Circuit breakers: after some failures in a short time nothing is started, then one job as a probe."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

import msgspec

from cicely.core.limits import FRESH, NEVER, Gauge


class BreakerRule(msgspec.Struct, frozen=True, tag="breaker"):
    """Opens after `failures` within `within_s`; after `cooldown_s` one job is let through."""

    name: str
    failures: int = 5
    within_s: float = 60.0
    cooldown_s: float = 60.0


class Phase(StrEnum):
    """How a breaker stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


def phase(gauge: Gauge, *, now: float) -> Phase:
    """Return how a breaker stands at this instant."""
    if not gauge.opened_at:
        return Phase.CLOSED
    return Phase.OPEN if gauge.shut_until > now else Phase.HALF_OPEN


def opens_at(gauge: Gauge, *, now: float, held: Callable[[float], int]) -> float:
    """Return when a job may pass: `now` if at once, NEVER if only the end of the probe can tell."""
    match phase(gauge, now=now):
        case Phase.CLOSED:
            return now
        case Phase.OPEN:
            return gauge.shut_until
        case Phase.HALF_OPEN:
            return NEVER if held(gauge.shut_until) else now


def failed(rule: BreakerRule, gauge: Gauge, *, now: float) -> Gauge:
    """Return the gauge after a failure that counts."""
    match phase(gauge, now=now):
        case Phase.OPEN:
            return gauge
        case Phase.HALF_OPEN:
            return _opened(rule, now=now, probed_from=_probed_from(gauge))
        case Phase.CLOSED:
            recent = (*(at for at in gauge.failures if at > now - rule.within_s), now)
            return _opened(rule, now=now) if len(recent) >= rule.failures else Gauge(failures=recent)


def _opened(rule: BreakerRule, *, now: float, probed_from: float = 0.0) -> Gauge:
    return Gauge(opened_at=now, shut_until=now + rule.cooldown_s, probed_from=probed_from)


def _probed_from(gauge: Gauge) -> float:
    """Return since when a breaker that is not closed has let nothing pass but probes."""
    return gauge.probed_from or gauge.shut_until


def was_probe(gauge: Gauge, *, claimed_at: float) -> bool:
    """Return whether a job that still runs was let through as a probe, before or after it may have failed."""
    return gauge.opened_at > 0.0 and claimed_at >= _probed_from(gauge)


def succeeded(gauge: Gauge, *, claimed_at: float, now: float) -> Gauge:
    """Return the gauge after a job of the breaker ended well: the probe's end closes it."""
    is_probe = phase(gauge, now=now) is Phase.HALF_OPEN and claimed_at >= gauge.shut_until
    return FRESH if is_probe else gauge


def turned(gauge: Gauge, move: str, *, now: float) -> Gauge:
    """Return the gauge after a person's `trip` or `reset`: a tripped breaker stays open until it is reset."""
    if move == "reset":
        return FRESH
    if gauge.shut_until == NEVER:
        return gauge
    return Gauge(opened_at=now, shut_until=NEVER, probed_from=_probed_from(gauge))
