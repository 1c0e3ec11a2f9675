"""How two engines' answers about flow control are compared: to the precision that the contract promises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from cicely.core import valves
from cicely.core.breaker import BreakerRule
from cicely.core.limits import FRESH, NEVER, Gauge, Limit, ceiling
from cicely.core.reservations import Reservation
from cicely.core.resources import Amounts
from cicely.core.states import State
from cicely.engines.contract import Engine, Holder, SettingRecord, Surroundings

#: Instants and durations are compared so, in seconds.
TICK_S: Final = 0.002

KINDS: Final = ("limit", "breaker", "lane", "note")


def standings_of(engine: Engine) -> tuple[SettingRecord, ...]:
    """Return every setting with where it stands now, without what has no meaning any more."""
    records = [levelled(record) for kind in KINDS for record in engine.settings(kind)]
    return tuple(record for record in records if record is not None)


def levelled(record: SettingRecord) -> SettingRecord | None:
    """Return where a setting stands by what follows from it; None where that is nothing at all."""
    setting, now = record.setting, record.now
    if not isinstance(setting, valves.Valve):
        return record
    gauge = _limits_gauge(setting, record.gauge, now) if isinstance(setting, Limit) else record.gauge
    if isinstance(setting, BreakerRule):
        recent = tuple(at for at in gauge.failures if at > now - setting.within_s)
        gauge = msgspec.structs.replace(gauge, failures=recent)
    if gauge == FRESH and setting == valves.default_of(valves.key_of(setting)):
        return None
    return msgspec.structs.replace(record, gauge=gauge)


def _limits_gauge(limit: Limit, gauge: Gauge, now: float) -> Gauge:
    most = ceiling(limit, msgspec.structs.replace(gauge, shut_until=0.0), now=now)
    unbounded = NEVER if limit.concurrency is None else limit.concurrency
    return Gauge(
        full_at={meter: at for meter, at in gauge.full_at.items() if at > now},
        shut_until=gauge.shut_until if gauge.shut_until > now else 0.0,
        ceiling=0.0 if most == unbounded else most,
    )


def around_levelled(around: Surroundings | None) -> Surroundings | None:
    """Return a job's surroundings with lists in an order of their own."""
    if around is None:
        return None
    return msgspec.structs.replace(
        around,
        ahead=around.ahead if around.job.state is State.READY else 0,
        parents=tuple(sorted(around.parents)),
        valves=tuple(levelled(r) or msgspec.structs.replace(r, gauge=FRESH) for r in around.valves),
        holders={key: _sorted(holders) for key, holders in around.holders.items()},
        taken={key: _sorted(holders) for key, holders in around.taken.items() if holders},
        reserved=reserved_of(around),
    )


def reserved_of(around: Surroundings | None) -> tuple[Reservation, ...]:
    """Return what is reserved, of which that is used which is more than nothing."""
    reserved = around.reserved if around else ()
    return tuple(msgspec.structs.replace(one, used=_some(one.used)) for one in reserved)


def _some(amounts: Amounts) -> Amounts:
    used = {name: {unit: n for unit, n in units.items() if n} for name, units in amounts.items()}
    return {name: units for name, units in used.items() if units}


def _sorted(holders: Sequence[Holder]) -> tuple[Holder, ...]:
    return tuple(sorted(holders, key=lambda one: (one.since, one.job_id)))


def alike(one: object, other: object) -> bool:
    """Return whether two records, of one kind, are equal; floats by `TICK_S`."""
    ours, theirs = (msgspec.to_builtins(record, order="deterministic") for record in (one, other))
    return _alike(ours, theirs)


def _alike(one: object, other: object) -> bool:
    match one, other:
        case ((float() | int()), (float() | int())):
            return one == other or abs(one - other) <= TICK_S
        case Mapping(), Mapping():
            return one.keys() == other.keys() and all(_alike(one[key], other[key]) for key in one)
        case ((list() | tuple()), (list() | tuple())):
            return len(one) == len(other) and all(map(_alike, one, other))
    return one == other
