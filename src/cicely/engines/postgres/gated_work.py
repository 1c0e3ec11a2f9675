"""Gated jobs that somebody who waits could start: looked up without a lock, for a ring that is a hint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cicely.core.flow import Needs
from cicely.engines.contract import Session
from cicely.engines.postgres.bands import open_sessions, suits
from cicely.engines.postgres.limiting import Valves, read_flow
from cicely.engines.postgres.member import Member
from cicely.engines.postgres.room import Left
from cicely.engines.postgres.statements import statements
from cicely.engines.postgres.streams import wants_of
from cicely.engines.postgres.transaction import Transaction

_SQL: Final = statements("stream")
_NEWS: Final = statements("news")

#: A session is woken for a job that may start so soon, and then waits for it by its own clock.
SOON_S: Final = 2.0
_MOST_LOOKED_AT: Final = 64


class GatedWork:
    """Some ready jobs that their valves let pass, or soon will."""

    def __init__(self, txn: Transaction, found: Sequence[tuple[str, str, Needs]]) -> None:
        self._txn = txn
        self._found = found
        self._sessions: list[Session] | None = None

    def has_for(self, member: Member) -> bool:
        """Return whether a session could start one of them."""
        fitting = [one for one in self._found if member.serves(one[0]) and member.runs(one[1])]
        if not fitting:
            return False
        if self._sessions is None and any(needs.shuns for _, _, needs in fitting):
            self._sessions = open_sessions(self._txn)
        left = Left(self._txn, member.session)
        return any(
            suits(needs, task, queue, member.session, self._sessions or ())
            and (not needs.resources or left.placed(needs) is not None)
            for queue, task, needs in fitting
        )


def gated_work(txn: Transaction, queues: dict[int, str]) -> GatedWork | None:
    """Return what may start in these queues; None where there is nothing."""
    if not queues:
        return None
    if not txn.now:
        # Behind a call that is one statement nobody has asked for the time.
        txn.know_clock(txn.later(_NEWS["clock"]))
    soon = txn.now + SOON_S
    rows = txn.rows(_SQL["startable"], {"queues": list(queues), "soon": soon, "limit": _MOST_LOOKED_AT})
    # As it stands now, after the commit: not as the call saw it.
    valves = Valves(txn)
    valves.read({use.key for row in rows for use in read_flow(row[3])[1]})
    found = []
    for queue, job_class, wants, flow in rows:
        opening = valves.opening(flow)
        if opening is None or opening[0] <= soon:
            found.append((queues[queue], txn.class_of(job_class)[0], wants_of(wants)))
    return GatedWork(txn, found) if found else None
