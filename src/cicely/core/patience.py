"""Patience of limits: others pass a job of several limits, or of a high cost, but not for ever.

A job that its limits hold back is noted there. `PATIENCE_S` later a limit keeps free what the job needs:
others pass only if it still could. The narrowest of its limits does so first, the next one once the job
could pass all before it: what stands idle is one unit, until one more is given back. Who has waited
longer goes first. What is kept for a job that could start and does not is given up after as
long again: something else holds it back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

import msgspec

from cicely.core.flow import BREAKER_PREFIX, Use
from cicely.core.limits import Gauge, Limit, Waiter, ceiling, leaves_room
from cicely.core.resources import PATIENCE_S
from cicely.core.valves import Valve

#: For whom no room was left looks again so soon: that something else holds the other back is not told.
LOOK_S: Final = 1.0


class Standing(NamedTuple):
    """A ready job of a queue that is not paused: its stream, and what it takes of valves."""

    stream: object
    passes: Sequence[Use]


class Asked(Protocol):
    """The valves of one call, and the jobs that wait at them."""

    @property
    def now(self) -> float:
        """The instant of the call."""

    def valve_of(self, key: str) -> Valve:
        """Return what guards a key."""

    def gauge_of(self, key: str) -> Gauge:
        """Return where a valve stands."""

    def opens_at(self, use: Use) -> float:
        """Return when a valve lets a job pass."""

    def holders_of(self, key: str) -> int:
        """Return how many hold a key."""

    def standing(self, n: int) -> Standing | None:
        """Return a job that could be claimed but for what it passes; None for any other."""

    def put_first(self, key: str, first: Waiter | None) -> None:
        """Note who waits for a limit."""


def is_aged(gauge: Gauge, *, now: float) -> bool:
    """Return whether somebody has waited so long that a limit may keep room."""
    return gauge.first is not None and now >= gauge.first.since + PATIENCE_S


def kept_back(asked: Asked, n: int, one: Standing) -> str | None:
    """Return the limit that keeps for another job what this one would take; None where this one passes."""
    mine = _waits_since(asked, n, one.passes)
    for use in _limits(one.passes):
        first = asked.gauge_of(use.key).first
        if first is None or first.n == n or not is_aged(asked.gauge_of(use.key), now=asked.now):
            continue
        if mine is not None and mine + PATIENCE_S <= asked.now and (mine, n) < (first.since, first.n):
            continue
        other = _kept_for(asked, use.key, first)
        if other is not None and other.stream != one.stream and not _leaves_room(asked, use, other):
            return use.key
    return None


def note(asked: Asked, n: int, passes: Sequence[Use]) -> None:
    """Note a job that its limits hold back, and that others may pass, where none before it is noted."""
    if not _may_be_passed(asked, passes) or _is_stopped(asked, passes):
        return
    since = _waits_since(asked, n, passes)
    mine = Waiter(n, asked.now if since is None else since)
    narrowest = _narrowest_shut(asked, passes)
    for use in _limits(passes):
        first = asked.gauge_of(use.key).first
        if narrowest is None or (first is not None and first.n == n) or _width(asked, use.key) > narrowest:
            continue
        if first is None or _is_before(asked, mine, first, use.key):
            asked.put_first(use.key, mine)


def noted(asked: Asked, passes: Sequence[Use]) -> set[int]:
    """Return who is noted at these limits."""
    firsts = (asked.gauge_of(use.key).first for use in passes)
    return {first.n for first in firsts if first is not None}


def went(asked: Asked, n: int, passes: Sequence[Use]) -> None:
    """Forget a job that was claimed: when it comes back it waits anew."""
    for use in _limits(passes):
        first = asked.gauge_of(use.key).first
        if first is not None and first.n == n:
            asked.put_first(use.key, None)


# --- who goes first -----------------------------------------------------------------------
def _is_before(asked: Asked, mine: Waiter, first: Waiter, key: str) -> bool:
    """Return whether a job is noted in place of another, which it found at a limit."""
    if (mine.since, mine.n) < (first.since, first.n):
        return True
    if asked.now < first.since + PATIENCE_S:
        return False
    if _kept_for(asked, key, first) is not None:
        return False
    # The other one is gone, or nothing is kept for it now.
    return asked.gauge_of(key).first is None or mine.since + PATIENCE_S <= asked.now


def _waits_since(asked: Asked, n: int, passes: Sequence[Use]) -> float | None:
    """Return since when a job waits, where one of its limits says so."""
    firsts = (asked.gauge_of(use.key).first for use in _limits(passes))
    return min((first.since for first in firsts if first is not None and first.n == n), default=None)


def _may_be_passed(asked: Asked, passes: Sequence[Use]) -> bool:
    """Return whether jobs of another kind may pass where this one may not."""
    uses = _limits(passes)
    if len(uses) != 1:
        return bool(uses)
    limit = asked.valve_of(uses[0].key)
    return isinstance(limit, Limit) and any(meter in limit.costs for meter in uses[0].cost)


def _limits(passes: Sequence[Use]) -> list[Use]:
    return [use for use in passes if not use.key.startswith(BREAKER_PREFIX)]


# --- what is kept -------------------------------------------------------------------------
def _kept_for(asked: Asked, key: str, first: Waiter) -> Standing | None:
    """Return the job for which a limit keeps room now; None where it keeps none."""
    other = asked.standing(first.n)
    if other is None:
        asked.put_first(key, None)
        return None
    if _is_stopped(asked, other.passes):
        return None
    narrowest = _narrowest_shut(asked, other.passes)
    if narrowest is None:
        return other if _is_awaited(asked, key, first) else None
    if first.startable_since:
        asked.put_first(key, msgspec.structs.replace(first, startable_since=0.0))
    return other if _width(asked, key) <= narrowest else None


def _is_stopped(asked: Asked, passes: Sequence[Use]) -> bool:
    """Return whether a job could not start if its limits had room: one was refused, or a breaker is open."""
    for use in passes:
        is_refused = asked.gauge_of(use.key).shut_until > asked.now
        if is_refused or (use.key.startswith(BREAKER_PREFIX) and asked.opens_at(use) > asked.now):
            return True
    return False


def _is_awaited(asked: Asked, key: str, first: Waiter) -> bool:
    """Return whether a job that could start is still waited for."""
    if not first.startable_since:
        asked.put_first(key, msgspec.structs.replace(first, startable_since=asked.now))
        return True
    if asked.now < first.startable_since + PATIENCE_S:
        return True
    asked.put_first(key, None)
    return False


def _narrowest_shut(asked: Asked, passes: Sequence[Use]) -> tuple[float, str] | None:
    """Return the width of the narrowest limit that a job may not pass now; None where it may pass all."""
    shut = (_width(asked, use.key) for use in _limits(passes) if asked.opens_at(use) > asked.now)
    return min(shut, default=None)


def _width(asked: Asked, key: str) -> tuple[float, str]:
    """Return how many a limit lets run at once, and its name: the narrowest keeps room first."""
    limit = asked.valve_of(key)
    most = ceiling(limit, asked.gauge_of(key), now=asked.now) if isinstance(limit, Limit) else 0.0
    return most, key


def _leaves_room(asked: Asked, use: Use, other: Standing) -> bool:
    """Return whether a job that goes first still may pass a limit after another has."""
    limit, gauge = asked.valve_of(use.key), asked.gauge_of(use.key)
    its = next((one for one in other.passes if one.key == use.key), None)
    if its is None or not isinstance(limit, Limit):
        return True
    held = asked.holders_of(use.key)
    return leaves_room(limit, gauge, use.cost, other=its.cost, now=asked.now, held=held)
