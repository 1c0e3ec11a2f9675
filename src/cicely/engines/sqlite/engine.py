"""The SQLite engine: each verb is one transaction on one file.

The verbs read top to bottom as in the contract; what they do lies beside this file, by duty.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, TypeVar

import apsw

from cicely.core.edge import Edge, ParentEnd
from cicely.core.event import EventFilter, EventPage
from cicely.core.flow import Use
from cicely.core.job import Enqueued, Filter, Job, NewJob, Page
from cicely.core.outcome import Outcome, Step
from cicely.core.rollup import Count, RollupPage
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
from cicely.engines.sqlite import (
    agenda,
    blobs,
    cascade,
    claiming,
    controls,
    deleting,
    edges,
    enqueueing,
    forgetting,
    past,
    reading,
    reserving,
    sessions,
    settling,
    steering,
    surroundings,
    suspending,
    sweeping,
    ticking,
    workflows,
)
from cicely.engines.sqlite.bells import SqliteBell
from cicely.engines.sqlite.commits import Work
from cicely.engines.sqlite.holder import LEASE_PART
from cicely.engines.sqlite.home import Home
from cicely.engines.sqlite.place import SURVIVES, Place
from cicely.engines.sqlite.pressure import wait_a_little
from cicely.engines.sqlite.statements import statements
from cicely.engines.sqlite.transaction import Transaction

T = TypeVar("T")

_SESSIONS: Final = statements("sessions")

#: What a settle of nothing writes beside its outcomes, in jobs: claims, receipts, statistics.
_JOBS_OF_A_SETTLE: Final = 20


class SqliteEngine:
    """Jobs in one file, shared by every process that opens it."""

    def __init__(
        self,
        path: str,
        *,
        durability: str = "power",
        busy_timeout_s: float = 5.0,
        role: str = "producer",
        now: Callable[[], float] = time.time,
    ) -> None:
        self._place = Place(path, durability=durability)
        self._busy_timeout_s = busy_timeout_s
        self._role = role
        self._now = now
        self._lease_s = 0.0
        self._home: Home | None = None
        self._opening = threading.Lock()
        self._pid = os.getpid()

    # --- connection -----------------------------------------------------------------------
    def open(self) -> None:
        self._opened()

    def close(self) -> None:
        home, self._home = self._home, None
        if home is not None and home.pid == os.getpid():
            home.close()

    def facts(self) -> Facts:
        return Facts(
            engine="sqlite",
            address=self._place.path,
            version=apsw.sqlite_lib_version(),
            durability=SURVIVES[self._place.durability],
            warnings=self._place.warnings(),
        )

    def _opened(self) -> Home:
        home = self._home
        if home is not None and home.pid == os.getpid():
            return home
        if self._pid != os.getpid():
            # A thread of the parent may have held it at the fork.
            self._opening = threading.Lock()
            self._pid = os.getpid()
        with self._opening:
            if self._home is None or self._home.pid != os.getpid():
                self._home = Home(
                    self._place,
                    role=self._role,
                    now=self._now,
                    busy_timeout_s=self._busy_timeout_s,
                )
            return self._home

    def _write(self, verb: str, work: Work[T]) -> T:
        return self._opened().commits.run(verb, work)

    def _read(self, work: Work[T]) -> T:
        return self._opened().read(work)

    # --- sessions -------------------------------------------------------------------------
    def join(self, session: Session) -> None:
        self._write("join", lambda txn: sessions.join(txn, session))
        if session.lease_s > self._lease_s:
            self._lease_s = session.lease_s
            self._opened().turnstile.be_patient(session.lease_s * LEASE_PART)

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
        answers = self._write("enqueue", lambda txn: enqueueing.enqueue(txn, jobs, edges))
        wait_a_little(self._place.path, len(jobs) + len(edges))
        return answers

    def publish(self, workflow: str) -> None:
        self._write("publish", lambda txn: workflows.publish(cascade.begin(txn), workflow))

    def claim(self, session_id: str, demand: Demand) -> Intake:
        return self._write("claim", lambda txn: _claim(txn, session_id, demand))

    def settle(self, session_id: str, outcomes: Sequence[Outcome], demand: Demand | None = None) -> Settled:
        settled = self._write("settle", lambda txn: _settle(txn, session_id, outcomes, demand))
        wait_a_little(self._place.path, len(outcomes) + _JOBS_OF_A_SETTLE)
        return settled

    # --- running jobs ---------------------------------------------------------------------
    def save(self, session_id: str, saves: Sequence[Save]) -> list[bool]:
        return self._write("save", lambda txn: settling.save(txn, saves))

    # --- upkeep ---------------------------------------------------------------------------
    def sweep(self, batch: int, silent: Sequence[Silent] = ()) -> Swept:
        return self._write("sweep", lambda txn: _sweep(txn, batch, silent))

    # --- waking up ------------------------------------------------------------------------
    def doorbell(self, session_id: str) -> SqliteBell:
        return SqliteBell(self._opened().bells, session_id)

    def result_bell(self, job_ids: Collection[str]) -> SqliteBell:
        return SqliteBell(self._opened().bells, "", job_ids)

    # --- reading --------------------------------------------------------------------------
    def get(self, job_ids: Sequence[str]) -> list[Job | None]:
        return self._read(lambda txn: reading.get(txn, job_ids))

    def find(self, where: Filter, *, limit: int = 100, cursor: str | None = None) -> Page:
        return self._read(lambda txn: reading.find(txn, where, limit, cursor))

    def queues(self) -> list[QueueRecord]:
        return self._read(reading.queues)

    def parents(self, job_id: str, *, after: int = 0, limit: int = 1_000) -> list[ParentEnd]:
        return self._read(lambda txn: edges.parents(txn, job_id, after, limit))

    def steps(self, job_id: str, *, after: int = 0, limit: int = 1_000) -> list[Step]:
        return self._read(lambda txn: suspending.steps(txn, job_id, after, limit))

    # --- steering -------------------------------------------------------------------------
    def steer(self, move: str, job_ids: Sequence[str], *, reason: str = "") -> list[str]:
        return self._write("steer", lambda txn: steering.steer(txn, move, job_ids, reason))

    def pause(self, queue: str) -> None:
        self._write("pause", lambda txn: steering.pause(txn, queue))

    def resume(self, queue: str) -> None:
        self._write("resume", lambda txn: steering.resume(txn, queue))

    def signal(self, event_id: str, name: str, key: str, value: bytes) -> str:
        return self._write("signal", lambda txn: suspending.signal(txn, event_id, name, key, value))

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
        return self._read(ticking.schedules)

    def put_schedule(self, schedule: Schedule) -> None:
        self._write("put_schedule", lambda txn: ticking.put_schedule(txn, schedule))

    def drop_schedule(self, name: str) -> bool:
        return self._write("drop_schedule", lambda txn: ticking.drop_schedule(txn, name))

    def tick(
        self, seen: Schedule, then: Schedule, jobs: Sequence[NewJob], counts: Sequence[Count] = ()
    ) -> bool:
        return self._write("tick", lambda txn: ticking.tick(txn, seen, then, jobs, counts))

    # --- the past -------------------------------------------------------------------------
    def report(self, counts: Sequence[Count]) -> None:
        self._write("report", lambda txn: past.report(txn, counts))

    def rollups(self, since_minute: int, until_minute: int, *, limit: int = 1_000) -> RollupPage:
        return self._read(lambda txn: past.rollups(txn, since_minute, until_minute, limit))

    def history(self, where: EventFilter, *, limit: int = 100, cursor: str | None = None) -> EventPage:
        return self._read(lambda txn: past.history(txn, where, limit, cursor))

    # --- blobs ----------------------------------------------------------------------------
    def put_blob(self, job_id: str, digest: str, data: bytes) -> None:
        for part in blobs.parts_of(data):
            self._put_part(job_id, digest, part)

    def _put_part(self, job_id: str, digest: str, part: blobs.Part) -> None:
        self._write("put_blob", lambda txn: blobs.put_part(txn, job_id, digest, part))

    def get_blob(self, job_id: str, digest: str) -> bytes | None:
        return self._read(lambda txn: blobs.get_blob(txn, job_id, digest))


def _claim(txn: Transaction, session_id: str, demand: Demand) -> Intake:
    member = sessions.member_of(txn, session_id)
    cascade.carry_on(txn)
    return claiming.claim(txn, member, demand)


def _settle(txn: Transaction, session_id: str, outcomes: Sequence[Outcome], demand: Demand | None) -> Settled:
    # Judged first: a settle with a demand of a closed session records nothing.
    member = sessions.member_of(txn, session_id) if demand is not None else None
    cascade.carry_on(txn)
    verdicts = settling.settle(txn, outcomes)
    if member is None or demand is None:
        return Settled(verdicts)
    return Settled(verdicts, claiming.claim(txn, member, demand))


def _sweep(txn: Transaction, batch: int, silent: Sequence[Silent]) -> Swept:
    rescued = sum(sweeping.rescue(txn, one) for one in silent)
    taken_back = sweeping.take_back_messages(txn, batch)
    promoted = sweeping.promote(txn, batch)
    expired = sweeping.expire_late(txn, batch)
    unreserved = reserving.end_unused(txn, batch)
    cascade.carry_on(txn, batch)
    deleted = deleting.delete_old(txn, batch)
    of_workflows, has_old = workflows.delete_old_workflows(cascade.begin(txn), batch)
    sweeping.forget(txn, batch)
    sweeping.mind_gates(txn, batch)
    forgetting.forget_unused(txn, batch)
    has_waste = blobs.remove_waste(txn)
    has_past = past.forget(txn, batch)
    txn.is_stirred = True
    has_more = has_waste or has_past or has_old or agenda.has_intents(txn)
    return Swept(
        promoted=promoted,
        rescued=rescued,
        expired=expired,
        deleted=deleted + of_workflows,
        next_due_in_s=_sooner(claiming.next_due_in_s(txn), ticking.next_in_s(txn)),
        more=has_more or batch in (promoted, expired, deleted, taken_back, unreserved),
        due=ticking.due(txn, batch),
        now=txn.now,
        newest=past.newest_in(txn),
    )


def _sooner(one: float | None, other: float | None) -> float | None:
    return other if one is None else one if other is None else min(one, other)
