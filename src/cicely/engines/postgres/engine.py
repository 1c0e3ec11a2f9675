"""The PostgreSQL engine: each verb is one transaction on one schema.

The verbs read top to bottom as in the contract; what they do lies beside this file, by duty.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, TypeVar

import psycopg

from cicely.core.edge import Edge, ParentEnd
from cicely.core.event import EventFilter, EventPage
from cicely.core.flow import Use
from cicely.core.job import Enqueued, Filter, Job, NewJob, Page
from cicely.core.outcome import Outcome, Step
from cicely.core.rollup import Count, RollupPage
from cicely.engines.checks import Check
from cicely.engines.contract import (
    Beat,
    Demand,
    Facts,
    Grant,
    Intake,
    QueueRecord,
    Save,
    Schedule,
    Session,
    SessionRecord,
    Setting,
    SettingRecord,
    Settled,
    Silent,
    Surroundings,
    Swept,
)
from cicely.engines.migrating import Migrated
from cicely.engines.postgres import (
    blobs,
    claiming,
    controls,
    enqueueing,
    past,
    reading,
    schedules,
    sessions,
    settling,
    steering,
    surroundings,
    upkeep,
    waiting,
    workflows,
)
from cicely.engines.postgres.address import Address
from cicely.engines.postgres.callers import caller_of
from cicely.engines.postgres.connections import Connections
from cicely.engines.postgres.durability import facts
from cicely.engines.postgres.enclosed import Enclosed
from cicely.engines.postgres.examination import checks
from cicely.engines.postgres.faults import translated
from cicely.engines.postgres.membership import hold_open
from cicely.engines.postgres.notifications import Listener, PostgresBell
from cicely.engines.postgres.outlook import Look
from cicely.engines.postgres.schema import migrate
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

    def migrate(self) -> Migrated:
        """Bring the tables to this Cicely's version; see `engines/migrating.py`."""
        connections = Connections(self._address)
        try:
            with connections.unchecked() as link:
                return migrate(link, self._address)
        except psycopg.Error as error:
            raise translated(error, self._address) from error
        finally:
            connections.close()

    def close(self) -> None:
        home, self._home = self._home, None
        if home is not None and home.pid == os.getpid():
            home.close()

    def facts(self) -> Facts:
        return self._read(lambda txn: facts(txn.link, self._address))

    def checks(self) -> list[Check]:
        """Examine the server; see `engines/checks.py`."""
        return self._opened().transactions.by_itself(lambda link: checks(link, self._address))

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

    def beat(self, held: Mapping[str, Collection[bytes]], number: int) -> list[Beat]:
        return self._write("beat", lambda txn: sessions.beat(txn, held, number))

    def retire(self, session_id: str, outcomes: Sequence[Outcome] = ()) -> None:
        self._write("retire", lambda txn: sessions.retire(txn, session_id, outcomes))

    def sessions(self) -> list[SessionRecord]:
        return self._read(lambda txn: sessions.sessions(txn.rows(_SESSIONS["open_sessions"])))

    # --- the life of a job ----------------------------------------------------------------
    def enqueue(self, jobs: Sequence[NewJob], edges: Sequence[Edge] = ()) -> list[Enqueued]:
        if not jobs and not edges:
            return []
        transactions = self._opened().transactions
        if transactions.is_pooled or edges or not enqueueing.is_plain(jobs):
            return transactions.write("enqueue", lambda txn: workflows.enqueue_any(txn, jobs, edges))
        given_now = transactions.given_now
        try:
            return transactions.at_once("enqueue", lambda txn: enqueueing.enqueue_plain(txn, jobs, given_now))
        except enqueueing.Asked:
            return transactions.write("enqueue", lambda txn: workflows.enqueue_any(txn, jobs, edges))

    def within(self, connection: object) -> Enclosed:
        """Return the caller's transaction, as a place to enqueue in; see `engines/within.py`."""
        return Enclosed(caller_of(connection), self._opened().transactions)

    def publish(self, workflow: str) -> None:
        self._write("publish", lambda txn: workflows.publish(txn, workflow))

    def claim(self, session_id: str, demand: Demand) -> Intake:
        return self._write("claim", lambda txn: claiming.claim(txn, session_id, demand))()

    def settle(self, session_id: str, outcomes: Sequence[Outcome], demand: Demand | None = None) -> Settled:
        return self._write("settle", lambda txn: _settle(txn, session_id, outcomes, demand))()

    # --- running jobs ---------------------------------------------------------------------
    def save(self, session_id: str, saves: Sequence[Save]) -> list[bool]:
        return self._write("save", lambda txn: settling.save(txn, saves))

    # --- upkeep ---------------------------------------------------------------------------
    def sweep(self, batch: int, silent: Sequence[Silent] = ()) -> Swept:
        return self._write("sweep", lambda txn: upkeep.sweep(txn, batch, silent))

    # --- waking up ------------------------------------------------------------------------
    def doorbell(self, session_id: str) -> PostgresBell:
        return PostgresBell(self._opened().listener, session_id)

    def result_bell(self, job_ids: Collection[str]) -> PostgresBell:
        return PostgresBell(self._opened().listener, "", job_ids)

    # --- reading --------------------------------------------------------------------------
    def get(self, job_ids: Sequence[str]) -> list[Job | None]:
        return self._opened().transactions.look(lambda txn: reading.get(txn, job_ids))

    def find(self, where: Filter, *, limit: int = 100, cursor: str | None = None) -> Page:
        return self._read(lambda txn: reading.find(txn, where, limit, cursor))

    def queues(self) -> list[QueueRecord]:
        return self._read(reading.queues)

    def parents(self, job_id: str, *, after: int = 0, limit: int = 1_000) -> list[ParentEnd]:
        return self._read(lambda txn: workflows.parents(txn, job_id, after, limit))

    def steps(self, job_id: str, *, after: int = 0, limit: int = 1_000) -> list[Step]:
        return self._read(lambda txn: waiting.steps(txn, job_id, after, limit))

    # --- steering -------------------------------------------------------------------------
    def steer(self, move: str, job_ids: Sequence[str], *, reason: str = "") -> list[str]:
        return self._write("steer", lambda txn: steering.steer(txn, move, job_ids, reason))

    def pause(self, queue: str) -> None:
        self._write("pause", lambda txn: steering.pause(txn, queue))

    def resume(self, queue: str) -> None:
        self._write("resume", lambda txn: steering.resume(txn, queue))

    def signal(self, event_id: str, name: str, key: str, value: bytes) -> str:
        return self._write("signal", lambda txn: waiting.signal(txn, event_id, (name, key), value))

    # --- flow control ---------------------------------------------------------------------
    def configure(self, settings: Sequence[Setting]) -> None:
        self._write("configure", lambda txn: controls.configure(txn, settings))

    def unset(self, kind: str, name: str) -> bool:
        return self._write("unset", lambda txn: controls.unset(txn, kind, name))

    def settings(self, kind: str) -> list[SettingRecord]:
        return self._read(lambda txn: controls.settings(txn, kind))

    def turn(self, breaker: str, move: str) -> bool:
        return self._write("turn", lambda txn: controls.turn(txn, breaker, move))

    def acquire(self, session_id: str, token: bytes, request: bytes, uses: Sequence[Use]) -> Grant:
        return self._write("acquire", lambda txn: controls.acquire(txn, session_id, token, request, uses))

    def release(self, session_id: str, token: bytes, request: bytes, spent: Mapping[str, float]) -> None:
        self._write("release", lambda txn: controls.release(txn, session_id, token, request, spent))

    def surroundings(self, job_id: str) -> Surroundings | None:
        return self._read(lambda txn: surroundings.surroundings(txn, job_id))

    # --- schedules ------------------------------------------------------------------------
    def schedules(self) -> list[Schedule]:
        return self._read(schedules.schedules)

    def put_schedule(self, schedule: Schedule) -> None:
        self._write("put_schedule", lambda txn: schedules.put(txn, schedule))

    def drop_schedule(self, name: str) -> bool:
        return self._write("drop_schedule", lambda txn: schedules.drop(txn, name))

    def tick(
        self, seen: Schedule, then: Schedule, jobs: Sequence[NewJob], counts: Sequence[Count] = ()
    ) -> bool:
        return self._write("tick", lambda txn: schedules.tick(txn, seen, then, jobs, counts))

    # --- the past -------------------------------------------------------------------------
    def report(self, counts: Sequence[Count]) -> None:
        self._write("report", lambda txn: txn.record.report(counts))

    def rollups(self, since_minute: int, until_minute: int, *, limit: int = 1_000) -> RollupPage:
        return self._read(lambda txn: past.rollups(txn, since_minute, until_minute, limit))

    def history(self, where: EventFilter, *, limit: int = 100, cursor: str | None = None) -> EventPage:
        if self._read(past.has_told):
            self._write("history", past.number)
        return self._read(lambda txn: past.history(txn, where, limit, cursor))

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


def _settle(
    txn: Transaction, session_id: str, outcomes: Sequence[Outcome], demand: Demand | None
) -> Callable[[], Settled]:
    if demand is None:
        settled = Settled(settling.settle(txn, outcomes).verdicts)
        return lambda: settled
    # Locked first; the claim refuses one that is closed, and what was settled before goes with it.
    hold_open(txn, session_id)
    look: Look | None = None

    def look_early() -> None:
        nonlocal look
        look = Look(txn, session_id, demand)

    member = txn.members.get(session_id)
    if member is None or not member.looks_early:
        txn.ahead = look_early
        done = settling.settle(txn, outcomes)
        is_seen = done.is_plain
    else:
        done = settling.settle(txn, outcomes, beside=look_early)
        is_seen = done.is_plain and not done.is_followed
    txn.forget_ahead()
    if member is not None:
        member.looks_early = not done.is_followed
    intake = claiming.claim(txn, session_id, demand, look if is_seen else None)
    return lambda: Settled(done.verdicts, intake())
