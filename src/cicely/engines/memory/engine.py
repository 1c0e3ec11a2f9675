"""The memory engine: what is asked of it beside the life of jobs."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from cicely.core.edge import ParentEnd
from cicely.core.job import Filter, Job, NewJob, Page
from cicely.core.outcome import Step
from cicely.core.states import State, allows
from cicely.engines.contract import Facts, QueueRecord, Schedule
from cicely.engines.memory.bells import MemoryBell
from cicely.engines.memory.rows import Row
from cicely.engines.memory.upkeep import Upkeep


class MemoryEngine(Upkeep):
    """Jobs in dictionaries, by the clock that is handed in."""

    # --- connection -----------------------------------------------------------------------
    def open(self) -> None:
        """Nothing to open."""

    def close(self) -> None:
        """Nothing to close."""

    def facts(self) -> Facts:
        """Describe this engine."""
        return Facts("memory", "this process", "1", "survives nothing: for tests only")

    # --- waking up ------------------------------------------------------------------------
    def doorbell(self, session_id: str) -> MemoryBell:
        return MemoryBell(self._bells, session_id)

    def result_bell(self, job_ids: Collection[str]) -> MemoryBell:
        return MemoryBell(self._bells, "", job_ids)

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

    def _outline(self, row: Row) -> Job:
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
            workflow=row.new.workflow,
            group=row.new.group,
            pending=self._pending(row),
            event=row.event.name if row.event else "",
            cause=row.cause,
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

    def parents(self, job_id: str, *, after: int = 0, limit: int = 1_000) -> list[ParentEnd]:
        with self._lock:
            links = list(self._into.get(job_id, {}).values())
            return [self._parent_end(link) for link in links[after : after + limit]]

    def steps(self, job_id: str, *, after: int = 0, limit: int = 1_000) -> list[Step]:
        with self._lock:
            row = self._rows.get(job_id)
            steps = [Step(key, value) for key, value in row.steps.items()] if row else []
            return steps[after : after + limit]

    # --- steering -------------------------------------------------------------------------
    def steer(self, move: str, job_ids: Sequence[str], *, reason: str = "") -> list[str]:
        act = {"cancel": self._cancel_by_hand, "revive": self._revive, "discard": self._discard}[move]
        with self._lock:
            rows = [self._rows[key] for key in dict.fromkeys(job_ids) if key in self._rows]
            moved = [r.id for r in rows if allows(move, r.state) and act(r, reason)]
            self._ring_idle()
            return moved

    def _cancel_by_hand(self, row: Row, reason: str) -> bool:
        self._follow(list(self._cancel(row, reason)))
        return True

    def _discard(self, row: Row, reason: str) -> bool:
        if self._has_live_child(row):
            return False
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

    def signal(self, event_id: str, name: str, key: str, value: bytes) -> str:
        with self._lock:
            if event_id in self._events:
                return ""
            waiting = [
                r for r in self._rows.values() if r.event and (r.event.name, r.event.key) == (name, key)
            ]
            self._events[event_id] = (name, key, value, self._now(), bool(waiting))
            if not waiting:
                return ""
            row = min(waiting, key=lambda row: row.n)
            if row.event is not None:
                self._record_steps(row, [Step(row.event.step, value)])
            self._let_go(row)
            self._ring_idle()
            return row.id

    # --- schedules ------------------------------------------------------------------------
    def schedules(self) -> list[Schedule]:
        with self._lock:
            return [self._schedules[name] for name in sorted(self._schedules)]

    def put_schedule(self, schedule: Schedule) -> None:
        with self._lock:
            self._schedules[schedule.name] = schedule

    def drop_schedule(self, name: str) -> bool:
        with self._lock:
            return self._schedules.pop(name, None) is not None

    def tick(self, seen: Schedule, then: Schedule, jobs: Sequence[NewJob]) -> bool:
        with self._lock:
            if self._schedules.get(seen.name) != seen:
                return False
            self._schedules[seen.name] = then
            self.enqueue(jobs)
            return True

    # --- blobs ----------------------------------------------------------------------------
    def put_blob(self, job_id: str, digest: str, data: bytes) -> None:
        with self._lock:
            self._blobs[job_id, digest] = (data, self._now())

    def get_blob(self, job_id: str, digest: str) -> bytes | None:
        with self._lock:
            data, _ = self._blobs.get((job_id, digest), (None, 0.0))
            return data
