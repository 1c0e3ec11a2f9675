"""The memory engine: the executable specification of the contract, and the engine of unit tests.

It is the shortest code that keeps every promise of `engines.contract`: plain dictionaries, one
lock, linear searches. Speed is not its purpose; the other engines are compared with it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from cicely.core.job import (
    AttemptRecord,
    Claim,
    Enqueued,
    Filter,
    Job,
    Kind,
    NewJob,
    Page,
    Tallies,
    rank,
)
from cicely.core.outcome import (
    CANCELLED,
    Again,
    Finish,
    Outcome,
    after_loss,
    after_visibility,
    decide,
    reason_of,
)
from cicely.core.states import State, allows
from cicely.engines.contract import (
    RECEIPT_LEASES,
    Ask,
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
    Verdict,
)
from cicely.errors import SessionClosed

PROMOTED_PER_CLAIM = 256
ORPHAN_BLOB_S = 7 * 86_400.0


@dataclass(slots=True)
class _Row:
    """A job and everything that happened to it."""

    new: NewJob
    n: int
    created_at: float
    state: State
    rank: int
    kind: Kind
    due_at: float | None
    expires_at: float | None
    tallies: Tallies = field(default_factory=Tallies)
    attempt: int = 0
    fence: int = 0
    token: bytes = b""
    session: str = ""
    started_at: float | None = None
    deadline_at: float | None = None
    cancelling: bool = False
    ended_at: float | None = None
    delete_at: float = 0.0
    reason: str = ""
    progress: bytes = b""
    checkpoint: bytes | None = None
    error: bytes = b""
    result: bytes = b""
    attempts: list[AttemptRecord] = field(default_factory=list)


@dataclass(slots=True)
class _Member:
    """A session and its heartbeats."""

    session: Session
    joined_at: float
    beat_at: float
    beat: int = 0


class MemoryBell:
    """A pipe that becomes readable when rung while armed."""

    def __init__(self, watch: list[MemoryBell], owner: str, job_ids: Collection[str] = ()) -> None:
        self.owner = owner
        self.job_ids = frozenset(job_ids)
        self._watch = watch
        self._armed = False
        self._read_fd, self._write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        watch.append(self)

    def fileno(self) -> int:
        """Return the reading end."""
        return self._read_fd

    def arm(self) -> None:
        """Be rung from now on."""
        self._armed = True

    def disarm(self) -> None:
        """Be rung no more, and forget the rings so far."""
        self._armed = False
        try:
            os.read(self._read_fd, 4096)
        except BlockingIOError:
            return

    def ring(self) -> bool:
        """Ring if armed; return whether the owner was."""
        if not self._armed:
            return False
        self._armed = False
        os.write(self._write_fd, b"!")
        return True

    def close(self) -> None:
        """Be rung no more, and give the pipe back."""
        if self in self._watch:
            self._watch.remove(self)
            os.close(self._read_fd)
            os.close(self._write_fd)


class MemoryEngine:
    """Jobs in dictionaries, by the clock that is handed in."""

    def __init__(self, *, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._lock = threading.RLock()
        self._rows: dict[str, _Row] = {}
        self._next_n = 1
        self._next_claim = 1
        self._members: dict[str, _Member] = {}
        self._closed: set[str] = set()
        self._receipts: dict[bytes, tuple[str, float]] = {}
        self._tombs: dict[str, tuple[Job, float]] = {}
        self._paused: set[str] = set()
        self._queues: set[str] = set()
        self._blobs: dict[tuple[str, str], tuple[bytes, float]] = {}
        self._bells: list[MemoryBell] = []

    # --- connection -----------------------------------------------------------------------
    def open(self) -> None:
        """Nothing to open."""

    def close(self) -> None:
        """Nothing to close."""

    def facts(self) -> Facts:
        """Describe this engine."""
        return Facts("memory", "this process", "1", "survives nothing: for tests only")

    # --- sessions -------------------------------------------------------------------------
    def join(self, session: Session) -> None:
        with self._lock:
            if session.id in self._closed:
                raise SessionClosed(f"session {session.id} was retired: join under another id")
            if session.id in self._members:
                return
            self._members[session.id] = _Member(session, self._now(), self._now())

    def beat(self, held: Mapping[str, Collection[bytes]]) -> list[Beat]:
        with self._lock:
            beats = [self._beat_one(session_id, set(tokens)) for session_id, tokens in held.items()]
            self._ring_idle()
            return beats

    def _beat_one(self, session_id: str, named: set[bytes]) -> Beat:
        member = self._members.get(session_id)
        if member is None:
            return Beat(session_id, alive=False, lost=tuple(sorted(named)))
        member.beat += 1
        member.beat_at = self._now()
        rows = self._held_by(session_id)
        known_before = self._now() - member.session.lease_s * 2 / 3
        for row in rows:
            if row.token not in named and (row.started_at or 0.0) < known_before:
                self._release(row, "its claim's reply was lost")
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
            self._close_session(session_id)
            self._ring_idle()

    def _close_session(self, session_id: str) -> None:
        del self._members[session_id]
        self._closed.add(session_id)

    def _release(self, row: _Row, reason: str) -> None:
        if row.cancelling:
            self._finish(row, Finish(State.CANCELLED, row.tallies, row.reason), reason)
        else:
            self._again(row, Again(row.tallies, reason))

    def sessions(self) -> list[SessionRecord]:
        with self._lock:
            return [
                SessionRecord(
                    session=member.session,
                    beat=member.beat,
                    joined_at=member.joined_at,
                    beat_at=member.beat_at,
                    held=len(self._held_by(member.session.id)),
                )
                for member in self._members.values()
            ]

    def _held_by(self, session_id: str) -> list[_Row]:
        return [row for row in self._rows.values() if row.token and row.session == session_id]

    # --- the life of a job ----------------------------------------------------------------
    def enqueue(self, jobs: Sequence[NewJob]) -> list[Enqueued]:
        with self._lock:
            answers = [self._enqueue_one(job) for job in jobs]
            self._ring_idle()
            return answers

    def _enqueue_one(self, new: NewJob) -> Enqueued:
        if new.id in self._rows or new.id in self._tombs:
            return Enqueued(new.id, fresh=False)
        holder = self._holder_of(new.unique)
        if holder is not None:
            return Enqueued(holder.new.id, fresh=False)
        now = self._now()
        due_at = new.due_at if new.due_at is not None else now + new.delay_s
        expires_at = new.expires_at
        if new.expires_s is not None:
            expires_at = now + new.expires_s
        is_due = due_at <= now
        self._rows[new.id] = _Row(
            new=new,
            n=self._next_n,
            created_at=now,
            state=State.READY if is_due else State.SCHEDULED,
            rank=rank(new.priority, now if is_due else due_at, ageing_s=new.ageing_s),
            kind=new.kind,
            due_at=None if is_due else due_at,
            expires_at=expires_at,
        )
        self._next_n += 1
        self._queues.add(new.queue)
        return Enqueued(new.id, fresh=True)

    def _holder_of(self, unique: str) -> _Row | None:
        if not unique:
            return None
        rows = self._rows.values()
        return next((r for r in rows if r.new.unique == unique and not r.state.is_final), None)

    def claim(self, session_id: str, demand: Demand) -> Intake:
        with self._lock:
            member = self._members.get(session_id)
            if member is None:
                raise SessionClosed(f"session {session_id} was retired or never joined")
            if demand.visibility_s is not None:
                self._take_back_messages(PROMOTED_PER_CLAIM)
            self._promote(PROMOTED_PER_CLAIM)
            repeated = [r for r in self._held_by(session_id) if r.token[:8] == demand.request]
            rows = repeated or list(self._take_all(member, demand))
            claims = tuple(self._claim_of(row) for row in rows)
            self._ring_idle()
            return Intake(claims, self._next_due_in_s())

    def _take_all(self, member: _Member, demand: Demand) -> Iterator[_Row]:
        for ask in demand.asks:
            for row in list(self._fitting(member, demand, ask)):
                self._take(row, member.session.id, demand)
                yield row

    def _fitting(self, member: _Member, demand: Demand, ask: Ask) -> Iterator[_Row]:
        """Yield the jobs that `ask` takes: slots of any task first, then the short ones."""
        taken = 0
        spent_s = 0.0
        for row in self._in_order(member, demand, ask):
            if taken < ask.slots:
                taken += 1
                yield row
                continue
            if row.new.task not in ask.pace:
                continue
            spent_s += ask.pace[row.new.task]
            if taken >= ask.limit or spent_s > ask.buffer_s:
                return
            taken += 1
            yield row

    def _in_order(self, member: _Member, demand: Demand, ask: Ask) -> Iterator[_Row]:
        for queue in demand.queues:
            if queue in self._paused:
                continue
            ready = [
                row
                for row in self._rows.values()
                if row.state is State.READY
                and row.new.queue == queue
                and row.kind in ask.kinds
                and member.session.runs(row.new.task)
            ]
            for row in sorted(ready, key=lambda row: (row.rank, row.n)):
                if row.expires_at is not None and row.expires_at <= self._now():
                    self._expire(row)
                else:
                    yield row

    def _take(self, row: _Row, session_id: str, demand: Demand) -> None:
        now = self._now()
        row.state = State.RUNNING
        row.token = demand.request + self._next_claim.to_bytes(8, "big")
        row.session = session_id
        row.started_at = now
        row.fence += 1
        self._next_claim += 1
        row.attempt = row.tallies.attempt
        row.deadline_at = None if demand.visibility_s is None else now + demand.visibility_s

    def _claim_of(self, row: _Row) -> Claim:
        return Claim(
            token=row.token,
            job_id=row.new.id,
            task=row.new.task,
            kind=row.kind,
            queue=row.new.queue,
            fence=row.fence,
            body=row.new.body,
            options=row.new.options,
            tallies=row.tallies,
            checkpoint=row.checkpoint,
            created_at=row.created_at,
        )

    def _next_due_in_s(self) -> float | None:
        due = [r.due_at for r in self._rows.values() if r.state is State.SCHEDULED and r.due_at]
        return max(0.0, min(due) - self._now()) if due else None

    def settle(self, session_id: str, outcomes: Sequence[Outcome], demand: Demand | None = None) -> Settled:
        with self._lock:
            if demand is not None and session_id not in self._members:
                raise SessionClosed(f"session {session_id} was retired or never joined")
            verdicts = tuple(self._settle_one(outcome) for outcome in outcomes)
            self._ring_idle()
            return Settled(verdicts, self.claim(session_id, demand) if demand else Intake())

    def _settle_one(self, outcome: Outcome) -> Verdict:
        row = self._holding(outcome.token)
        if row is None:
            recorded, _ = self._receipts.get(outcome.token, ("", 0.0))
            return Verdict.ALREADY if recorded == reason_of(outcome) else Verdict.STALE
        until = self._now() + RECEIPT_LEASES * self._lease_s(row.session)
        self._receipts[outcome.token] = (reason_of(outcome), until)
        match decide(outcome, row.tallies, cancelling=row.cancelling, why=row.reason):
            case Finish() as step:
                self._receipts[outcome.token] = (reason_of(outcome), float("inf"))
                self._finish(row, step, reason_of(outcome))
            case Again() as step:
                self._again(row, step, reason_of(outcome))
        return Verdict.ACCEPTED

    def _holding(self, token: bytes) -> _Row | None:
        rows = self._rows.values()
        return next((r for r in rows if r.token and r.token == token), None)

    def _lease_s(self, session_id: str) -> float:
        member = self._members.get(session_id)
        return member.session.lease_s if member else 30.0

    def _finish(self, row: _Row, step: Finish, attempt_reason: str = "") -> None:
        if row.token:
            self._record_attempt(row, attempt_reason or step.reason, step.error)
        now = self._now()
        failed = step.state is State.FAILED
        row.state = step.state
        row.tallies = step.tallies
        row.reason = step.reason
        row.result = step.result
        row.error = step.error
        row.ended_at = now
        row.delete_at = now + (row.new.keep_failed_s if failed else row.new.keep_s)
        row.token = b""
        row.cancelling = False
        row.due_at = row.deadline_at = None
        self._ring_results(row.new.id)

    def _again(self, row: _Row, step: Again, attempt_reason: str = "") -> None:
        self._record_attempt(row, attempt_reason or step.reason, step.error)
        row.tallies = step.tallies
        row.reason = step.reason
        row.error = step.error or row.error
        row.token = b""
        row.deadline_at = None
        if step.alone:
            row.kind = Kind.ISOLATED
        if step.has_started:
            row.expires_at = None
        if step.delay_s is None:
            row.state = State.READY
            return
        row.state = State.SCHEDULED
        row.due_at = self._now() + step.delay_s
        row.rank = rank(row.new.priority, row.due_at, ageing_s=row.new.ageing_s)

    def _record_attempt(self, row: _Row, reason: str, error: bytes) -> None:
        started_at = row.started_at or 0.0
        row.attempts.append(
            AttemptRecord(row.attempt, row.fence, reason, started_at, self._now(), row.session, error)
        )

    # --- running jobs ---------------------------------------------------------------------
    def save(self, session_id: str, saves: Sequence[Save]) -> list[bool]:
        with self._lock:
            return [self._save_one(save) for save in saves]

    def _save_one(self, save: Save) -> bool:
        row = self._holding(save.token)
        if row is None:
            return False
        if save.progress is not None:
            row.progress = save.progress
        if save.checkpoint is not None:
            row.checkpoint = save.checkpoint
        if save.visibility_s is not None:
            row.deadline_at = self._now() + save.visibility_s
        return True

    # --- upkeep ---------------------------------------------------------------------------
    def sweep(self, batch: int, silent: Sequence[Silent] = ()) -> Swept:
        with self._lock:
            rescued = sum(self._rescue(one) for one in silent)
            taken_back = self._take_back_messages(batch)
            promoted = self._promote(batch)
            expired = self._expire_all(batch)
            deleted = self._delete_old(batch)
            self._ring_idle()
            return Swept(
                promoted=promoted,
                rescued=rescued,
                expired=expired,
                deleted=deleted,
                next_due_in_s=self._next_due_in_s(),
                more=batch in (promoted, expired, deleted, taken_back),
            )

    def _rescue(self, silent: Silent) -> int:
        member = self._members.get(silent.session_id)
        if member is None or member.beat != silent.beat:
            return 0
        rows = self._held_by(silent.session_id)
        for row in rows:
            step = after_loss(row.tallies, cancelling=row.cancelling, why=row.reason)
            self._carry_out(row, step, "lost")
        self._close_session(silent.session_id)
        return len(rows)

    def _carry_out(self, row: _Row, step: Finish | Again, attempt_reason: str) -> None:
        if isinstance(step, Finish):
            self._finish(row, step, attempt_reason)
        else:
            self._again(row, step, attempt_reason)

    def _take_back_messages(self, batch: int) -> int:
        now = self._now()
        late = [r for r in self._rows.values() if r.deadline_at is not None and r.deadline_at <= now]
        for row in _first(late, batch):
            if row.cancelling:
                self._release(row, "cancelled")
                continue
            step = after_visibility(row.tallies, max_receives=row.new.max_receives)
            self._carry_out(row, step, "timeout")
        return min(len(late), batch)

    def _promote(self, batch: int) -> int:
        now = self._now()
        due = [
            (row.due_at, row.n, row)
            for row in self._rows.values()
            if row.state is State.SCHEDULED and row.due_at is not None and row.due_at <= now
        ]
        due.sort(key=lambda item: item[:2])
        for _, _, row in due[:batch]:
            row.state = State.READY
            row.due_at = None
        return min(len(due), batch)

    def _expire_all(self, batch: int) -> int:
        now = self._now()
        late = [
            row
            for row in self._rows.values()
            if allows("expire", row.state) and row.expires_at is not None and row.expires_at <= now
        ]
        for row in _first(late, batch):
            self._expire(row)
        return min(len(late), batch)

    def _expire(self, row: _Row) -> None:
        self._finish(row, Finish(State.EXPIRED, row.tallies, "not started before its deadline"))

    def _delete_old(self, batch: int) -> int:
        now = self._now()
        old = [r for r in self._rows.values() if r.state.is_final and r.delete_at <= now]
        for row in _first(old, batch):
            self._delete(row)
        self._tombs = {key: tomb for key, tomb in self._tombs.items() if tomb[1] > now}
        self._receipts = {key: seen for key, seen in self._receipts.items() if seen[1] > now}
        orphans = [
            key
            for key, (_, kept_at) in self._blobs.items()
            if key[0] not in self._rows and kept_at + ORPHAN_BLOB_S <= now
        ]
        for key in orphans:
            del self._blobs[key]
        return min(len(old), batch)

    def _delete(self, row: _Row) -> None:
        if row.new.remember_s > 0:
            rest = Job(
                id=row.new.id,
                task=row.new.task,
                kind=row.kind,
                queue=row.new.queue,
                state=row.state,
                swept=True,
            )
            self._tombs[row.new.id] = (rest, self._now() + row.new.remember_s)
        for key in [key for key in self._blobs if key[0] == row.new.id]:
            del self._blobs[key]
        del self._rows[row.new.id]

    # --- waking up ------------------------------------------------------------------------
    def doorbell(self, session_id: str) -> MemoryBell:
        return MemoryBell(self._bells, session_id)

    def result_bell(self, job_ids: Collection[str]) -> MemoryBell:
        return MemoryBell(self._bells, "", job_ids)

    def _ring_idle(self) -> None:
        """Wake one waiting session if there is something to claim, or due soon."""
        soon = self._now() + 2.0
        if any(
            row.state is State.READY or (row.due_at is not None and row.due_at <= soon)
            for row in self._rows.values()
        ):
            next((bell for bell in self._bells if bell.owner and bell.ring()), None)

    def _ring_results(self, job_id: str) -> None:
        for bell in self._bells:
            if job_id in bell.job_ids:
                bell.ring()

    def _ring_session(self, session_id: str) -> None:
        for bell in self._bells:
            if bell.owner == session_id:
                bell.ring()

    # --- reading --------------------------------------------------------------------------
    def get(self, job_ids: Sequence[str]) -> list[Job | None]:
        with self._lock:
            return [self._get_one(job_id) for job_id in job_ids]

    def _get_one(self, job_id: str) -> Job | None:
        row = self._rows.get(job_id)
        if row is None:
            tomb = self._tombs.get(job_id)
            return tomb[0] if tomb else None
        return msgspec.structs.replace(
            self._outline(row),
            body=row.new.body,
            options=row.new.options,
            result=row.result,
            attempts=tuple(row.attempts),
        )

    def _outline(self, row: _Row) -> Job:
        return Job(
            id=row.new.id,
            task=row.new.task,
            kind=row.kind,
            queue=row.new.queue,
            state=row.state,
            lane=row.new.lane,
            priority=row.new.priority,
            tags=row.new.tags,
            unique=row.new.unique,
            tallies=row.tallies,
            attempt=row.attempt,
            fence=row.fence,
            created_at=row.created_at,
            due_at=row.due_at,
            expires_at=row.expires_at,
            started_at=row.started_at,
            ended_at=row.ended_at,
            session=row.session if row.token else "",
            cancelling=row.cancelling,
            reason=row.reason,
            progress=row.progress,
            error=row.error,
        )

    def find(self, where: Filter, *, limit: int = 100, cursor: str | None = None) -> Page:
        with self._lock:
            before = int(cursor) if cursor else self._next_n
            rows = sorted(self._rows.values(), key=lambda row: -row.n)
            found = [r for r in rows if r.n < before and where.matches(self._outline(r))]
            jobs = tuple(self._outline(row) for row in found[:limit])
            return Page(jobs, str(found[limit - 1].n) if len(found) > limit else None)

    def queues(self) -> list[QueueRecord]:
        with self._lock:
            return [self._queue_record(name) for name in sorted(self._queues | self._paused)]

    def _queue_record(self, name: str) -> QueueRecord:
        counts: dict[State, int] = {}
        for row in self._rows.values():
            if row.new.queue == name:
                counts[row.state] = counts.get(row.state, 0) + 1
        return QueueRecord(name, name in self._paused, counts)

    # --- steering -------------------------------------------------------------------------
    def steer(self, move: str, job_ids: Sequence[str], *, reason: str = "") -> list[str]:
        act = {"cancel": self._cancel, "revive": self._revive, "discard": self._discard}[move]
        with self._lock:
            rows = [self._rows[key] for key in dict.fromkeys(job_ids) if key in self._rows]
            moved = [r.new.id for r in rows if allows(move, r.state) and act(r, reason)]
            self._ring_idle()
            return moved

    def _cancel(self, row: _Row, reason: str) -> bool:
        if row.state is not State.RUNNING:
            self._finish(row, Finish(State.CANCELLED, row.tallies, reason or CANCELLED))
            return True
        if not row.cancelling:
            row.reason = reason or CANCELLED
        row.cancelling = True
        member = self._members.get(row.session)
        if member is not None:
            self._ring_session(member.session.worker)
        return True

    def _revive(self, row: _Row, reason: str) -> bool:
        if self._holder_of(row.new.unique) is not None:
            return False
        row.state = State.READY
        row.rank = rank(row.new.priority, self._now(), ageing_s=row.new.ageing_s)
        row.tallies = Tallies()
        row.reason = reason or "revived"
        row.error = row.result = b""
        row.ended_at = row.expires_at = None
        return True

    def _discard(self, row: _Row, reason: str) -> bool:
        self._delete(row)
        return True

    def pause(self, queue: str) -> None:
        with self._lock:
            self._paused.add(queue)

    def resume(self, queue: str) -> None:
        with self._lock:
            self._paused.discard(queue)
            self._queues.add(queue)
            self._ring_idle()

    # --- blobs ----------------------------------------------------------------------------
    def put_blob(self, job_id: str, digest: str, data: bytes) -> None:
        with self._lock:
            self._blobs[job_id, digest] = (data, self._now())

    def get_blob(self, job_id: str, digest: str) -> bytes | None:
        with self._lock:
            data, _ = self._blobs.get((job_id, digest), (None, 0.0))
            return data


def _first(rows: Iterable[_Row], count: int) -> list[_Row]:
    """Return the `count` oldest rows."""
    return sorted(rows, key=lambda row: row.n)[:count]
