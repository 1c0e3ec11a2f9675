"""The verbs of flow control: settings, breakers by hand, and what running claims acquire."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from cicely.core.breaker import turned
from cicely.core.event import kind_of_setting
from cicely.core.flow import BREAKER_PREFIX, Use
from cicely.core.lanes import LaneWeight
from cicely.core.limits import NEVER, Limit
from cicely.core.valves import key_of
from cicely.engines.contract import Grant, Note, Setting, SettingRecord, decode_setting, kind_of, name_of
from cicely.engines.sqlite.gates import gates_of
from cicely.engines.sqlite.limiting import Valves, encoded
from cicely.engines.sqlite.statements import statements
from cicely.engines.sqlite.telling import tell
from cicely.engines.sqlite.transaction import Transaction, is_token_of, number_in
from cicely.errors import SessionClosed

_SQL: Final = statements("valve")

_decode_uses = msgspec.msgpack.Decoder(tuple[Use, ...]).decode


# --- settings -------------------------------------------------------------------------------------
def configure(txn: Transaction, settings: Sequence[Setting]) -> None:
    """Keep settings, each in place of the one of its kind and name."""
    for setting in settings:
        _keep(txn, setting)
    txn.freshen()


def _keep(txn: Transaction, setting: Setting) -> None:
    kind, name = kind_of(setting), name_of(setting)
    if _kept(txn, kind, name) != encoded(setting):
        tell(txn, kind_of_setting(kind, is_there=True), name)
    match setting:
        case Note():
            txn.execute(_SQL["keep"], (kind, name, encoded(setting)))
        case LaneWeight():
            gates_of(txn).lanes.weigh(name, setting)
        case _:
            key = key_of(setting)
            backlog = setting.backlog if isinstance(setting, Limit) else None
            txn.execute(_SQL["configured"], (key, encoded(setting), backlog))
            _changed(txn, key)


def _kept(txn: Transaction, kind: str, name: str) -> bytes | None:
    """Return a setting as it is stored."""
    if kind in ("limit", "breaker"):
        row = txn.row(_SQL["configured_as"], (_key(kind, name),))
    else:
        row = txn.row(_SQL["setting"], (kind, name))
    return row[0] if row else None


def _key(kind: str, name: str) -> str:
    return BREAKER_PREFIX + name if kind == "breaker" else name


def _changed(txn: Transaction, key: str) -> None:
    valves = gates_of(txn).valves
    valves.forget(key)
    valves.wake(key)


def unset(txn: Transaction, kind: str, name: str) -> bool:
    """Forget a setting; return whether it was known."""
    txn.freshen()
    if _kept(txn, kind, name) is None:
        return False
    tell(txn, kind_of_setting(kind, is_there=False), name)
    if kind in ("limit", "breaker"):
        txn.execute(_SQL["unset"], (_key(kind, name),))
        _changed(txn, _key(kind, name))
        return True
    txn.execute(_SQL["drop"], (kind, name))
    if kind == "lane":
        gates_of(txn).lanes.weigh(name, None)
    return True


def settings(txn: Transaction, kind: str) -> list[SettingRecord]:
    """Return the settings of a kind, by name."""
    if kind not in ("limit", "breaker"):
        return [
            SettingRecord(decode_setting(value), now=txn.now)
            for (value,) in txn.rows(_SQL["of_kind"], (kind,))
        ]
    valves = Valves(txn, is_reading=True)
    keys = [
        key for (key,) in txn.rows(_SQL["known"]) if key.startswith(BREAKER_PREFIX) == (kind == "breaker")
    ]
    return [record_of(valves, key) for key in keys]


def record_of(valves: Valves, key: str) -> SettingRecord:
    """Return what guards a key, and where it stands."""
    guard = valves.guard(key)
    return SettingRecord(guard.valve, valves.shown(key), valves.held(key), valves.now)


def turn(txn: Transaction, breaker: str, move: str) -> bool:
    """`trip` or `reset` a breaker; return whether that changed anything."""
    txn.freshen()
    valves = gates_of(txn).valves
    key = BREAKER_PREFIX + breaker
    return valves.turn(key, turned(valves.guard(key).gauge, move, now=txn.now))


# --- what running claims acquire ------------------------------------------------------------------
def acquire(txn: Transaction, session_id: str, token: bytes, request: bytes, uses: Sequence[Use]) -> Grant:
    """Take some of the limits for a running claim, all or none."""
    n = _held(txn, session_id, token)
    if n is None:
        raise SessionClosed(f"session {session_id} does not hold the claim that asks for a limit")
    if txn.row(_SQL["acquired"], (n, request)) is not None:
        return Grant(given=True)
    valves = gates_of(txn).valves
    opens_at = max((valves.opens_at(use) for use in uses), default=txn.now)
    if opens_at > txn.now:
        return Grant(given=False, retry_in_s=None if opens_at == NEVER else opens_at - txn.now)
    for use in uses:
        valves.reserve(use)
        valves.hold(use, (n,), request)
    txn.execute(_SQL["acquire"], (n, request, encoded(tuple(uses)), txn.now))
    txn.execute(_SQL["took"], (n,))
    gates_of(txn).note_acquired()
    return Grant(given=True)


def _held(txn: Transaction, session_id: str, token: bytes) -> int | None:
    """Return the job that a token holds for a session."""
    n = number_in(token)
    row = txn.row(_SQL["claim"], (n,))
    if row is None or row[2] != session_id or not is_token_of(token, row[0], row[1]):
        return None
    return n


def release(
    txn: Transaction, session_id: str, token: bytes, request: bytes, spent: Mapping[str, float]
) -> None:
    """Give back what a request acquired, and correct its cost by what was spent."""
    n = _held(txn, session_id, token)
    row = None if n is None else txn.row(_SQL["acquired"], (n, request))
    if n is None or row is None:
        return
    uses: Iterable[Use] = _decode_uses(row[0])
    valves = gates_of(txn).valves
    for use in uses:
        valves.correct(use, spent)
    valves.let_go(uses, row[1], (n,), request)
    txn.execute(_SQL["release"], (n, request))
    txn.freshen()
