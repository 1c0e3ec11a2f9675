"""Valves of one call: limits and breakers, where they stand, and who holds them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from cicely.core import breaker, limits, valves
from cicely.core.event import kind_of_gauge
from cicely.core.flow import BREAKER_PREFIX, Flow, Use
from cicely.core.limits import FRESH, NEVER, Gauge, Limit, Waiter
from cicely.core.patience import is_aged
from cicely.core.valves import Valve
from cicely.engines.sqlite.statements import statements
from cicely.engines.sqlite.telling import tell
from cicely.engines.sqlite.transaction import Transaction, numbers

_SQL: Final = statements("valve")

_encode = msgspec.msgpack.Encoder().encode
_decode_valve = msgspec.msgpack.Decoder(Valve).decode
_decode_gauge = msgspec.msgpack.Decoder(Gauge).decode
_decode_flow = msgspec.msgpack.Decoder(Flow).decode

NO_FLOW: Final = Flow()

#: The valve that some hold, since when, and the request that names what was acquired.
_Held = tuple[int, float, bytes]

#: A flow, what of it valves let pass, and the keys of its limits.
_Read = tuple[Flow, tuple[Use, ...], tuple[str, ...]]
_NOTHING: Final[_Read] = (NO_FLOW, (), ())

#: So many flows are remembered as they were decoded.
_MOST_FLOWS: Final = 4_096
_flows: dict[bytes, _Read] = {}


def encoded(setting: object) -> bytes:
    """Return something of a valve as it is stored."""
    return _encode(setting)


def read_flow(stored: bytes | None) -> _Read:
    """Return a job's flow, what it takes of valves, and the keys of its limits.

    One edited by hand holds nothing back.
    """
    if stored is None:
        return _NOTHING
    found = _flows.get(stored)
    if found is None:
        try:
            flow = _decode_flow(stored)
        except (msgspec.DecodeError, TypeError):
            flow = NO_FLOW
        if len(_flows) >= _MOST_FLOWS:
            _flows.clear()
        found = _flows[stored] = (flow, flow.passes, tuple(use.key for use in flow.uses))
    return found


def _read_gauge(stored: bytes | None) -> Gauge:
    try:
        return FRESH if stored is None else _decode_gauge(stored)
    except (msgspec.DecodeError, TypeError):
        return FRESH


def _stored(gauge: Gauge) -> bytes | None:
    """Return a gauge as it is stored; one that stands as if it were new is not."""
    return None if gauge == FRESH else _encode(gauge)


def _read_valve(stored: bytes | None, key: str) -> Valve:
    try:
        return valves.default_of(key) if stored is None else _decode_valve(stored)
    except (msgspec.DecodeError, TypeError):
        return valves.default_of(key)


class Guard:
    """A valve as one call sees it. `number` is 0 where a reading call asks for one that nobody named yet."""

    __slots__ = ("_counts", "gauge", "is_changed", "is_set", "key", "number", "valve")

    def __init__(self, key: str, number: int, setting: bytes | None, gauge: bytes | None) -> None:
        self.key = key
        self.number = number
        self.valve = _read_valve(setting, key)
        self.gauge = _read_gauge(gauge)
        self.is_set = setting is not None
        #: Whether its gauge is not the one that is stored.
        self.is_changed = False
        #: How many hold it, by since when, as far as somebody asked.
        self._counts: dict[float, int] = {}

    def has_counted(self, since: float) -> bool:
        """Return whether somebody asked how many took it at `since` or later."""
        return since in self._counts

    def count(self, txn: Transaction, since: float) -> int:
        """Return how many took it at `since` or later and hold it."""
        counted = self._counts.get(since)
        if counted is None:
            [(counted,)] = txn.rows(_SQL["count"], (self.number, since))
            self._counts[since] = counted
        return counted

    def add(self, at: float, count: int) -> None:
        """Note holders that came, or went where `count` is negative."""
        for since in self._counts:
            if at >= since:
                self._counts[since] += count

    @property
    def asks_for_cost(self) -> bool:
        """Whether it may let one job pass and not another."""
        return isinstance(self.valve, Limit) and bool(self.valve.costs)


class Valves:
    """The valves that one call asks, each read once and written once."""

    def __init__(self, txn: Transaction, *, is_reading: bool = False) -> None:
        self._txn = txn
        self._is_reading = is_reading
        self._guards: dict[str, Guard] = {}
        self._by_number: dict[int, Guard] = {}
        #: Holders that came and that went, and are not stored yet, by valve, instant and request.
        self._pending: dict[_Held, list[int]] = {}
        self._gone: dict[_Held, list[int]] = {}
        self._woken: set[int] = set()
        #: Whether some that were asked may keep room for a job that has waited for long.
        self.may_keep_room = False

    @property
    def now(self) -> float:
        """The instant of the call."""
        return self._txn.now

    def guard(self, key: str) -> Guard:
        """Return a valve by its key."""
        found = self._guards.get(key)
        if found is None:
            row = self._txn.row(_SQL["one"], (key,))
            if row is None:
                number = 0 if self._is_reading else self._txn.rows(_SQL["add"], (key,))[0][0]
                row = (number, None, None)
            found = self._guards[key] = Guard(key, *row)
            self._by_number[found.number] = found
            self.may_keep_room = self.may_keep_room or is_aged(found.gauge, now=self._txn.now)
        return found

    def guard_of(self, number: int) -> Guard | None:
        """Return a valve by its number."""
        if number not in self._by_number:
            row = self._txn.row(_SQL["key_of"], (number,))
            if row is None:
                return None
            self.guard(row[0])
        return self._by_number[number]

    def forget(self, key: str) -> None:
        """Read a valve anew when it is asked again: its setting was changed."""
        self.write()
        self._guards.pop(key, None)
        self._by_number.clear()
        self._by_number.update({guard.number: guard for guard in self._guards.values()})

    # --- may it pass? ---------------------------------------------------------------------
    def opens_at(self, use: Use) -> float:
        """Return when a valve lets a job pass, NEVER where only a release can tell."""
        guard = self.guard(use.key)
        return valves.opens_at(
            guard.valve,
            guard.gauge,
            use.cost,
            now=self._txn.now,
            held=lambda since: self._count(guard, since),
        )

    def room_for(self, use: Use) -> float:
        """Return how many such uses pass one after the other, where one does."""
        guard = self.guard(use.key)
        return valves.room_for(
            guard.valve,
            guard.gauge,
            use.cost,
            now=self._txn.now,
            held=lambda since: self._count(guard, since),
        )

    def held(self, key: str) -> int:
        """Return how many hold a key."""
        return self._count(self.guard(key), 0.0)

    def _count(self, guard: Guard, since: float) -> int:
        if not guard.has_counted(since):
            self._store_holders()
        return guard.count(self._txn, since)

    # --- passing --------------------------------------------------------------------------
    def reserve(self, use: Use, count: int = 1) -> None:
        """Take what so many uses take of rates."""
        guard = self.guard(use.key)
        self._put(guard, valves.reserved(guard.valve, guard.gauge, use.cost, now=self._txn.now, count=count))

    def hold(self, use: Use, ns: Sequence[int], request: bytes = b"") -> None:
        """Note holders; stored by `write`."""
        guard, now = self.guard(use.key), self._txn.now
        guard.add(now, len(ns))
        self._pending.setdefault((guard.number, now, request), []).extend(ns)

    def let_go(self, uses: Iterable[Use], since: float, ns: Sequence[int], request: bytes = b"") -> None:
        """Remove holders of these keys, and let those be looked at who wait there."""
        for use in uses:
            guard = self.guard(use.key)
            self._gone.setdefault((guard.number, since, request), []).extend(ns)
            guard.add(since, -len(ns))
            self._woken.add(guard.number)

    def wake(self, key: str) -> None:
        """Let those be looked at who wait at a key."""
        self._woken.add(self.guard(key).number)

    def put_first(self, key: str, first: Waiter | None) -> None:
        """Note who waits for a limit; when it opens for others does not change with that."""
        guard = self.guard(key)
        guard.gauge = msgspec.structs.replace(guard.gauge, first=first)
        guard.is_changed = True
        self.may_keep_room = self.may_keep_room or is_aged(guard.gauge, now=self._txn.now)

    def shown(self, key: str) -> Gauge:
        """Return where a valve stands as clients see it: who waits there by the id."""
        gauge = self.guard(key).gauge
        if gauge.first is None:
            return gauge
        row = self._txn.row(_SQL["id_of"], (gauge.first.n,))
        first = None if row is None else msgspec.structs.replace(gauge.first, job=row[0])
        return msgspec.structs.replace(gauge, first=first)

    # --- what comes back ------------------------------------------------------------------
    def correct(self, use: Use, spent: Mapping[str, float]) -> None:
        """Correct what was reserved by what was spent."""
        guard = self.guard(use.key)
        if isinstance(guard.valve, Limit):
            self._put(guard, limits.corrected(guard.valve, guard.gauge, use.cost, spent))

    def give_back(self, use: Use) -> None:
        """Give back what was reserved and not used."""
        guard = self.guard(use.key)
        if isinstance(guard.valve, Limit):
            self._put(guard, limits.given_back(guard.valve, guard.gauge, use.cost))

    def refuse(self, key: str, retry_after_s: float) -> None:
        """Let nobody pass a limit for a while, and then fewer at once."""
        guard = self.guard(key)
        if isinstance(guard.valve, Limit):
            held, now = self.held(key), self._txn.now
            self._put(
                guard,
                limits.refused(guard.valve, guard.gauge, held=held, retry_after_s=retry_after_s, now=now),
            )

    def tell(self, name: str, *, claimed_at: float, is_to_blame: bool) -> None:
        """Tell a breaker how a job ended."""
        guard = self.guard(BREAKER_PREFIX + name)
        if isinstance(guard.valve, Limit):
            return
        now = self._txn.now
        if is_to_blame:
            self._put(guard, breaker.failed(guard.valve, guard.gauge, now=now))
        else:
            self._put(guard, breaker.succeeded(guard.gauge, claimed_at=claimed_at, now=now))

    def was_probe(self, name: str, *, claimed_at: float) -> bool:
        """Return whether a job that still runs was let through as a breaker's probe."""
        return breaker.was_probe(self.guard(BREAKER_PREFIX + name).gauge, claimed_at=claimed_at)

    def turn(self, key: str, gauge: Gauge) -> bool:
        """Set where a breaker stands; return whether it stood otherwise."""
        guard = self.guard(key)
        was = guard.gauge
        self._put(guard, gauge)
        self._woken.add(guard.number)
        return was != gauge

    def _put(self, guard: Guard, gauge: Gauge) -> None:
        if gauge is not guard.gauge and gauge != guard.gauge:
            self._tell_of_breaker(guard, gauge)
            guard.gauge = gauge
            guard.is_changed = True
            # Who waits there opens at another time by now.
            self._woken.add(guard.number)

    def _tell_of_breaker(self, guard: Guard, gauge: Gauge) -> None:
        if isinstance(guard.valve, Limit):
            return
        by_hand = "tripped" if gauge.shut_until == NEVER else ""
        tell(self._txn, kind_of_gauge(guard.gauge, gauge), guard.key.removeprefix(BREAKER_PREFIX), by_hand)

    # --- writing --------------------------------------------------------------------------
    def write(self) -> None:
        """Store what changed."""
        changed = [guard for guard in self._guards.values() if guard.is_changed]
        self._txn.many(_SQL["gauge"], [(_stored(guard.gauge), guard.number) for guard in changed])
        for guard in changed:
            guard.is_changed = False
        self._store_holders()

    def _store_holders(self) -> None:
        pending, self._pending = self._pending, {}
        for held, ns in pending.items():
            self._txn.execute(_SQL["hold"], (numbers(ns), *held))
        gone, self._gone = self._gone, {}
        for held, ns in gone.items():
            self._txn.execute(_SQL["let_go"], (numbers(ns), *held))

    def woken(self) -> set[int]:
        """Return the numbers of the valves where somebody may move on, and forget them."""
        woken, self._woken = self._woken, set()
        return woken
