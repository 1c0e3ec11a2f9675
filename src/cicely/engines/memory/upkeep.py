"""Upkeep of the memory engine: the sweep and its duties."""

from __future__ import annotations

from collections.abc import Sequence

from cicely.core.event import WORKER_LOST
from cicely.core.job import DAY_S, Job
from cicely.core.outcome import after_loss
from cicely.core.rollup import Word
from cicely.core.states import allows
from cicely.engines.contract import KEEP_EVENT_S, Schedule, Session, Silent, Swept
from cicely.engines.memory.life import Life, first
from cicely.engines.memory.rows import Row

ORPHAN_BLOB_S = 7 * DAY_S


class Upkeep(Life):
    """What any worker may ask for at any time."""

    def sweep(self, batch: int, silent: Sequence[Silent] = ()) -> Swept:
        with self._lock:
            rescued = sum(self._rescue(one) for one in silent)
            taken_back = self._take_back_messages(batch)
            promoted = self._promote(batch)
            expired = self._expire_all(batch)
            unreserved = self._end_reservations(batch)
            deleted = self._delete_old(batch)
            has_old = self._record.forget(batch)
            self._ring_idle()
            return Swept(
                promoted=promoted,
                rescued=rescued,
                expired=expired,
                deleted=deleted,
                next_due_in_s=self._next_instant_in_s(),
                more=has_old or batch in (promoted, expired, deleted, taken_back, unreserved),
                due=tuple(self._due_schedules(batch)),
                now=self._now(),
                newest=self._record.newest,
            )

    def _due_schedules(self, batch: int) -> list[Schedule]:
        now = self._now()
        due = [s for s in self._schedules.values() if _is_awake(s) and (s.next_at or 0.0) <= now]
        return sorted(due, key=lambda schedule: (schedule.next_at, schedule.name))[:batch]

    def _next_instant_in_s(self) -> float | None:
        """Return when the next job or schedule is due, whichever comes first."""
        ticks = [(s.next_at or 0.0) - self._now() for s in self._schedules.values() if _is_awake(s)]
        jobs_s = self._next_due_in_s()
        waits = ticks if jobs_s is None else [*ticks, jobs_s]
        return max(0.0, min(waits)) if waits else None

    def _rescue(self, silent: Silent) -> int:
        member = self._members.get(silent.session_id)
        if member is None or member.beat != silent.beat:
            return 0
        rows = self._held_by(silent.session_id)
        for row in rows:
            step = after_loss(row.tallies, cancelling=row.cancelling, why=row.reason)
            self._carry_out(row, step, "lost")
        self._note_loss(member.session)
        self._close_session(silent.session_id)
        return len(rows)

    def _note_loss(self, session: Session) -> None:
        self._tell_of_worker(WORKER_LOST, session)
        if session.is_supervisor:
            self._record.count(Word.LOST_WORKERS)

    def _expire_all(self, batch: int) -> int:
        now = self._now()
        late = [
            row
            for row in self._live.values()
            if allows("expire", row.state) and row.expires_at is not None and row.expires_at <= now
        ]
        for row in first(late, batch):
            # One of them may have been cancelled because of the one before.
            if allows("expire", row.state):
                self._expire(row)
        return min(len(late), batch)

    def _delete_old(self, batch: int) -> int:
        now = self._now()
        old = self._past_retention()
        for row in first(old, batch):
            self._delete(row)
        self._tombs = {key: tomb for key, tomb in self._tombs.items() if tomb[1] > now}
        self._receipts = {key: seen for key, seen in self._receipts.items() if seen[1] > now}
        self._events = {key: e for key, e in self._events.items() if e[3] + KEEP_EVENT_S > now}
        orphans = [
            key
            for key, (_, kept_at) in self._blobs.items()
            if key[0] not in self._rows and kept_at + ORPHAN_BLOB_S <= now
        ]
        for key in orphans:
            del self._blobs[key]
        return min(len(old), batch)

    def _past_retention(self) -> list[Row]:
        """Return the jobs that may go: those of a workflow with all of it, and none before a live one."""
        rows = self._rows.values()
        stay = {row.new.workflow for row in rows if not self._is_old(row)} - {""}
        begun_before = self._now() - DAY_S
        abandoned = {r.new.workflow for r in rows if r.is_held and r.created_at <= begun_before} - {""}
        return [
            row
            for row in rows
            if row.new.workflow in abandoned or (self._is_old(row) and row.new.workflow not in stay)
        ]

    def _is_old(self, row: Row) -> bool:
        is_past = row.state.is_final and row.delete_at <= self._now()
        return is_past and not self._has_live_child(row)

    def _has_live_child(self, row: Row) -> bool:
        children = (self._rows.get(link.edge.child) for link in self._links_out_of(row))
        return any(child is not None and not child.state.is_final for child in children)

    def _delete(self, row: Row) -> None:
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
        for parent in self._into.pop(row.id, {}):
            self._out_of[parent] = [link for link in self._out_of[parent] if link.edge.child != row.id]
        del self._rows[row.id]
        self._live.pop(row.id, None)


def _is_awake(schedule: Schedule) -> bool:
    return not schedule.paused and schedule.next_at is not None
