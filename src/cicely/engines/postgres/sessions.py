"""The verbs of sessions: join, beat, retire, and their list."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import msgspec

from cicely.core.event import WORKER_JOINED, WORKER_LEFT
from cicely.core.outcome import Outcome
from cicely.engines.contract import Beat, Session, SessionRecord
from cicely.engines.postgres.cascade import Moves
from cicely.engines.postgres.endings import fresh, held_by, rows_of
from cicely.engines.postgres.member import session_of
from cicely.engines.postgres.reservations import end_with_worker
from cicely.engines.postgres.settling import settle
from cicely.engines.postgres.statements import statements
from cicely.engines.postgres.transaction import TOKEN_BYTES, Transaction, token_of
from cicely.engines.postgres.wire import Values
from cicely.errors import SessionClosed

_SQL: Final = statements("sessions")

_encode = msgspec.json.Encoder(order="sorted").encode


def join(txn: Transaction, session: Session) -> None:
    """Register a session."""
    facts = {"key": session.id, "facts": _encode(session), "lease_s": session.lease_s, "now": txn.now}
    if txn.rows(_SQL["join"], facts):
        txn.record.tell_of_worker(WORKER_JOINED, session)
    row = txn.row(_SQL["member"], {"key": session.id})
    if row is not None and row[2] is not None:
        raise SessionClosed(f"session {session.id} was retired: join under another id")


def beat(txn: Transaction, held: Mapping[str, Collection[bytes]], number: int) -> list[Beat]:
    """Take a heartbeat of each session; hand back what two of them in a row did not name."""
    txn.is_stirred = True
    beats = {key: _beat_one(txn, key, set(held[key]), number) for key in sorted(held)}
    return [beats[key] for key in held]


def _beat_one(txn: Transaction, session_id: str, named: set[bytes], number: int) -> Beat:
    member = txn.row(_SQL["beating"], {"key": session_id})
    if member is None:
        return Beat(session_id, alive=False, lost=tuple(sorted(named)))
    session, last, doubted = member
    claims = {
        token_of(request, n, fence): (n, cancelling)
        for n, request, fence, cancelling in txn.rows(_SQL["held_tokens"], {"session": session})
    }
    unknown: set[bytes] = set()
    if number > last:
        unnamed = claims.keys() - named
        unknown = unnamed & _tokens_in(doubted) if number == last + 1 else set()
        packed = b"".join(sorted(unnamed - unknown)) or None
        txn.execute(_SQL["beat"], {"id": session, "beat": number, "now": txn.now, "doubted": packed})
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
    endings = Moves(txn)
    for row in fresh(txn, rows_of(txn, ns)):
        endings.release(row, reason)
    endings.write()


def retire(txn: Transaction, session_id: str, outcomes: Sequence[Outcome]) -> None:
    """Settle, hand back the rest and close the session."""
    row = txn.row(_SQL["leave"], {"key": session_id})
    if row is None:
        return
    settle(txn, outcomes)
    left = session_of(session_id, row[1])
    txn.record.tell_of_worker(WORKER_LEFT, left)
    endings = Moves(txn)
    for held in fresh(txn, held_by(txn, row[0])):
        endings.release(held, "its session was retired")
    endings.write()
    close(txn, row[0])
    end_with_worker(txn, left.worker)
    txn.is_stirred = True


def close(txn: Transaction, number: int) -> None:
    """Close a session for ever."""
    txn.execute(_SQL["close"], {"id": number, "now": txn.now})


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
