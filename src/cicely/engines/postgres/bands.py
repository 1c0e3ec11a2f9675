"""Bands: what a session must be able to run, and its worker to have, for jobs that are gated."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from cicely.core.flow import Needs, accepts
from cicely.core.job import Kind
from cicely.core.resources import fits
from cicely.engines.contract import Ask, Session
from cicely.engines.postgres.member import Member, session_of
from cicely.engines.postgres.statements import statements
from cicely.engines.postgres.streams import wants_of
from cicely.engines.postgres.transaction import Transaction
from cicely.engines.postgres.wire import Values

_SESSIONS: Final = statements("sessions")


class Band:
    """What the streams of one band have in common."""

    __slots__ = ("is_out", "job_class", "kind", "needs", "number", "task")

    def __init__(self, number: int, job_class: int, task: str, kind: Kind, needs: Needs) -> None:
        self.number = number
        self.job_class = job_class
        self.task = task
        self.kind = kind
        self.needs = needs
        #: Whether the worker has no room for any of them.
        self.is_out = False


class Bands:
    """The bands of queues that a session can serve."""

    def __init__(self, txn: Transaction, member: Member) -> None:
        self._txn = txn
        self._member = member
        self._sessions: list[Session] | None = None

    def of(self, rows: Iterable[Values], name: str, ask: Ask) -> list[Band]:
        """Return the bands of a queue that a session can serve for one ask: of (number, class, wants)."""
        found = []
        for number, job_class, wants in rows:
            task, kind = self._txn.class_of(job_class)
            needs = wants_of(wants)
            if kind in ask.kinds and self._member.runs(task) and self._suits(needs, task, name):
                found.append(Band(number, job_class, task, kind, needs))
        return found

    def _suits(self, needs: Needs, task: str, queue: str) -> bool:
        if needs.shuns and self._sessions is None:
            self._sessions = open_sessions(self._txn)
        return suits(needs, task, queue, self._member.session, self._sessions or ())


def open_sessions(txn: Transaction) -> list[Session]:
    """Return all sessions that are open."""
    return [session_of(row[0], row[1]) for row in txn.rows(_SESSIONS["open_facts"])]


def suits(needs: Needs, task: str, queue: str, session: Session, sessions: Sequence[Session]) -> bool:
    """Return whether a session's worker could ever run such jobs; `sessions` are all that are open."""
    if not _could_ever(needs, session):
        return False
    if needs.shuns != session.worker:
        return True
    others = (other for other in sessions if other.worker != needs.shuns)
    return not any(o.runs(task) and queue in o.queues and _could_ever(needs, o) for o in others)


def _could_ever(needs: Needs, session: Session) -> bool:
    return accepts(session.accepts, needs.traits) and fits(needs.resources, session.offers)
