"""Translates what psycopg raises into Cicely's tree, once, at the engine's edge."""

from __future__ import annotations

from typing import Final

import psycopg

from cicely.engines.postgres.address import Address
from cicely.errors import EngineCorrupt, EngineError, EngineFull, EngineUnavailable, NotStorable

_REPEAT: Final = "the call may be repeated"

#: SQLSTATEs, or their first two letters, that pass by themselves.
_PASSING: Final = ("08", "40", "53", "55", "57")
_DAMAGED: Final = (
    EngineCorrupt,
    "{where} cannot read its own data ({words}); see the server's log, restore a backup",
)
_GONE: Final = (
    EngineError,
    "the tables of {where} are not there any more ({words}); restart to create them anew",
)
_BY_CODE: Final[dict[str, tuple[type[EngineError], str]]] = {
    "53100": (
        EngineFull,
        "no space is left for {where}; make room on the server's disk, then the call may be repeated",
    ),
    "25006": (
        EngineError,
        "{where} is read-only (a standby, or default_transaction_read_only): name the primary, "
        "or write target_session_attrs=read-write into the URL",
    ),
    "42501": (EngineError, "{where} refuses user {user!r}: {words}; grant it the rights on the schema"),
    "XX001": _DAMAGED,
    "XX002": _DAMAGED,
    "42P01": _GONE,
    "3F000": _GONE,
    "42703": _GONE,
}

#: What a server says when it refuses a connection for good; libpq hands over the words alone.
_REFUSALS: Final = (
    (
        "password authentication failed",
        "check the user and the password in the URL (or PGPASSWORD, ~/.pgpass)",
    ),
    ("no password supplied", "put the password into the URL, PGPASSWORD or ~/.pgpass"),
    ("no pg_hba.conf entry", "the server's pg_hba.conf must allow this user, database and address"),
    ("authentication failed", "check the user in the URL and the server's pg_hba.conf"),
    ("role ", "create that user, or name another one in the URL"),
    ("database ", "create it with CREATE DATABASE, or name another one in the URL"),
    ("permission denied", "grant this user CONNECT on the database"),
)
_PASSING_REFUSALS: Final = (
    "starting up",
    "shutting down",
    "recovery",
    "too many",
    "remaining connection slots",
    "not yet accepting",
)


def translated(error: Exception, address: Address) -> Exception:
    """Return what the caller of an engine verb is told instead of `error`."""
    code = getattr(error, "sqlstate", None) or ""
    where = address.shown
    words = _words(error, address)
    if code in _BY_CODE:
        make, sentence = _BY_CODE[code]
        return make(sentence.format(where=where, user=address.user, words=words))
    if code.startswith(_PASSING):
        return EngineUnavailable(f"{where} cannot answer just now ({words}); {_REPEAT}")
    if isinstance(error, psycopg.DataError):
        return NotStorable(f"PostgreSQL cannot store a text of this call: {words}")
    if not code and isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
        return EngineUnavailable(f"the connection to {where} was lost ({words}); {_REPEAT}")
    return EngineError(f"PostgreSQL refused a statement on {where}: {words}")


def refused(error: Exception, address: Address) -> EngineError:
    """Return what the caller is told where no connection could be made."""
    words = _words(error, address)
    where = address.shown
    answer = words.partition("FATAL:")[2].strip()
    if not answer or any(part in answer for part in _PASSING_REFUSALS):
        return EngineUnavailable(f"{where} cannot be reached ({words}); {_REPEAT} when the server runs")
    for part, remedy in _REFUSALS:
        if part in answer:
            return EngineError(f"{where} refused the connection ({answer}): {remedy}")
    return EngineUnavailable(f"{where} refused the connection ({answer}); {_REPEAT}")


def _words(error: Exception, address: Address) -> str:
    """Return the first line of a driver's message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    fatal = [line for line in lines if "FATAL:" in line]
    text = (fatal or lines or [type(error).__name__])[0]
    return address.scrubbed(text.removeprefix("connection failed: ").removeprefix("connection is bad: "))
