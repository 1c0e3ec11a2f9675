"""How what holds a job back, and what a worker has, is written for scripts; see scripts/parts/gates.lua."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

import msgspec

from cicely.core.flow import BREAKER_PREFIX, Flow, Use
from cicely.core.reservations import Reservation
from cicely.core.resources import Wants
from cicely.engines.contract import Session
from cicely.engines.redis.keys import quoted, unquoted

#: Flags of a record: the job is not plain; its starts and successes are told as well.
GATED: Final = 32
WATCHED: Final = 64

#: Amounts by resource and unit, as claims show them.
Units = dict[str, dict[str, float]]
#: As scripts write them: Lua makes a list of an empty table.
KeptUnits = Units | list[None]


class KeptFlow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A flow as records keep it: its resources and traits, its keys, and what it costs of each by meter."""

    shape: str
    keys: str
    costs: dict[str, dict[str, float]] | None = None


_encode: Final = msgspec.msgpack.Encoder().encode
_units: Final = msgspec.msgpack.Decoder(KeptUnits).decode


def kept_flow(flow: Flow) -> KeptFlow:
    """Return a flow as records keep it."""
    resources = ",".join([f"{quoted(name)}={float(amount)!r}" for name, amount in flow.resources])
    traits = ",".join(map(quoted, flow.traits))
    shape = f"{resources};{traits}" if resources or traits else ""
    keys = ",".join(map(quoted, flow.keys))
    costs = {quoted(use.key): dict(use.cost) for use in flow.uses if use.cost}
    return KeptFlow(shape, keys, costs or None)


def flow_in(kept: KeptFlow | None) -> Flow | None:
    """Return the flow behind what `kept_flow` wrote."""
    if kept is None:
        return None
    resources, _, traits = kept.shape.partition(";")
    keys, costs = _keys(kept.keys), kept.costs or {}
    limits = [key for key in keys if not key.startswith(_BREAKER)]
    return Flow(
        uses=tuple([Use(unquoted(key), costs.get(key, {})) for key in limits]),
        breakers=tuple(
            [unquoted(key).removeprefix(BREAKER_PREFIX) for key in keys if key.startswith(_BREAKER)]
        ),
        resources=tuple([_wanted(want) for want in resources.split(",") if want]),
        traits=tuple([unquoted(trait) for trait in traits.split(",") if trait]),
    )


_BREAKER: Final = quoted(BREAKER_PREFIX)


def _wanted(want: str) -> tuple[str, float]:
    name, _, amount = want.partition("=")
    return unquoted(name), float(amount)


def _keys(text: str) -> list[str]:
    return text.split(",") if text else []


def limits_of(kept: KeptFlow | None) -> tuple[str, ...]:
    """Return the keys of the limits that a job passes."""
    return _limits_in(kept.keys) if kept is not None else ()


@lru_cache(maxsize=4096)
def _limits_in(keys: str) -> tuple[str, ...]:
    return tuple([unquoted(key) for key in _keys(keys) if not key.startswith(_BREAKER)])


def units_in(packed: bytes | None) -> Units:
    """Return the units of a claim."""
    return {} if packed is None else units_of(_units(packed))


def units_of(units: KeptUnits | None) -> Units:
    """Return units by the names of their resources."""
    return {unquoted(name): amounts for name, amounts in units.items()} if isinstance(units, dict) else {}


_wants: Final = msgspec.msgpack.Decoder(list[tuple[str, float]]).decode


def wants_in(packed: bytes) -> Wants:
    """Return what a job wants of resources, as scripts tell it."""
    return tuple([(unquoted(name), amount) for name, amount in _wants(packed)])


class KeptReservation(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A reservation as scripts tell it; see scripts/parts/reservations.lua."""

    workflow: str
    worker: str
    job_id: str
    since: float
    units: KeptUnits
    used: KeptUnits
    offers: KeptUnits


_reservation: Final = msgspec.msgpack.Decoder(KeptReservation).decode


def reservation_in(packed: bytes) -> Reservation:
    """Return a reservation behind what scripts tell of it."""
    kept = _reservation(packed)
    return Reservation(
        kept.workflow,
        kept.worker,
        kept.job_id,
        kept.since,
        units_of(kept.units),
        units_of(kept.used),
        units_of(kept.offers),
    )


def gear_of(session: Session) -> bytes:
    """Return what a session offers and accepts; nothing where that is nothing."""
    if not session.offers and not session.accepts:
        return b""
    offers = {quoted(name): dict(units) for name, units in session.offers.items()}
    accepts = {quoted(name): _set_of(values) for name, values in session.accepts.items()}
    return _encode((offers, accepts))


def _set_of(values: tuple[str, ...]) -> Mapping[str, bool]:
    return {quoted(value): True for value in values}
