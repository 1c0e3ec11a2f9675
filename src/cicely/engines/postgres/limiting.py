"""Valves of one call: limits and breakers, where they stand, and who holds them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from cicely.core import breaker, limits, valves
from cicely.core.breaker import BreakerRule
from cicely.core.event import kind_of_gauge
from cicely.core.flow import BREAKER_PREFIX, Flow, Use
from cicely.core.limits import FRESH, NEVER, Gauge, Limit, Waiter
from cicely.core.patience import is_aged
from cicely.core.valves import Valve
from cicely.engines.postgres.arrays import bigints, byteas, ints
from cicely.engines.postgres.statements import statements
from cicely.engines.postgres.transaction import Transaction
from cicely.engines.postgres.wire import Answer, Values

_SQL: Final = statements("valve")

_encode = msgspec.msgpack.Encoder().encode
_decode_valve = msgspec.msgpack.Decoder(Valve).decode
_decode_gauge = msgspec.msgpack.Decoder(Gauge).decode
_decode_flow = msgspec.msgpack.Decoder(Flow).decode

NO_FLOW: Final = Flow()

#: So many flows are remembered as they were decoded.
_MOST_FLOWS: Final = 4_096
_flows: dict[bytes, tuple[Flow, tuple[Use, ...]]] = {}


def encoded(something: object) -> bytes:
    """Return a flow, a setting or what belongs to one as it is stored."""
    return _encode(something)


def read_flow(stored: bytes | None) -> tuple[Flow, tuple[Use, ...]]:
    """Return a job's flow and what it takes of valves; one edited by hand holds nothing back."""
    if stored is None:
        return NO_FLOW, ()
    found = _flows.get(stored)
    if found is None:
        try:
            flow = _decode_flow(stored)
        except (msgspec.DecodeError, TypeError):
            flow = NO_FLOW
        if len(_flows) >= _MOST_FLOWS:
            _flows.clear()
        found = _flows[stored] = (flow, flow.passes)
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
    """A valve as one call sees it. `number` is 0 where nobody named it yet."""

    __slots__ = ("counts", "gauge", "is_changed", "key", "number", "valve")

    def __init__(self, key: str, number: int, setting: bytes | None, gauge: bytes | None) -> None:
        self.key = key
        self.number = number
        self.valve = _read_valve(setting, key)
        self.gauge = _read_gauge(gauge)
        #: Whether its gauge is not the one that is stored.
        self.is_changed = False
        #: How many hold it, by since when, as far as somebody asked.
        self.counts: dict[float, int] = {}

    def add(self, at: float, count: int) -> None:
        """Note holders that came, or went where `count` is negative."""
        for since in self.counts:
            if at >= since:
                self.counts[since] += count

    @property
    def asks_for_cost(self) -> bool:
        """Whether it may let one job pass and not another."""
        return isinstance(self.valve, Limit) and bool(self.valve.costs)


class Valves:
    """The valves that one call asks, each read once and written once."""

    def __init__(self, txn: Transaction) -> None:
        self._txn = txn
        self._guards: dict[str, Guard] = {}
        self._pending: list[Values] = []
        self._woken: set[int] = set()
        #: Whether some that were asked may keep room for a job that has waited for long.
        self.may_keep_room = False

    @property
    def now(self) -> float:
        """The instant of the call."""
        return self._txn.now

    # --- reading --------------------------------------------------------------------------
    def read(self, keys: Iterable[str]) -> None:
        """Read valves that will be asked, with how many hold them."""
        self.ask(keys)()

    def ask(self, keys: Iterable[str]) -> Callable[[], None]:
        """Have valves read with what is read next; return what takes note of them then."""
        wanted = [key for key in keys if key not in self._guards]
        answer = self._txn.later(_SQL["guards"], {"keys": wanted}) if wanted else None
        return lambda: self._know(wanted, answer)

    def _know(self, wanted: Sequence[str], answer: Answer | None) -> None:
        for *row, held in () if answer is None else self._txn.heard(answer):
            guard = self._guards[row[0]] = Guard(*row)
            guard.counts[0.0] = held + self._count_pending(guard)
            self.may_keep_room = self.may_keep_room or is_aged(guard.gauge, now=self.now)
        for key in wanted:
            self._guards.setdefault(key, Guard(key, 0, None, None))

    def _count(self, guard: Guard, since: float) -> int:
        counts: dict[int, int] = {}
        if guard.number:
            counts = dict(self._txn.rows(_SQL["count"], {"ids": [guard.number], "since": since}))
        return counts.get(guard.number, 0) + (self._count_pending(guard) if self.now >= since else 0)

    def _count_pending(self, guard: Guard) -> int:
        return sum(one[0] == guard.number for one in self._pending)

    def guard(self, key: str) -> Guard:
        """Return a valve by its key."""
        if key not in self._guards:
            self.read([key])
        return self._guards[key]

    def guards_of(self, numbers: Collection[int]) -> list[Guard]:
        """Return valves by their numbers."""
        keys = [row[0] for row in self._txn.rows(_SQL["guards_by_id"], {"ids": list(numbers)})]
        self.read(keys)
        return [self._guards[key] for key in keys]

    def _named(self, key: str) -> Guard:
        """Return a valve that has a number, a new one where it had none."""
        guard = self.guard(key)
        if not guard.number:
            self._txn.execute(_SQL["add"], {"key": key})
            [(_, guard.number, *_)] = self._txn.rows(_SQL["guards"], {"keys": [key]})
        return guard

    def forget(self, key: str) -> None:
        """Read a valve anew when it is asked again: its setting was changed."""
        self.write()
        self._guards.pop(key, None)

    # --- may it pass? ---------------------------------------------------------------------
    def opens_at(self, use: Use) -> float:
        """Return when a valve lets a job pass, NEVER where only a release can tell."""
        guard = self.guard(use.key)
        return valves.opens_at(
            guard.valve, guard.gauge, use.cost, now=self.now, held=lambda since: self.held(guard, since)
        )

    def room_for(self, use: Use) -> float:
        """Return how many such uses pass one after the other, where one does."""
        guard = self.guard(use.key)
        return valves.room_for(
            guard.valve, guard.gauge, use.cost, now=self.now, held=lambda since: self.held(guard, since)
        )

    def held(self, guard: Guard, since: float = 0.0) -> int:
        """Return how many took a key at `since` or later and hold it."""
        if since not in guard.counts:
            guard.counts[since] = self._count(guard, since)
        return guard.counts[since]

    def opening(self, flow: bytes | None) -> tuple[float, Guard] | None:
        """Return when and where a job is let pass that is not now; None for one that is."""
        worst: tuple[float, Guard] | None = None
        for use in read_flow(flow)[1]:
            at = self.opens_at(use)
            if worst is None or at > worst[0]:
                worst = (at, self.guard(use.key))
        return worst if worst is not None and worst[0] > self.now else None

    def room(self, uses: Iterable[Use]) -> float:
        """Return how many more may hold all of these keys at once."""
        room = NEVER
        for use in uses:
            guard = self.guard(use.key)
            if isinstance(guard.valve, Limit):
                room = min(room, limits.ceiling(guard.valve, guard.gauge, now=self.now) - self.held(guard))
        return room

    # --- passing --------------------------------------------------------------------------
    def reserve(self, use: Use, count: int = 1) -> None:
        """Take what so many uses take of rates."""
        guard = self.guard(use.key)
        self._put(guard, valves.reserved(guard.valve, guard.gauge, use.cost, now=self.now, count=count))

    def hold(self, use: Use, ns: Sequence[int], request: bytes = b"") -> None:
        """Note holders; stored by `write`."""
        guard = self._named(use.key)
        guard.add(self.now, len(ns))
        self._pending += [(guard.number, n, request) for n in ns]

    def let_go(self, gone: Iterable[Values]) -> None:
        """Take note of holders that were removed; those who wait there were woken with that."""
        by_number = {guard.number: guard for guard in self._guards.values()}
        for number, at in gone:
            if number in by_number:
                by_number[number].add(at, -1)

    def wake(self, key: str) -> None:
        """Let those be looked at who wait at a key."""
        guard = self.guard(key)
        if guard.number:
            self._woken.add(guard.number)

    def put_first(self, key: str, first: Waiter | None) -> None:
        """Note who waits for a limit; when it opens for others does not change with that."""
        guard = self._named(key)
        guard.gauge = msgspec.structs.replace(guard.gauge, first=first)
        guard.is_changed = True
        self.may_keep_room = self.may_keep_room or is_aged(guard.gauge, now=self.now)

    def shown(self, key: str) -> Gauge:
        """Return where a valve stands as clients see it: who waits there by the id."""
        gauge = self.guard(key).gauge
        if gauge.first is None:
            return gauge
        row = self._txn.row(_SQL["id_of"], {"n": gauge.first.n})
        first = None if row is None else msgspec.structs.replace(gauge.first, job=row[0])
        return msgspec.structs.replace(gauge, first=first)

    # --- what comes back ------------------------------------------------------------------
    def correct(self, use: Use, spent: Mapping[str, float]) -> None:
        """Correct what was reserved by what was spent."""
        if not spent:
            return
        guard = self.guard(use.key)
        if isinstance(guard.valve, Limit):
            self._ease(guard, limits.corrected(guard.valve, guard.gauge, use.cost, spent))

    def give_back(self, use: Use) -> None:
        """Give back what was reserved and not used."""
        guard = self.guard(use.key)
        if isinstance(guard.valve, Limit):
            self._ease(guard, limits.given_back(guard.valve, guard.gauge, use.cost))

    def refuse(self, key: str, retry_after_s: float) -> None:
        """Let nobody pass a limit for a while, and then fewer at once."""
        guard = self._named(key)
        if isinstance(guard.valve, Limit):
            after = limits.refused(
                guard.valve, guard.gauge, held=self.held(guard), retry_after_s=retry_after_s, now=self.now
            )
            self._put(guard, after)

    def tell(self, name: str, *, claimed_at: float, is_to_blame: bool) -> None:
        """Tell a breaker how a job ended."""
        guard = self.guard(BREAKER_PREFIX + name)
        if isinstance(guard.valve, Limit):
            return
        if is_to_blame:
            self._put(guard, breaker.failed(guard.valve, guard.gauge, now=self.now))
        else:
            self._ease(guard, breaker.succeeded(guard.gauge, claimed_at=claimed_at, now=self.now))

    def was_probe(self, name: str, *, claimed_at: float) -> bool:
        """Return whether a job that still runs was let through as a breaker's probe."""
        return breaker.was_probe(self.guard(BREAKER_PREFIX + name).gauge, claimed_at=claimed_at)

    def turn(self, key: str, gauge: Gauge) -> bool:
        """Set where a breaker stands; return whether it stood otherwise."""
        guard = self._named(key)
        was = guard.gauge
        self._ease(guard, gauge)
        return was != gauge

    def _ease(self, guard: Guard, gauge: Gauge) -> None:
        """Note where a valve stands that may let others pass now."""
        self._put(guard, gauge)
        if guard.is_changed and guard.number:
            self._woken.add(guard.number)

    def _put(self, guard: Guard, gauge: Gauge) -> None:
        if gauge is not guard.gauge and gauge != guard.gauge:
            if isinstance(guard.valve, BreakerRule):
                self._tell_of_breaker(guard, gauge)
            guard.gauge = gauge
            guard.is_changed = True

    def _tell_of_breaker(self, guard: Guard, gauge: Gauge) -> None:
        kind = kind_of_gauge(guard.gauge, gauge)
        if kind is not None:
            by_hand = "tripped" if gauge.shut_until == NEVER else ""
            self._txn.record.tell(kind, name=guard.key.removeprefix(BREAKER_PREFIX), reason=by_hand)

    # --- writing --------------------------------------------------------------------------
    def write(self) -> None:
        """Store what changed."""
        changed = [guard for guard in self._guards.values() if guard.is_changed]
        for guard in changed:
            guard.is_changed = False
            self._named(guard.key)
        if changed:
            gauges = [_stored(guard.gauge) for guard in changed]
            self._txn.execute(_SQL["gauges"], {"ids": [guard.number for guard in changed], "gauges": gauges})
        if self._pending:
            self._txn.execute(_SQL["hold"], self.take_holders() | {"now": self.now})

    def take_holders(self) -> dict[str, Any]:
        """Return the holders that are not stored yet, for whoever stores them."""
        pending, self._pending = self._pending, []
        return {
            "valves": ints([valve for valve, _, _ in pending]),
            "holders": bigints([n for _, n, _ in pending]),
            "requests": byteas([request for _, _, request in pending]),
        }

    def woken(self) -> set[int]:
        """Return the numbers of the valves where somebody may move on, and forget them."""
        woken, self._woken = self._woken, set()
        return woken
