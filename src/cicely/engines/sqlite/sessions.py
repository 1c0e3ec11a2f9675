"""The verbs of sessions: join, beat, retire, and their list."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import msgspec

from cicely.core.event import WORKER_JOINED, WORKER_LEFT
from cicely.core.outcome import Outcome
from cicely.engines.contract import Beat, Session, SessionRecord
from cicely.engines.sqlite.cascade import each
from cicely.engines.sqlite.endings import held_by, rows_of
from cicely.engines.sqlite.member import Member, session_of
from cicely.engines.sqlite.reserving import end_with_worker
from cicely.engines.sqlite.settling import settle
from cicely.engines.sqlite.statements import statements
from cicely.engines.sqlite.telling import tell_of_worker
from cicely.engines.sqlite.transaction import TOKEN_BYTES, Transaction, Values, token_of
from cicely.errors import SessionClosed

_SQL: Final = statements("sessions")
_MEMBER: Final = _SQL["member"]

#: A process remembers so many sessions.
_MOST_MEMBERS: Final = 256

_encode = msgspec.json.Encoder(order="sorted").encode


def member_of(txn: Transaction, session_id: str) -> Member:
    """Return an open session. Raises SessionClosed."""
    row = txn.row(_MEMBER, (session_id,))
    if row is None or row[3] is not None:
        raise SessionClosed(f"session {session_id} was retired or never joined")
    return _remembered(txn, session_id, row)


def known_member(txn: Transaction, session_id: str) -> Member | None:
    """Return a session that is open, as far as this process remembers."""
    member = txn.members.get(session_id)
    if member is not None:
        return member
    row = txn.row(_MEMBER, (session_id,))
    return None if row is None or row[3] is not None else _remembered(txn, session_id, row)


def _remembered(txn: Transaction, session_id: str, row: Values) -> Member:
    member = txn.members.get(session_id)
    if member is None:
        if len(txn.members) >= _MOST_MEMBERS:
            # Most of them were recycled long ago; those that are not come back at once.
            txn.members.clear()
        member = txn.members[session_id] = Member(row[0], session_of(session_id, row[1]))
    return member


def join(txn: Transaction, session: Session) -> None:
    """Register a session."""
    row = txn.row(_MEMBER, (session.id,))
    if row is None:
        txn.execute(_SQL["join"], (session.id, _encode(session), session.lease_s, txn.now))
        tell_of_worker(txn, WORKER_JOINED, session)
    elif row[3] is not None:
        raise SessionClosed(f"session {session.id} was retired: join under another id")


def beat(txn: Transaction, held: Mapping[str, Collection[bytes]], number: int) -> list[Beat]:
    """Take a heartbeat of each session; hand back what two of them in a row did not name."""
    txn.is_stirred = True
    return [_beat_one(txn, session_id, set(tokens), number) for session_id, tokens in held.items()]


def _beat_one(txn: Transaction, session_id: str, named: set[bytes], number: int) -> Beat:
    member = txn.row(_SQL["beating"], (session_id,))
    if member is None:
        return Beat(session_id, alive=False, lost=tuple(sorted(named)))
    session, last, doubted = member
    claims = {
        token_of(request, n, fence): (n, cancelling)
        for n, request, fence, cancelling in txn.rows(_SQL["held_tokens"], (session,))
    }
    unknown: set[bytes] = set()
    if number > last:
        unnamed = claims.keys() - named
        unknown = unnamed & _tokens_in(doubted) if number == last + 1 else set()
        beaten = (session, number, txn.now, b"".join(sorted(unnamed - unknown)) or None)
        txn.execute(_SQL["beat"], beaten)
        _release(txn, [claims[token][0] for token in unknown], "its claim's reply was lost")
    return Beat(
        session_id,
        alive=True,
        cancelled=tuple(sorted(t for t, claim in claims.items() if claim[1] and t not in unknown)),
        lost=tuple(sorted(named - claims.keys())),
    )


def _tokens_in(doubted: bytes | None) -> set[bytes]:
    packed = doubted or b""
    return {packed[at : at + TOKEN_BYTES] for at in range(0, len(packed), TOKEN_BYTES)}


def _release(txn: Transaction, ns: Collection[int], reason: str) -> None:
    each(txn, rows_of(txn, ns), lambda endings, row: endings.release(row, reason))


def retire(txn: Transaction, session_id: str, outcomes: Sequence[Outcome]) -> None:
    """Settle, hand back the rest and close the session."""
    row = txn.row(_MEMBER, (session_id,))
    if row is None or row[3] is not None:
        return
    settle(txn, outcomes)
    reason = "its session was retired"
    each(txn, held_by(txn, row[0]), lambda endings, held: endings.release(held, reason))
    session = session_of(session_id, row[1])
    tell_of_worker(txn, WORKER_LEFT, session)
    close(txn, row[0], session.worker)
    txn.is_stirred = True


def close(txn: Transaction, number: int, worker: str) -> None:
    """Close a session for ever, and end what is reserved on its worker where it was the last."""
    txn.execute(_SQL["close"], (number, txn.now))
    end_with_worker(txn, worker)


def sessions(rows: Sequence[Values]) -> list[SessionRecord]:
    """Make records of the rows of `open_sessions`."""
    return [
        SessionRecord(
            session=session_of(key, facts),
            beat=beats,
            joined_at=joined_at,
            beat_at=beat_at,
            held=held,
        )
        for key, facts, beats, joined_at, beat_at, held in rows
    ]
