"""The memory engine: what is asked of it beside the life of jobs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import msgspec

from cicely.core import valves
from cicely.core.breaker import turned
from cicely.core.edge import ParentEnd
from cicely.core.event import (
    QUEUE_PAUSED,
    QUEUE_RESUMED,
    SCHEDULE_REMOVED,
    SCHEDULE_SET,
    kind_of_pause,
    kind_of_setting,
)
from cicely.core.flow import BREAKER_PREFIX, Use
from cicely.core.job import Filter, Job, NewJob, Page
from cicely.core.limits import FRESH, NEVER
from cicely.core.outcome import Step
from cicely.core.rollup import Count
from cicely.core.states import State, allows
from cicely.core.valves import Valve
from cicely.engines.contract import (
    MARK,
    SEEN_AHEAD,
    SEEN_HOLDERS,
    SEEN_PARENTS,
    Facts,
    Grant,
    Holder,
    Kept,
    QueueRecord,
    Schedule,
    Setting,
    SettingRecord,
    Surroundings,
    kind_of,
    name_of,
)
from cicely.engines.memory.bells import MemoryBell
from cicely.engines.memory.chronicle import Chronicle
from cicely.engines.memory.flow import Acquired, is_breaker
from cicely.engines.memory.rows import Row
from cicely.engines.memory.streams import needs_of
from cicely.errors import SessionClosed


class MemoryEngine(Chronicle):
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
            flow=row.new.flow,
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
            units=row.units,
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
            return [self._queue_record(name) for name in self.queue_names()]

    def queue_names(self) -> list[str]:
        """Return the names of `queues`, without counting."""
        return sorted(self._queues | self._paused)

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
            if queue not in self._paused:
                self._record.tell(QUEUE_PAUSED, name=queue)
            self._paused.add(queue)

    def resume(self, queue: str) -> None:
        with self._lock:
            if queue in self._paused:
                self._record.tell(QUEUE_RESUMED, name=queue)
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

    # --- flow control ---------------------------------------------------------------------
    def configure(self, settings: Sequence[Setting]) -> None:
        with self._lock:
            for setting in settings:
                key = kind_of(setting), name_of(setting)
                if self._settings.get(key) != setting:
                    self._tell_of_setting(*key, is_there=True)
                self._settings[key] = setting
            self._ring_idle()

    def unset(self, kind: str, name: str) -> bool:
        with self._lock:
            was_known = self._settings.pop((kind, name), None) is not None
            if was_known:
                self._tell_of_setting(kind, name, is_there=False)
            self._ring_idle()
            return was_known

    def _tell_of_setting(self, kind: str, name: str, *, is_there: bool) -> None:
        told = kind_of_setting(kind, is_there=is_there)
        if told is not None:
            self._record.tell(told, name=name)

    def settings(self, kind: str) -> list[SettingRecord]:
        with self._lock:
            kept = {name: setting for (k, name), setting in self._settings.items() if k == kind}
            if kind in ("limit", "breaker"):
                for key in self._gauges:
                    if is_breaker(key) == (kind == "breaker"):
                        kept.setdefault(key.removeprefix(BREAKER_PREFIX), valves.default_of(key))
            return [self._setting_record(kept[name]) for name in sorted(kept)]

    def _setting_record(self, setting: Setting) -> SettingRecord:
        if not isinstance(setting, Valve):
            return SettingRecord(setting, now=self._now())
        key = valves.key_of(setting)
        gauge = self._waiters.shown(self._gauges.get(key, FRESH))
        return SettingRecord(setting, gauge, self._count_holders(key, 0.0), self._now())

    def turn(self, breaker: str, move: str) -> bool:
        with self._lock:
            key = BREAKER_PREFIX + breaker
            was = self._gauges.get(key, FRESH)
            then = turned(was, move, now=self._now())
            self._put_gauge(key, then)
            self._ring_idle()
            return was != then

    def acquire(self, session_id: str, token: bytes, request: bytes, uses: Sequence[Use]) -> Grant:
        with self._lock:
            row = self._holding(token)
            if row is None or row.session != session_id:
                raise SessionClosed(f"session {session_id} does not hold the claim that asks for a limit")
            if request in self._acquired:
                return Grant(given=True)
            opens_at = max((self._valve_opens_at(use) for use in uses), default=self._now())
            if opens_at > self._now():
                return Grant(given=False, retry_in_s=None if opens_at == NEVER else opens_at - self._now())
            for use in uses:
                self._reserve(use)
            self._acquired[request] = Acquired(token, tuple(uses), self._now())
            return Grant(given=True)

    def release(self, session_id: str, token: bytes, request: bytes, spent: Mapping[str, float]) -> None:
        with self._lock:
            acquired = self._acquired.get(request)
            if acquired is None or acquired.token != token:
                return
            del self._acquired[request]
            for use in acquired.uses:
                self._correct(use, spent, unused=False)
            self._ring_idle()

    def surroundings(self, job_id: str) -> Surroundings | None:
        with self._lock:
            job = self._get_one(job_id)
            row = self._rows.get(job_id)
            if job is None or row is None:
                return None
            queue, lane = row.new.queue, row.new.lane
            ready = [r for r in self._live.values() if r.state is State.READY and r.new.queue == queue]
            clocks = {r.new.lane: self._clock_of(r) for r in ready}
            mine = [r for r in ready if r.new.lane == lane]
            keys = row.new.flow.keys if row.new.flow else ()
            members = self._members.values()
            return Surroundings(
                job=job,
                now=self._now(),
                is_paused=queue in self._paused,
                is_held=row.is_held,
                ahead=min(SEEN_AHEAD, sum((r.rank, r.n) < (row.rank, row.n) for r in mine)),
                lanes=min(SEEN_AHEAD, len(clocks)),
                lane_behind=min(SEEN_AHEAD, sum(at < clocks.get(lane, 0.0) for at in clocks.values())),
                valves=tuple(self._setting_record(self._valve(key)) for key in keys),
                holders={key: tuple(self._holders_of(key)[:SEEN_HOLDERS]) for key in keys},
                parents=tuple(k.edge.parent for k in self._links_into(row) if k.held is None)[:SEEN_PARENTS],
                sessions=tuple(self.sessions()),
                reserved=tuple(self._reservations.all()),
                taken={member.session.id: tuple(self._users_of(member.session.id)) for member in members},
                kept=tuple(self._kept_from(row)),
            )

    def _kept_from(self, row: Row) -> Iterator[Kept]:
        """Yield for whom workers keep free what a ready job wants."""
        if row.state is not State.READY or self._reservations.drawn_by(row):
            return
        for worker in sorted({member.session.worker for member in self._members.values()}):
            first = self._waits_for_room(worker)
            if first is not None and self._keeps_free(row, worker):
                yield Kept(worker, first.id, self._passed_over[worker][1], needs_of(first).resources)

    def _holders_of(self, key: str) -> list[Holder]:
        claims = [r for r in self._held.values() if r.new.flow and key in r.new.flow.keys]
        acquired = [
            (self._held[a.token], a.at)
            for a in self._acquired.values()
            if any(use.key == key for use in a.uses)
        ]
        held = [(row, row.started_at or 0.0) for row in claims] + acquired
        return [Holder(r.id, r.session, at) for r, at in sorted(held, key=lambda one: (one[1], one[0].n))]

    def _users_of(self, session_id: str) -> list[Holder]:
        rows = [row for row in self._held_by(session_id) if row.units]
        return [Holder(row.id, session_id, row.started_at or 0.0, row.units) for row in rows]

    # --- schedules ------------------------------------------------------------------------
    def schedules(self) -> list[Schedule]:
        with self._lock:
            return [self._schedules[name] for name in sorted(self._schedules)]

    def put_schedule(self, schedule: Schedule) -> None:
        with self._lock:
            self._schedules[schedule.name] = schedule
            self._tell_of_schedule(SCHEDULE_SET, schedule.name)

    def drop_schedule(self, name: str) -> bool:
        with self._lock:
            was_known = self._schedules.pop(name, None) is not None
            self._tell_of_schedule(SCHEDULE_REMOVED if was_known else None, name)
            return was_known

    def tick(
        self, seen: Schedule, then: Schedule, jobs: Sequence[NewJob], counts: Sequence[Count] = ()
    ) -> bool:
        with self._lock:
            if self._schedules.get(seen.name) != seen:
                return False
            self.enqueue(jobs)
            self._schedules[seen.name] = then
            self._report(counts)
            self._tell_of_schedule(kind_of_pause(was_paused=seen.paused, is_paused=then.paused), seen.name)
            return True

    def _tell_of_schedule(self, kind: str | None, name: str) -> None:
        if kind is not None and not name.startswith(MARK):
            self._record.tell(kind, name=name)

    # --- blobs ----------------------------------------------------------------------------
    def put_blob(self, job_id: str, digest: str, data: bytes) -> None:
        with self._lock:
            self._blobs[job_id, digest] = (data, self._now())

    def get_blob(self, job_id: str, digest: str) -> bytes | None:
        with self._lock:
            data, _ = self._blobs.get((job_id, digest), (None, 0.0))
            return data
