"""Which sessions are open, and what they can run."""

from __future__ import annotations

from typing import Final

from cicely.engines.postgres.member import Member, session_of
from cicely.engines.postgres.statements import statements
from cicely.engines.postgres.transaction import Transaction
from cicely.engines.postgres.wire import Values
from cicely.errors import SessionClosed

_SQL: Final = statements("sessions")

#: Sessions come and go for years; what this process remembers of them does not grow.
_MOST_REMEMBERED: Final = 4_096


def hold_open(txn: Transaction, session_id: str) -> None:
    """Have a session, if it is open, stay so until the transaction ends."""
    txn.execute(_SQL["enter"], {"key": session_id})


def entered(txn: Transaction, session_id: str, row: Values | None) -> Member:
    """Return the session of a row of `enter`, None where it is not open. Raises SessionClosed."""
    if row is None:
        raise SessionClosed(f"session {session_id} was retired or never joined")
    return _remembered(txn, session_id, row)


def known_member(txn: Transaction, session_id: str) -> Member | None:
    """Return a session that is open, as far as this process remembers."""
    member = txn.members.get(session_id)
    if member is not None:
        return member
    row = txn.row(_SQL["member"], {"key": session_id})
    return None if row is None or row[2] is not None else _remembered(txn, session_id, row)


def _remembered(txn: Transaction, session_id: str, row: Values) -> Member:
    member = txn.members.get(session_id)
    if member is None:
        if len(txn.members) >= _MOST_REMEMBERED:
            txn.members.clear()
        member = txn.members[session_id] = Member(row[0], session_of(session_id, row[1]))
    return member
