"""The PostgreSQL engine: each verb is one transaction on one schema.

The verbs read top to bottom as in the contract; what they do lies beside this file, by duty.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, TypeVar

from cicely.core.job import Enqueued, Filter, Job, NewJob, Page
from cicely.core.outcome import Outcome
from cicely.engines.contract import (
    Beat,
    Demand,
    Facts,
    Intake,
    QueueRecord,
    Save,
    Session,
    SessionRecord,
    Settled,
    Silent,
    Swept,
)
from cicely.engines.postgres import (
    blobs,
    claiming,
    enqueueing,
    reading,
    sessions,
    settling,
    steering,
    sweeping,
)
from cicely.engines.postgres.address import Address
from cicely.engines.postgres.connections import Connections
from cicely.engines.postgres.durability import facts
from cicely.engines.postgres.notifications import Listener, PostgresBell
from cicely.engines.postgres.statements import statements
from cicely.engines.postgres.transaction import Transaction
from cicely.engines.postgres.transactions import Transactions, Work

T = TypeVar("T")

_SESSIONS: Final = statements("sessions")


class PostgresEngine:
    """Jobs in one schema of a database, shared by every process that reaches the server.

    `now` replaces the server's clock, for tests.
    """

    def __init__(
        self, url: str, *, schema: str | None = None, now: Callable[[], float] | None = None
    ) -> None:
        self._address = Address(url, schema=schema)
        self._now = now
        self._home: _Home | None = None
        self._opening = threading.Lock()
        self._pid = os.getpid()

    # --- connection -----------------------------------------------------------------------
    def open(self) -> None:
        with self._opened().connections.one():
            return

    def close(self) -> None:
        home, self._home = self._home, None
        if home is not None and home.pid == os.getpid():
            home.close()

    def facts(self) -> Facts:
        return self._read(lambda txn: facts(txn.link, self._address))

    def _opened(self) -> _Home:
        home = self._home
        if home is not None and home.pid == os.getpid():
            return home
        if self._pid != os.getpid():
            # A thread of the parent may have held it at the fork.
            self._opening = threading.Lock()
            self._pid = os.getpid()
        with self._opening:
            if self._home is None or self._home.pid != os.getpid():
                self._home = _Home(self._address, now=self._now)
            return self._home

    def _write(self, verb: str, work: Work[T]) -> T:
        return self._opened().transactions.write(verb, work)

    def _read(self, work: Work[T]) -> T:
        return self._opened().transactions.read(work)

    # --- sessions -------------------------------------------------------------------------
    def join(self, session: Session) -> None:
        self._write("join", lambda txn: sessions.join(txn, session))

    def beat(self, held: Mapping[str, Collection[bytes]]) -> list[Beat]:
        return self._write("beat", lambda txn: sessions.beat(txn, held))

    def retire(self, session_id: str, outcomes: Sequence[Outcome] = ()) -> None:
        self._write("retire", lambda txn: sessions.retire(txn, session_id, outcomes))

    def sessions(self) -> list[SessionRecord]:
        return self._read(lambda txn: sessions.sessions(txn.rows(_SESSIONS["open_sessions"])))

    # --- the life of a job ----------------------------------------------------------------
    def enqueue(self, jobs: Sequence[NewJob]) -> list[Enqueued]:
        if not jobs:
            return []
        transactions = self._opened().transactions
        if transactions.is_pooled or not enqueueing.is_plain(jobs):
            return transactions.write("enqueue", lambda txn: enqueueing.enqueue(txn, jobs))
        given_now = transactions.given_now
        return transactions.at_once("enqueue", lambda txn: enqueueing.enqueue_plain(txn, jobs, given_now))

    def claim(self, session_id: str, demand: Demand) -> Intake:
        return self._write("claim", lambda txn: _claim(txn, session_id, demand))

    def settle(self, session_id: str, outcomes: Sequence[Outcome], demand: Demand | None = None) -> Settled:
        return self._write("settle", lambda txn: _settle(txn, session_id, outcomes, demand))

    # --- running jobs ---------------------------------------------------------------------
    def save(self, session_id: str, saves: Sequence[Save]) -> list[bool]:
        return self._write("save", lambda txn: settling.save(txn, saves))

    # --- upkeep ---------------------------------------------------------------------------
    def sweep(self, batch: int, silent: Sequence[Silent] = ()) -> Swept:
        return self._write("sweep", lambda txn: _sweep(txn, batch, silent))

    # --- waking up ------------------------------------------------------------------------
    def doorbell(self, session_id: str) -> PostgresBell:
        return PostgresBell(self._opened().listener, session_id)

    def result_bell(self, job_ids: Collection[str]) -> PostgresBell:
        return PostgresBell(self._opened().listener, "", job_ids)

    # --- reading --------------------------------------------------------------------------
    def get(self, job_ids: Sequence[str]) -> list[Job | None]:
        return self._read(lambda txn: reading.get(txn, job_ids))

    def find(self, where: Filter, *, limit: int = 100, cursor: str | None = None) -> Page:
        return self._read(lambda txn: reading.find(txn, where, limit, cursor))

    def queues(self) -> list[QueueRecord]:
        return self._read(reading.queues)

    # --- steering -------------------------------------------------------------------------
    def steer(self, move: str, job_ids: Sequence[str], *, reason: str = "") -> list[str]:
        return self._write("steer", lambda txn: steering.steer(txn, move, job_ids, reason))

    def pause(self, queue: str) -> None:
        self._write("pause", lambda txn: steering.pause(txn, queue))

    def resume(self, queue: str) -> None:
        self._write("resume", lambda txn: steering.resume(txn, queue))

    # --- blobs ----------------------------------------------------------------------------
    def put_blob(self, job_id: str, digest: str, data: bytes) -> None:
        self._write("put_blob", lambda txn: blobs.put_blob(txn, job_id, digest, data))

    def get_blob(self, job_id: str, digest: str) -> bytes | None:
        return self._read(lambda txn: blobs.get_blob(txn, job_id, digest))


class _Home:
    """What one process has of one schema. A forked child makes its own."""

    def __init__(self, address: Address, *, now: Callable[[], float] | None) -> None:
        self.pid = os.getpid()
        self._address = address
        self.connections = Connections(address)
        self.transactions = Transactions(self.connections, now=now)
        self._listener: Listener | None = None
        self._listening = threading.Lock()
        _homes.add(self)

    def listener(self) -> Listener | None:
        """Return the ear of this process, made when it is first asked for; None behind a pooler."""
        if self._address.pooler != "none":
            return None
        with self._listening:
            if self._listener is None:
                self._listener = Listener(self.connections)
            return self._listener

    def close(self) -> None:
        """Let go of everything."""
        self.transactions.close()
        if self._listener is not None:
            self._listener.close()
        self.connections.close()

    def leave_to_parent(self) -> None:
        """In a forked child: never touch the parent's connections."""
        self.connections.leave_to_parent()


_homes: weakref.WeakSet[_Home] = weakref.WeakSet()

#: Kept for ever: to let them go would be to end the parent's sessions.
_inherited: list[object] = []


def _after_fork() -> None:
    for home in list(_homes):
        home.leave_to_parent()
        _inherited.append(home)


os.register_at_fork(after_in_child=_after_fork)


def _claim(txn: Transaction, session_id: str, demand: Demand) -> Intake:
    return claiming.claim(txn, sessions.member_of(txn, session_id), demand)


def _settle(txn: Transaction, session_id: str, outcomes: Sequence[Outcome], demand: Demand | None) -> Settled:
    # Judged first: a settle with a demand of a closed session records nothing.
    member = sessions.member_of(txn, session_id) if demand is not None else None
    verdicts = settling.settle(txn, outcomes)
    if member is None or demand is None:
        return Settled(verdicts)
    return Settled(verdicts, claiming.claim(txn, member, demand))


def _sweep(txn: Transaction, batch: int, silent: Sequence[Silent]) -> Swept:
    rescued = sum(sweeping.rescue(txn, one) for one in sorted(silent, key=lambda one: one.session_id))
    taken_back = sweeping.take_back_messages(txn, batch)
    promoted = sweeping.promote(txn, batch)
    expired = sweeping.expire_late(txn, batch)
    deleted = sweeping.delete_old(txn, batch)
    sweeping.forget(txn, batch)
    sweeping.fold(txn, batch)
    txn.is_stirred = True
    return Swept(
        promoted=promoted,
        rescued=rescued,
        expired=expired,
        deleted=deleted,
        next_due_in_s=claiming.next_due_in_s(txn),
        more=batch in (promoted, expired, deleted, taken_back),
    )
