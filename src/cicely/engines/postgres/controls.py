"""The verbs of flow control: settings, breakers turned by hand, and what running claims acquire."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from cicely.core.breaker import turned
from cicely.core.event import kind_of_setting
from cicely.core.flow import BREAKER_PREFIX, QUEUE_PREFIX, Use
from cicely.core.lanes import LaneWeight
from cicely.core.limits import NEVER, Limit
from cicely.core.valves import key_of
from cicely.engines.contract import Grant, Note, Setting, SettingRecord, decode_setting, kind_of, name_of
from cicely.engines.postgres.gates import gates_of
from cicely.engines.postgres.limiting import Valves, encoded
from cicely.engines.postgres.statements import statements
from cicely.engines.postgres.transaction import Transaction, is_token_of, number_in
from cicely.errors import SessionClosed

_SQL: Final = statements("valve")
_STREAM: Final = statements("stream")

_decode_uses = msgspec.msgpack.Decoder(tuple[Use, ...]).decode


# --- settings -------------------------------------------------------------------------------------
def configure(txn: Transaction, settings: Sequence[Setting]) -> None:
    """Keep settings, each in place of the one of its kind and name."""
    # The last of a name stays; in one order, so that two who set the same do not wait for each other.
    wanted = {(kind_of(setting), name_of(setting)): setting for setting in settings}
    bounds = {
        setting.key: setting.backlog is not None for setting in wanted.values() if isinstance(setting, Limit)
    }
    _bound_queues(txn, bounds)
    gates_of(txn).lock()
    for key in sorted(wanted):
        _keep(txn, wanted[key])
    gates_of(txn).write()
    txn.is_stirred = True


def _bound_queues(txn: Transaction, bounds: Mapping[str, bool]) -> None:
    """Have those who enqueue into a queue ask first, where its backlog is bounded."""
    for key in sorted(bounds):
        if key.startswith(QUEUE_PREFIX):
            bound = {"name": key.removeprefix(QUEUE_PREFIX), "is_bounded": bounds[key]}
            txn.execute(_SQL["bound_queue"], bound)


def _keep(txn: Transaction, setting: Setting) -> None:
    kept = {"kind": kind_of(setting), "name": name_of(setting), "value": encoded(setting)}
    if _stored(txn, setting) != kept["value"]:
        _tell(txn, kind_of(setting), name_of(setting), is_there=True)
    match setting:
        case Note():
            txn.execute(_SQL["keep"], kept)
        case LaneWeight():
            txn.execute(_SQL["keep"], kept)
            _weigh(txn, name_of(setting), setting.weight)
        case _:
            key = key_of(setting)
            backlog = setting.backlog if isinstance(setting, Limit) else None
            txn.execute(_SQL["configured"], {"key": key, "setting": encoded(setting), "backlog": backlog})
            _changed(txn, key)


def _stored(txn: Transaction, setting: Setting) -> bytes | None:
    """Return the setting of this kind and name as it is stored; None for none, and for notes."""
    match setting:
        case Note():
            return None
        case LaneWeight():
            row = txn.row(_SQL["setting"], {"kind": kind_of(setting), "name": name_of(setting)})
        case _:
            row = txn.row(_SQL["setting_of"], {"key": key_of(setting)})
    return None if row is None else row[0]


def _tell(txn: Transaction, kind: str, name: str, *, is_there: bool) -> None:
    told = kind_of_setting(kind, is_there=is_there)
    if told is not None:
        txn.record.tell(told, name=name)


def _weigh(txn: Transaction, name: str, weight: float) -> None:
    """Weigh a lane that is named by its queue and itself; which of the slashes parts them is unknown."""
    parts = name.split("/")
    for at in range(1, len(parts)):
        txn.execute(_STREAM["weigh"], (weight, "/".join(parts[:at]), "/".join(parts[at:])))


def _changed(txn: Transaction, key: str) -> None:
    valves = gates_of(txn).valves
    valves.forget(key)
    valves.wake(key)


def unset(txn: Transaction, kind: str, name: str) -> bool:
    """Forget a setting; return whether it was known."""
    txn.is_stirred = True
    if kind == "limit":
        _bound_queues(txn, {name: False})
    gates_of(txn).lock()
    if kind in ("limit", "breaker"):
        key = BREAKER_PREFIX + name if kind == "breaker" else name
        was_known = txn.row(_SQL["unset"], {"key": key}) is not None
        if was_known:
            _tell(txn, kind, name, is_there=False)
            _changed(txn, key)
            gates_of(txn).write()
        return was_known
    was_known = bool(txn.rows(_SQL["drop"], {"kind": kind, "name": name}))
    if was_known:
        _tell(txn, kind, name, is_there=False)
    if was_known and kind == "lane":
        _weigh(txn, name, 1.0)
    return was_known


def settings(txn: Transaction, kind: str) -> list[SettingRecord]:
    """Return the settings of a kind, by name."""
    if kind not in ("limit", "breaker"):
        return [
            SettingRecord(decode_setting(value), now=txn.now)
            for (value,) in txn.rows(_SQL["of_kind"], {"kind": kind})
        ]
    valves = Valves(txn)
    keys = [
        key for (key,) in txn.rows(_SQL["known"]) if key.startswith(BREAKER_PREFIX) == (kind == "breaker")
    ]
    valves.read(keys)
    return [record_of(valves, key) for key in keys]


def record_of(valves: Valves, key: str) -> SettingRecord:
    """Return what guards a key, and where it stands."""
    guard = valves.guard(key)
    return SettingRecord(guard.valve, valves.shown(key), valves.held(guard), valves.now)


def turn(txn: Transaction, breaker: str, move: str) -> bool:
    """`trip` or `reset` a breaker; return whether that changed anything."""
    txn.is_stirred = True
    gates = gates_of(txn)
    gates.lock()
    key = BREAKER_PREFIX + breaker
    was_changed = gates.valves.turn(key, turned(gates.valves.guard(key).gauge, move, now=txn.now))
    gates.write()
    return was_changed


# --- what running claims acquire ------------------------------------------------------------------
def acquire(txn: Transaction, session_id: str, token: bytes, request: bytes, uses: Sequence[Use]) -> Grant:
    """Take some of the limits for a running claim, all or none."""
    n = _held(txn, session_id, token)
    if n is None:
        raise SessionClosed(f"session {session_id} does not hold the claim that asks for a limit")
    gates = gates_of(txn)
    gates.lock()
    if txn.row(_SQL["acquired"], {"n": n, "request": request}) is not None:
        return Grant(given=True)
    valves = gates.valves
    valves.read(use.key for use in uses)
    opens_at = max((valves.opens_at(use) for use in uses), default=txn.now)
    if opens_at > txn.now:
        return Grant(given=False, retry_in_s=None if opens_at == NEVER else opens_at - txn.now)
    for use in uses:
        valves.reserve(use)
        valves.hold(use, [n], request)
    taken = {"n": n, "request": request, "uses": encoded(tuple(uses)), "now": txn.now}
    txn.execute(_SQL["acquire"], taken)
    txn.execute(_SQL["holds_something"], {"n": n})
    gates.write()
    return Grant(given=True)


def _held(txn: Transaction, session_id: str, token: bytes) -> int | None:
    """Return the job that a token holds for a session; its claim is locked."""
    n = number_in(token)
    row = txn.row(_SQL["claim"], {"n": n})
    if row is None or row[2] != session_id or not is_token_of(token, row[0], row[1]):
        return None
    return n


def release(
    txn: Transaction, session_id: str, token: bytes, request: bytes, spent: Mapping[str, float]
) -> None:
    """Give back what a request acquired, and correct its cost by what was spent."""
    n = _held(txn, session_id, token)
    if n is None:
        return
    gates = gates_of(txn)
    gates.lock()
    where = {"n": n, "request": request}
    row = txn.row(_SQL["acquired"], where)
    if row is None:
        return
    uses: Iterable[Use] = _decode_uses(row[0])
    for use in uses:
        gates.valves.correct(use, spent)
    gates.valves.let_go(txn.rows(_SQL["let_go_request"], where))
    txn.execute(_SQL["release"], where)
    gates.write()
    txn.is_stirred = True
