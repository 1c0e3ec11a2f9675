"""The caller's own connection, whichever library it comes from: its transaction, and its word of the commit.

Nothing of SQLAlchemy or Django is imported here: who hands in one of their objects has done so.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from typing import Any, Final

import psycopg
from psycopg.pq import TransactionStatus

from cicely.engines.postgres.wire import Link
from cicely.errors import UsageError

Ring = Callable[[], None]

_WANTED: Final = (
    "hand in a psycopg Connection, a SQLAlchemy Session or Connection, or one of django.db.connections"
)


class Caller:
    """An open transaction of the caller's, or one that begins with the next statement."""

    def __init__(self, link: Link, after_commit: Callable[[Ring], object]) -> None:
        self.link = link
        #: Has something called once the transaction is committed; a hint that may get lost.
        self.after_commit = after_commit


def caller_of(connection: object) -> Caller:
    """Return what stands behind connection=. Raises UsageError with what to hand in instead."""
    library = type(connection).__module__.partition(".")[0]
    if isinstance(connection, psycopg.Connection):
        caller = Caller(connection, lambda ring: None)
    elif _is_asynchronous(connection):
        raise UsageError(
            f"connection={_named(connection)} is asynchronous, and delay() blocks: use a synchronous "
            "connection, or enqueue after the commit"
        )
    elif library == "sqlalchemy":
        caller = _of_sqlalchemy(connection)
    elif hasattr(connection, "in_atomic_block") and hasattr(connection, "on_commit"):
        caller = _of_django(connection)
    else:
        raise UsageError(f"connection={_named(connection)} is no connection that Cicely knows; {_WANTED}")
    _check(caller.link, connection)
    return caller


def _is_asynchronous(connection: object) -> bool:
    names = {cls.__name__ for cls in type(connection).__mro__}
    return isinstance(connection, psycopg.AsyncConnection) or bool(
        names & {"AsyncSession", "AsyncConnection", "async_scoped_session"}
    )


# --- SQLAlchemy -------------------------------------------------------------------------------
def _of_sqlalchemy(given: Any) -> Caller:
    sqlalchemy: Any = sys.modules["sqlalchemy"]
    session = given() if hasattr(given, "registry") and callable(given) else given
    is_session = hasattr(session, "connection") and callable(session.connection)
    if not is_session and not isinstance(session, sqlalchemy.engine.Connection):
        raise UsageError(f"connection={_named(given)} holds no transaction; {_WANTED}")
    try:
        connection = session.connection() if is_session else session
        if not connection.in_transaction():
            connection.begin()
        link = connection.connection.driver_connection
    except sqlalchemy.exc.SQLAlchemyError as error:
        words = str(error).partition("\n")[0]
        raise UsageError(f"connection={_named(given)} cannot be used just now: {words}") from error
    if is_session:
        return Caller(link, lambda ring: _after_session(sqlalchemy, session, ring))
    return Caller(link, lambda ring: _with_commit(sqlalchemy, connection, ring))


#: A listener cannot be removed while it is called: each object has one for its life, and the rings here.
_sessions: weakref.WeakKeyDictionary[Any, list[Ring]] = weakref.WeakKeyDictionary()
_connections: weakref.WeakKeyDictionary[Any, list[Ring]] = weakref.WeakKeyDictionary()


def _after_session(sqlalchemy: Any, session: Any, ring: Ring) -> None:
    if session not in _sessions:
        _sessions[session] = []
        sqlalchemy.event.listen(session, "after_commit", _session_committed)
    _sessions[session].append(ring)


def _session_committed(session: Any) -> None:
    if not session.in_nested_transaction():
        _ring_all(_sessions.get(session, []))


def _with_commit(sqlalchemy: Any, connection: Any, ring: Ring) -> None:
    if connection not in _connections:
        _connections[connection] = []
        # Called just before COMMIT is sent; the ring itself follows a moment later.
        sqlalchemy.event.listen(connection, "commit", _connection_commits)
    _connections[connection].append(ring)


def _connection_commits(connection: Any) -> None:
    _ring_all(_connections.get(connection, []))


def _ring_all(rings: list[Ring]) -> None:
    while rings:
        rings.pop()()


# --- Django -----------------------------------------------------------------------------------
def _of_django(given: Any) -> Caller:
    if given.vendor != "postgresql":
        raise UsageError(f"connection= is a Django connection to {given.vendor}, not to PostgreSQL")
    if not given.in_atomic_block:
        raise UsageError(
            "connection= is a Django connection outside transaction.atomic(), where each statement commits "
            "by itself: call delay() inside the atomic block"
        )
    if given.needs_rollback:
        raise UsageError(
            "connection= is in a Django transaction that will be rolled back: an error in it was caught; "
            "let the atomic block end, and begin again"
        )
    given.ensure_connection()
    return Caller(given.connection, given.on_commit)


# --- psycopg ----------------------------------------------------------------------------------
def _check(link: object, given: object) -> None:
    if not isinstance(link, psycopg.Connection):
        raise UsageError(
            f"connection={_named(given)} uses {_named(link)}; Cicely needs psycopg 3 there: "
            "postgresql+psycopg:// for SQLAlchemy, psycopg instead of psycopg2 for Django"
        )
    status = link.info.transaction_status
    if link.closed or status == TransactionStatus.UNKNOWN:
        raise UsageError(f"connection={_named(given)} is closed: hand in an open one")
    if status == TransactionStatus.INERROR:
        raise UsageError(
            f"connection={_named(given)} is in a transaction that an error aborted: roll it back and "
            "begin again"
        )
    if status == TransactionStatus.IDLE and link.autocommit:
        raise UsageError(
            f"connection={_named(given)} commits each statement by itself: open a transaction first, as in "
            "`with connection.transaction():`, or leave connection= out"
        )


def _named(given: object) -> str:
    return f"{type(given).__module__.partition('.')[0]}.{type(given).__name__}"
