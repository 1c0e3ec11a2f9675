"""The verbs of flow control: settings, breakers turned by hand, what running jobs acquire, surroundings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from cicely.core import valves
from cicely.core.flow import BREAKER_PREFIX, Use
from cicely.core.limits import FRESH, Gauge, Limit, Waiter
from cicely.engines.contract import (
    Grant,
    Holder,
    Kept,
    Setting,
    SettingRecord,
    Surroundings,
    decode_setting,
    kind_of,
    name_of,
)
from cicely.engines.redis.caller import Caller
from cicely.engines.redis.flows import reservation_in, units_in, wants_in
from cicely.engines.redis.keys import parts_of, quoted, unquoted
from cicely.engines.redis.line import Reply
from cicely.engines.redis.reading import get
from cicely.engines.redis.sessions import session_record
from cicely.errors import SessionClosed

_encode: Final = msgspec.msgpack.Encoder().encode
#: Settings that are equal are written alike.
_canonical: Final = msgspec.msgpack.Encoder(order="deterministic").encode
_decode: Final = msgspec.msgpack.Decoder().decode


# --- settings -----------------------------------------------------------------------------
def configure(run: Caller, settings: Sequence[Setting]) -> None:
    """Keep settings."""
    words = [
        word
        for setting in settings
        for word in (
            kind_of(setting),
            quoted(name_of(setting)),
            _canonical(decode_setting(_encode(setting))),
            "1" if isinstance(setting, Limit) and setting.backlog is not None else "",
        )
    ]
    run("configure", *words)


def settings(run: Caller, kind: str) -> list[SettingRecord]:
    """Return the settings of a kind, by name."""
    now, *found = run("settings", kind)
    records = [_record(kind, one, float(now)) for one in found]
    return sorted(records, key=lambda record: name_of(record.setting))


def _record(kind: str, told: Reply, now: float) -> SettingRecord:
    name, setting, gauge, held, first = told[:5]
    return SettingRecord(_setting(kind, name, setting), _gauge(gauge, first.decode()), held, now)


def _setting(kind: str, name: bytes, kept: bytes | None) -> Setting:
    if kept is not None:
        return decode_setting(kept)
    key = unquoted(name.decode())
    return valves.default_of(BREAKER_PREFIX + key if kind == "breaker" else key)


def _gauge(kept: bytes | None, first: str) -> Gauge:
    """Return a valve's gauge, of which Lua writes the values in their order; `first` is who waits there."""
    if kept is None:
        return FRESH
    given = dict(zip(Gauge.__struct_fields__, _decode(kept), strict=False))
    waiter = given.pop("first", None)
    gauge = msgspec.convert({name: value for name, value in given.items() if value}, Gauge)
    if waiter is None or not first:
        return gauge
    n, since, startable_since = waiter
    return msgspec.structs.replace(gauge, first=Waiter(int(n), since, startable_since, first))


# --- what running jobs acquire ------------------------------------------------------------
def acquire(run: Caller, session_id: str, token: bytes, request: bytes, uses: Sequence[Use]) -> Grant:
    """Take some of the limits for a running claim. Raises SessionClosed."""
    wanted = [word for use in uses for word in (quoted(use.key), dict(use.cost))]
    reply = run("acquire", session_id, _claim(token), request.hex(), _encode(wanted))
    if reply == b"closed":
        raise SessionClosed(f"session {session_id} does not hold the claim that asks for a limit")
    given, retry_in_s = reply
    return Grant(given=given == 1, retry_in_s=float(retry_in_s) if retry_in_s else None)


def release(run: Caller, token: bytes, request: bytes, spent: Mapping[str, float]) -> None:
    """Give back what a running claim acquired."""
    run("release", _claim(token), request.hex(), _encode(dict(spent)))


def _claim(token: bytes) -> bytes:
    return _encode(parts_of(token))[1:]


# --- surroundings -------------------------------------------------------------------------
def surroundings(run: Caller, job_id: str) -> Surroundings | None:
    """Return what stands between a job and its start; None for an unknown one."""
    reply = run("surroundings", job_id)
    [job] = get(run, [job_id]) if reply is not None else [None]
    if job is None or job.swept:
        return None
    now, is_paused, is_held, ahead, lanes, behind, told, holders, parents, sessions, users, *kept = reply
    reserved, kept_free = kept
    keys = [unquoted(one[5].decode()) for one in told]
    records = [session_record(*one) for one in sessions]
    return Surroundings(
        job=job,
        now=float(now),
        is_paused=is_paused == 1,
        is_held=is_held == 1,
        ahead=ahead,
        lanes=lanes,
        lane_behind=behind,
        valves=tuple([_valve(key, one, float(now)) for key, one in zip(keys, told, strict=True)]),
        holders={key: tuple(map(_holder, some)) for key, some in zip(keys, holders, strict=True)},
        parents=tuple([parent.decode() for parent in parents]),
        sessions=tuple(records),
        taken=_users([record.session.id for record in records], users),
        reserved=tuple(sorted(map(reservation_in, reserved), key=lambda one: (one.worker, one.workflow))),
        kept=tuple(sorted(map(_kept, kept_free), key=lambda one: one.worker)),
    )


def _valve(key: str, told: Reply, now: float) -> SettingRecord:
    kind = "breaker" if key.startswith(BREAKER_PREFIX) else "limit"
    return _record(kind, told, now)


def _holder(told: Reply) -> Holder:
    job_id, session, since = told
    return Holder(job_id.decode(), session.decode(), float(since))


def _kept(told: Reply) -> Kept:
    worker, job_id, since, wants = told
    return Kept(worker.decode(), job_id.decode(), float(since), wants_in(wants))


def _users(sessions: Sequence[str], told: Sequence[Reply]) -> dict[str, tuple[Holder, ...]]:
    users: dict[str, list[Holder]] = {session: [] for session in sessions}
    for session, job_id, since, units in told:
        one = Holder(job_id.decode(), session.decode(), float(since), units_in(units))
        users.setdefault(one.session, []).append(one)
    return {session: tuple(some) for session, some in users.items()}
