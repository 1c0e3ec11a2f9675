"""Limits that all workers share: how many at once, how many in a time, how much of a cost in a time.

Rates are buckets that fill evenly (GCRA), kept as the instant at which they are full again. A bucket
holds 3 % of the amount, and fills with the rest, so that no period sees more than the amount;
only a single cost above these 3 % goes beyond it, by itself, when its bucket is full.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Final

import msgspec

from cicely.errors import ConfigError

#: The share of a rate's amount that may pass at one instant.
BURST_SHARE: Final = 0.03

#: After a refusal so much of what ran may run at once; not cut again before the cooldown is over.
CUT: Final = 0.8
CUT_COOLDOWN_S: Final = 15.0
#: In a cooldown's time a ceiling grows back by this share of it, at least by one.
REGROWTH: Final = 0.1

NEVER: Final = math.inf

_RATE: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([km]?)\s*/\s*(\d+(?:\.\d+)?)?\s*([smhd])\s*", re.IGNORECASE)
_MOST: Final = 1e15
_PERIODS_S: Final = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_THOUSANDS: Final = {"": 1.0, "k": 1e3, "m": 1e6}


class Rate(msgspec.Struct, frozen=True):
    """`amount` in every `period_s`."""

    amount: float
    period_s: float

    @property
    def text(self) -> str:
        """It as people write it."""
        unit = next((u for u, s in _PERIODS_S.items() if s == self.period_s), f"{_plain(self.period_s)}s")
        return f"{_plain(self.amount)}/{unit}"


def _plain(number: float) -> str:
    """Return a number with all its digits and no exponent, so that it can be read again."""
    return f"{Decimal(repr(number)).normalize():f}"


class Limit(msgspec.Struct, frozen=True, kw_only=True, tag="limit"):
    """The bounds of a key; None is "no bound".

    `backlog` is how many of its jobs may be ready: a call that would add more is refused.
    """

    key: str
    concurrency: int | None = None
    rate: Rate | None = None
    costs: Mapping[str, Rate] = {}
    backlog: int | None = None


class Waiter(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who is held back at a limit first, by the engine's number, and since when: see core/patience.py.

    `startable_since`: when all its limits were first seen open for it, 0 where they are not. `job` is its
    id, where somebody looks.
    """

    n: int
    since: float
    startable_since: float = 0.0
    job: str = ""


class Gauge(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a valve stands. Instants are the engine's.

    `full_at`: by meter ("" is the rate) when its bucket is full again. Nothing passes before
    `shut_until`. `ceiling`: how many might run at once at `ceiling_at`, after a refusal; 0 is "as the
    limit says". Of a breaker: its `failures`, since when it is open (0: closed), and, where a probe has
    failed meanwhile, since when those that it let pass were probes.
    """

    full_at: Mapping[str, float] = {}
    shut_until: float = 0.0
    ceiling: float = 0.0
    ceiling_at: float = 0.0
    failures: tuple[float, ...] = ()
    opened_at: float = 0.0
    probed_from: float = 0.0
    first: Waiter | None = None


FRESH: Final = Gauge()


def parse_rate(text: str, *, name: str) -> Rate:
    """Read "500/m", "200k/m", "10/30s" or "50/d"; `name` is the option that an error names."""
    match = _RATE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ConfigError(
            f'{name}={text!r}: write an amount and a time, as "500/m", "200k/m", "50/d", "10/30s"'
        )
    rate = Rate(
        float(match[1]) * _THOUSANDS[match[2].lower()], float(match[3] or 1) * _PERIODS_S[match[4].lower()]
    )
    if rate.amount <= 0 or rate.period_s <= 0:
        raise ConfigError(f"{name}={text!r}: a rate lets something pass; to stop jobs, pause their queue")
    if max(rate.amount, rate.period_s) > _MOST:
        raise ConfigError(f"{name}={text!r}: at most {_MOST:g}; what bounds nothing may be left out")
    return rate


# --- may it pass? -------------------------------------------------------------------------
def opens_at(
    limit: Limit, gauge: Gauge, cost: Mapping[str, float], *, now: float, held: Callable[[float], int]
) -> float:
    """Return when a job of this cost may pass: `now` if at once, NEVER if only a release can tell.

    `held(since)` counts the claims of the key that were taken at `since` or later.
    """
    if gauge.shut_until > now:
        return gauge.shut_until
    most = ceiling(limit, gauge, now=now)
    if most < NEVER and held(0.0) >= most:
        return NEVER
    openings = (
        _bucket_opens_at(limit, gauge, meter, cost=_cost(cost, meter), now=now) for meter in meters(limit)
    )
    return max(openings, default=now)


def room_for(
    limit: Limit, gauge: Gauge, cost: Mapping[str, float], *, now: float, held: Callable[[float], int]
) -> float:
    """Return how many jobs of this cost pass one after the other, where one does: at least 1."""
    most = ceiling(limit, gauge, now=now)
    room = NEVER if most == NEVER else most - held(0.0)
    for meter in meters(limit):
        taken = _cost(cost, meter)
        if taken > 0:
            holds, per_s = _bucket(limit, meter)
            empty_s = max(0.0, holds - taken) / per_s - max(0.0, gauge.full_at.get(meter, 0.0) - now)
            # Sums are rounded: the last one that might pass is left to be asked for.
            room = min(room, math.floor(empty_s * per_s / taken))
    return max(1.0, room)


def leaves_room(
    limit: Limit,
    gauge: Gauge,
    cost: Mapping[str, float],
    *,
    other: Mapping[str, float],
    now: float,
    held: int,
) -> bool:
    """Return whether a job of the cost `other` may still pass after one of this cost; `held` hold it now."""
    after = reserved(limit, gauge, cost, now=now)
    return opens_at(limit, after, other, now=now, held=lambda _: held + 1) <= now


def ceiling(limit: Limit, gauge: Gauge, *, now: float) -> float:
    """Return how many may hold the key at once, NEVER where nothing bounds that."""
    most = NEVER if limit.concurrency is None else float(limit.concurrency)
    if not gauge.ceiling:
        return most
    grown = (
        gauge.ceiling + max(1.0, REGROWTH * gauge.ceiling) * max(0.0, now - gauge.ceiling_at) / CUT_COOLDOWN_S
    )
    # Twice what it was cut to: the refusals are long past.
    return most if grown >= 2 * gauge.ceiling + 1 else min(most, math.floor(grown))


def meters(limit: Limit) -> Mapping[str, Rate]:
    """Return the rates of a limit by the name of their meter, "" for that of its jobs."""
    return dict(limit.costs) if limit.rate is None else {"": limit.rate, **limit.costs}


def _cost(cost: Mapping[str, float], meter: str) -> float:
    return cost.get(meter, 0.0) if meter else 1.0


def _bucket(limit: Limit, meter: str) -> tuple[float, float]:
    """Return how much a meter's bucket holds, and how much flows into it in a second."""
    rate = meters(limit)[meter]
    holds = BURST_SHARE * rate.amount
    if meter:
        return holds, (rate.amount - holds) / rate.period_s
    # Of things that are counted, one may always pass, and the first of a period counts into it.
    holds = max(1.0, holds)
    return holds, (rate.amount - holds + 1.0) / rate.period_s


def _bucket_opens_at(limit: Limit, gauge: Gauge, meter: str, *, cost: float, now: float) -> float:
    full_at = gauge.full_at.get(meter, 0.0)
    holds, per_s = _bucket(limit, meter)
    return max(now, full_at - max(0.0, holds - cost) / per_s)


# --- what passes, and what comes back -----------------------------------------------------
def reserved(limit: Limit, gauge: Gauge, cost: Mapping[str, float], *, now: float, count: int = 1) -> Gauge:
    """Return the gauge after a job of this cost, or `count` of them, have passed."""
    if limit.rate is None and not limit.costs:
        return gauge
    full_at = dict(gauge.full_at)
    for meter in meters(limit):
        _, per_s = _bucket(limit, meter)
        full_at[meter] = max(now, full_at.get(meter, 0.0)) + count * _cost(cost, meter) / per_s
    return msgspec.structs.replace(gauge, full_at=full_at)


def corrected(limit: Limit, gauge: Gauge, cost: Mapping[str, float], spent: Mapping[str, float]) -> Gauge:
    """Return the gauge once it is known what was really spent where `cost` was reserved."""
    full_at = dict(gauge.full_at)
    for meter, amount in spent.items():
        if meter in limit.costs:
            _, per_s = _bucket(limit, meter)
            full_at[meter] = full_at.get(meter, 0.0) + (amount - cost.get(meter, 0.0)) / per_s
    return msgspec.structs.replace(gauge, full_at=full_at)


def given_back(limit: Limit, gauge: Gauge, cost: Mapping[str, float]) -> Gauge:
    """Return the gauge after what passed came back unused."""
    full_at = dict(gauge.full_at)
    for meter in meters(limit):
        _, per_s = _bucket(limit, meter)
        full_at[meter] = full_at.get(meter, 0.0) - _cost(cost, meter) / per_s
    return msgspec.structs.replace(gauge, full_at=full_at)


def refused(limit: Limit, gauge: Gauge, *, held: int, retry_after_s: float, now: float) -> Gauge:
    """Return the gauge after the other side refused a call: nothing for a while, then fewer at once.

    `held` counts the claims of the key, the refused one among them.
    """
    shut_until = max(gauge.shut_until, now + retry_after_s)
    if gauge.ceiling and now < gauge.ceiling_at + CUT_COOLDOWN_S:
        return msgspec.structs.replace(gauge, shut_until=shut_until)
    ran = min(ceiling(limit, gauge, now=now), max(held, 1))
    # It begins to grow when calls may be made again.
    return msgspec.structs.replace(
        gauge, shut_until=shut_until, ceiling=max(1.0, CUT * ran), ceiling_at=shut_until
    )
