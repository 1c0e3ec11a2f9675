"""The life of a job in the memory engine: enqueue, claim, settle, save."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from cicely.core.edge import INLINE_PARENTS, Edge, ParentEnd
from cicely.core.job import Claim, Enqueued, NewJob, Tallies, to_store
from cicely.core.outcome import Again, Finish, Outcome, Step, after_visibility
from cicely.core.patience import LOOK_S
from cicely.core.states import State
from cicely.engines.contract import Ask, Demand, Intake, Save, Settled
from cicely.engines.memory.rows import Link, Member, Row
from cicely.engines.memory.sessions import Sessions
from cicely.errors import JobNotFound, SessionClosed

PROMOTED_PER_CLAIM = 256


class Life(Sessions):
    """From the enqueue to the outcome."""

    def enqueue(self, jobs: Sequence[NewJob], edges: Sequence[Edge] = ()) -> list[Enqueued]:
        with self._lock:
            self._check_ends(jobs, edges)
            self._check_backlogs(to_store(jobs, self._is_known))
            waiting = {edge.child for edge in edges}
            answers = [self._enqueue_one(job, waits=job.id in waiting) for job in jobs]
            stands_for = {job.id: answer.id for job, answer in zip(jobs, answers, strict=True)}
            for edge in edges:
                parent, child = (stands_for.get(end, end) for end in (edge.parent, edge.child))
                self._enqueue_edge(msgspec.structs.replace(edge, parent=parent, child=child))
            self._judge_all([self._rows[a.id] for a in answers if a.fresh])
            self._ring_idle()
            return answers

    def _check_ends(self, jobs: Sequence[NewJob], edges: Sequence[Edge]) -> None:
        known = {job.id for job in jobs} | self._rows.keys() | self._tombs.keys()
        for edge in edges:
            for end in (edge.parent, edge.child):
                if end not in known:
                    raise JobNotFound(f"job {end} is neither known nor among those enqueued with its edge")

    def _is_known(self, new: NewJob) -> bool:
        return new.id in self._rows or new.id in self._tombs or self._holder_of(new.unique) is not None

    def _enqueue_one(self, new: NewJob, *, waits: bool = False) -> Enqueued:
        if new.id in self._rows or new.id in self._tombs:
            return Enqueued(new.id, fresh=False)
        holder = self._holder_of(new.unique)
        if holder is not None:
            return Enqueued(holder.id, fresh=False)
        self._store(new, waits=waits)
        return Enqueued(new.id, fresh=True)

    def _enqueue_edge(self, edge: Edge) -> None:
        child = self._rows.get(edge.child)
        if child is not None and child.state is State.WAITING:
            self._add_link(edge)

    def publish(self, workflow: str) -> None:
        with self._lock:
            self._publish(workflow)
            self._ring_idle()

    def claim(self, session_id: str, demand: Demand) -> Intake:
        with self._lock:
            member = self._members.get(session_id)
            if member is None:
                raise SessionClosed(f"session {session_id} was retired or never joined")
            if demand.visibility_s is not None:
                self._take_back_messages(PROMOTED_PER_CLAIM)
            self._promote(PROMOTED_PER_CLAIM)
            self._has_kept_back = False
            rows = [r for r in self._held_by(session_id) if r.token[:8] == demand.request]
            if rows:
                member.doubted = frozenset()
            rows = rows or list(self._take_all(member, demand))
            claims = tuple(self._claim_of(row) for row in rows)
            self._ring_idle()
            due_in_s = self._next_due_in_s()
            if self._has_kept_back:
                due_in_s = LOOK_S if due_in_s is None else min(due_in_s, LOOK_S)
            return Intake(claims, due_in_s)

    def _take_all(self, member: Member, demand: Demand) -> Iterator[Row]:
        for ask in demand.asks:
            for row in self._fitting(member, demand, ask):
                self._take(row, member.session.id, demand)
                yield row

    def _fitting(self, member: Member, demand: Demand, ask: Ask) -> Iterator[Row]:
        """Yield the jobs that `ask` takes: slots of any task first, then the short ones."""
        taken = 0
        spent_s = 0.0
        rows = self._in_order(member, demand, ask)
        # Once it is full nothing is looked at, and no job passed over.
        while not _is_full(ask, taken) and (row := next(rows, None)) is not None:
            if taken < ask.slots:
                taken += 1
                yield row
                continue
            if row.new.task not in ask.pace:
                continue
            spent_s += ask.pace[row.new.task]
            if spent_s > ask.buffer_s:
                return
            taken += 1
            yield row

    def _in_order(self, member: Member, demand: Demand, ask: Ask) -> Iterator[Row]:
        for queue in demand.queues:
            if queue in self._paused:
                continue
            for row in self._in_queue(queue, member, ask):
                if row.expires_at is not None and row.expires_at <= self._now():
                    row.units, row.drawn = {}, frozenset()
                    self._expire(row)
                else:
                    yield row

    def _take(self, row: Row, session_id: str, demand: Demand) -> None:
        now = self._now()
        row.state = State.RUNNING
        row.shuns, row.draws = "", False
        row.session = session_id
        row.worker = self._members[session_id].session.worker
        row.started_at = now
        self._hold(row, demand.request + self._next_claim.to_bytes(8, "big"))
        row.fence += 1
        self._next_claim += 1
        row.attempt = row.tallies.attempt
        self._record.started(row)
        row.deadline_at = None if demand.visibility_s is None else now + demand.visibility_s

    def _claim_of(self, row: Row) -> Claim:
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
            joins=len(self._links_into(row)),
            parents=self._parents_with_claim(row),
            steps=len(row.steps),
            workflow=row.new.workflow,
            group=row.new.group,
            units=row.units,
            keys=tuple(use.key for use in row.new.flow.uses) if row.new.flow else (),
            reason=row.reason if row.tallies != Tallies() else "",
        )

    def _parents_with_claim(self, row: Row) -> tuple[ParentEnd, ...]:
        links = self._links_into(row)
        return tuple(map(self._parent_end, links)) if len(links) <= INLINE_PARENTS else ()

    def _parent_end(self, link: Link) -> ParentEnd:
        role = link.edge.role
        parent = self._rows.get(link.edge.parent)
        if parent is None:
            return ParentEnd(link.edge.parent, role, State.SUCCEEDED, is_gone=True)
        origin = self._rows.get(parent.cause, parent)
        return ParentEnd(
            parent.id, role, parent.state, result=parent.result, error=origin.error, cause=parent.cause
        )

    def _next_due_in_s(self) -> float | None:
        """Return when the next job is due, or a valve opens at which jobs wait."""
        due = [row.due_at - self._now() for row in self._live.values() if row.due_at is not None]
        opening = self._valves_open_in_s()
        waits = due if opening is None else [*due, opening]
        return max(0.0, min(waits)) if waits else None

    def settle(self, session_id: str, outcomes: Sequence[Outcome], demand: Demand | None = None) -> Settled:
        with self._lock:
            if demand is not None and session_id not in self._members:
                raise SessionClosed(f"session {session_id} was retired or never joined")
            verdicts = tuple(self._settle_one(outcome) for outcome in outcomes)
            self._ring_idle()
            return Settled(verdicts, self.claim(session_id, demand) if demand else Intake())

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
        self._record_steps(row, save.steps)
        return True

    # --- what a claim does by the way ----------------------------------------------------
    def _carry_out(self, row: Row, step: Finish | Again, attempt_reason: str) -> None:
        if isinstance(step, Finish):
            self._finish(row, step, attempt_reason)
        else:
            self._again(row, step, attempt_reason)

    def _take_back_messages(self, batch: int) -> int:
        now = self._now()
        late = [r for r in self._held.values() if r.deadline_at is not None and r.deadline_at <= now]
        for row in first(late, batch):
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
            for row in self._live.values()
            if row.due_at is not None and row.due_at <= now
        ]
        due.sort(key=lambda item: item[:2])
        for _, _, row in due[:batch]:
            if row.event is not None:
                self._record_steps(row, [Step(row.event.step, b"")])
            self._make_ready(row)
            row.due_at = row.event = None
        return min(len(due), batch)

    def _expire(self, row: Row) -> None:
        self._finish(row, Finish(State.EXPIRED, row.tallies, "not started before its deadline"))


def _is_full(ask: Ask, taken: int) -> bool:
    return taken >= ask.slots and (not ask.pace or taken >= ask.limit)


def first(rows: Iterable[Row], count: int) -> list[Row]:
    """Return the `count` oldest rows."""
    return sorted(rows, key=lambda row: row.n)[:count]
