"""Bands: what a session must be able to run, and its worker to have, for jobs that are gated."""

from __future__ import annotations

from typing import Final

from cicely.core.flow import Needs, accepts
from cicely.core.job import Kind
from cicely.core.resources import fits
from cicely.engines.contract import Ask, Session
from cicely.engines.sqlite.member import Member, session_of
from cicely.engines.sqlite.statements import statements
from cicely.engines.sqlite.streams import wants_of
from cicely.engines.sqlite.transaction import Transaction

_SQL: Final = statements("stream")
_SESSIONS: Final = statements("sessions")


class Band:
    """What the streams of one band have in common."""

    __slots__ = ("is_out", "kind", "needs", "number", "task")

    def __init__(self, number: int, task: str, kind: Kind, needs: Needs) -> None:
        self.number = number
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

    def of(self, queue: int, name: str, ask: Ask) -> list[Band]:
        """Return the bands of a queue that a session can serve for one ask."""
        found = []
        for number, job_class, wants in self._txn.rows(_SQL["bands"], (queue,)):
            task, kind = self._txn.names.class_of(job_class)
            needs = wants_of(wants)
            if kind in ask.kinds and self._member.runs(task) and self.suits(needs, task, name):
                found.append(Band(number, task, kind, needs))
        return found

    def suits(self, needs: Needs, task: str, queue: str) -> bool:
        """Return whether the session's worker could ever run jobs with these needs."""
        session = self._member.session
        if not _could_ever(needs, session):
            return False
        return needs.shuns != session.worker or not self._others_run(needs, task, queue)

    def _others_run(self, needs: Needs, task: str, queue: str) -> bool:
        """Return whether there is a worker, beside the one that is shunned, that could run such jobs."""
        if self._sessions is None:
            self._sessions = [
                session_of(row[0], row[1]) for row in self._txn.rows(_SESSIONS["open_sessions"])
            ]
        others = (other for other in self._sessions if other.worker != needs.shuns)
        return any(o.runs(task) and queue in o.queues and _could_ever(needs, o) for o in others)


def _could_ever(needs: Needs, session: Session) -> bool:
    return accepts(session.accepts, needs.traits) and fits(needs.resources, session.offers)
