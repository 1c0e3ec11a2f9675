"""Sessions of the memory engine: join, beat, retire."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from cicely.core.event import WORKER_JOINED, WORKER_LEFT
from cicely.core.outcome import (
    MAX_FREE_PROBES,
    PROBED,
    Again,
    Failed,
    Finish,
    Outcome,
    Pause,
    after_probe,
    decide,
    reason_of,
)
from cicely.engines.contract import RECEIPT_LEASES, Beat, Session, SessionRecord, Verdict
from cicely.engines.memory.moves import Moves
from cicely.engines.memory.rows import Member, Row
from cicely.errors import SessionClosed


class Sessions(Moves):
    """Who claims, what they hold, and how that ends."""

    def join(self, session: Session) -> None:
        with self._lock:
            if session.id in self._closed:
                raise SessionClosed(f"session {session.id} was retired: join under another id")
            if session.id in self._members:
                return
            self._members[session.id] = Member(session, self._now(), self._now())
            self._tell_of_worker(WORKER_JOINED, session)

    def beat(self, held: Mapping[str, Collection[bytes]], number: int) -> list[Beat]:
        with self._lock:
            beats = [self._beat_one(name, set(tokens), number) for name, tokens in held.items()]
            self._ring_idle()
            return beats

    def _beat_one(self, session_id: str, named: set[bytes], number: int) -> Beat:
        member = self._members.get(session_id)
        if member is None:
            return Beat(session_id, alive=False, lost=tuple(sorted(named)))
        rows = self._held_by(session_id)
        if number > member.beat:
            doubted = member.doubted if number == member.beat + 1 else frozenset()
            unnamed = frozenset(row.token for row in rows) - named
            for row in rows:
                if row.token in unnamed & doubted:
                    self._release(row, "its claim's reply was lost")
            member.doubted = unnamed - doubted
            member.beat = number
            member.beat_at = self._now()
        return Beat(
            session_id,
            alive=True,
            cancelled=tuple(sorted(row.token for row in rows if row.cancelling and row.token)),
            lost=tuple(sorted(named - {row.token for row in rows})),
        )

    def retire(self, session_id: str, outcomes: Sequence[Outcome] = ()) -> None:
        with self._lock:
            if session_id not in self._members:
                return
            for outcome in outcomes:
                self._settle_one(outcome)
            for row in self._held_by(session_id):
                self._release(row, "its session was retired")
            self._tell_of_worker(WORKER_LEFT, self._members[session_id].session)
            self._close_session(session_id)
            self._ring_idle()

    def _tell_of_worker(self, kind: str, session: Session) -> None:
        """Tell of a supervisor; children come and go with it."""
        if session.is_supervisor:
            self._record.tell(kind, name=session.id, reason=session.name)

    def _close_session(self, session_id: str) -> None:
        worker = self._members.pop(session_id).session.worker
        self._closed.add(session_id)
        if all(member.session.worker != worker for member in self._members.values()):
            self._reservations.end_on(worker)

    def sessions(self) -> list[SessionRecord]:
        with self._lock:
            held = Counter(row.session for row in self._held.values())
            return [
                SessionRecord(
                    session=member.session,
                    beat=member.beat,
                    joined_at=member.joined_at,
                    beat_at=member.beat_at,
                    held=held[member.session.id],
                )
                for member in self._members.values()
            ]

    def _held_by(self, session_id: str) -> list[Row]:
        return sorted((r for r in self._held.values() if r.session == session_id), key=lambda row: row.n)

    def _settle_one(self, outcome: Outcome) -> Verdict:
        row = self._holding(outcome.token)
        if row is None:
            recorded, _ = self._receipts.get(outcome.token, ("", 0.0))
            return Verdict.ALREADY if recorded == reason_of(outcome) else Verdict.STALE
        until = self._now() + RECEIPT_LEASES * self._lease_s(row.session)
        self._receipts[outcome.token] = (reason_of(outcome), until)
        self._heed(row, outcome)
        probe = self._after_probe(row, outcome)
        if probe is not None:
            self._again(row, probe, PROBED)
            return Verdict.ACCEPTED
        match decide(outcome, row.tallies, cancelling=row.cancelling, why=row.reason):
            case Finish() as step:
                self._receipts[outcome.token] = (reason_of(outcome), float("inf"))
                self._finish(row, step, reason_of(outcome))
            case Again() as step:
                self._again(row, step, reason_of(outcome))
            case Pause(suspended=suspended):
                self._suspend(row, suspended)
        return Verdict.ACCEPTED

    def _after_probe(self, row: Row, outcome: Outcome) -> Again | None:
        """Return what becomes of a probe that costs its job nothing; None of anything else."""
        if not isinstance(outcome, Failed) or row.cancelling or not self._was_probe(row, outcome.blames):
            return None
        last = [attempt.reason for attempt in row.attempts[-MAX_FREE_PROBES:]]
        return after_probe(outcome, row.tallies, last=last)

    def _holding(self, token: bytes) -> Row | None:
        return self._held.get(token)

    def _lease_s(self, session_id: str) -> float:
        member = self._members.get(session_id)
        return member.session.lease_s if member else 30.0
