"""What may happen to a job in the memory engine: the moves, and the edges that they decide."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from cicely.core.edge import Edge, Fate, Join, Role, Rule, broken_reason, fate_of, holds, inherited
from cicely.core.job import AttemptRecord, Job, Kind, NewJob, Tallies, rank
from cicely.core.lanes import Lane
from cicely.core.outcome import CANCELLED, Again, Await, Finish, Pause, Step, Suspended
from cicely.core.states import State
from cicely.engines.contract import Schedule
from cicely.engines.memory.bells import MemoryBell
from cicely.engines.memory.flow import FlowControl
from cicely.engines.memory.rows import Link, Member, Row

#: An event that was signalled: name, key, value, when, and whether somebody took it.
Event = tuple[str, str, bytes, float, bool]


class Moves(FlowControl):
    """All that the memory engine keeps, and every move of a job."""

    def __init__(self, *, now: Callable[[], float] = time.time) -> None:
        super().__init__(now=now)
        self._into: dict[str, dict[str, Link]] = {}
        self._out_of: dict[str, list[Link]] = {}
        self._next_n = 1
        self._next_claim = 1
        self._closed: set[str] = set()
        self._receipts: dict[bytes, tuple[str, float]] = {}
        self._tombs: dict[str, tuple[Job, float]] = {}
        self._blobs: dict[tuple[str, str], tuple[bytes, float]] = {}
        self._queues: set[str] = set()
        self._published: set[str] = set()
        self._events: dict[str, Event] = {}
        self._schedules: dict[str, Schedule] = {}
        self._bells: list[MemoryBell] = []

    # --- to the start ---------------------------------------------------------------------
    def _store(self, new: NewJob, *, waits: bool) -> Row:
        row = Row(
            new=new,
            n=self._next_n,
            created_at=self._now(),
            state=State.WAITING,
            rank=0,
            kind=new.kind,
            due_at=None,
            expires_at=None,
            is_held=new.held and new.workflow not in self._published,
        )
        self._next_n += 1
        self._rows[new.id] = self._live[new.id] = row
        self._queues.add(new.queue)
        self._record.stored(row)
        clock = self._clocks.get(new.queue, 0.0)
        self._lanes.setdefault(new.queue, {}).setdefault(new.lane, Lane(clock))
        if not waits and not row.is_held:
            self._let_go(row)
        return row

    def _let_go(self, row: Row) -> None:
        """Make a job that waits no longer ready, or scheduled where it is not due before its first run."""
        now = self._now()
        new = row.new
        row.event = None
        row.due_at = None
        self._make_ready(row)
        row.rank = rank(new.priority, now, ageing_s=new.ageing_s)
        if row.fence:
            return
        row.expires_at = new.expires_at if new.expires_s is None else now + new.expires_s
        due_at = new.due_at if new.due_at is not None else now + new.delay_s
        if due_at > now:
            self._postpone(row, due_at)

    def _postpone(self, row: Row, due_at: float) -> None:
        row.state = State.SCHEDULED
        row.due_at = due_at
        row.rank = rank(row.new.priority, due_at, ageing_s=row.new.ageing_s)

    # --- to another attempt ---------------------------------------------------------------
    def _release(self, row: Row, reason: str) -> None:
        if row.cancelling:
            self._finish(row, Finish(State.CANCELLED, row.tallies, row.reason), reason)
        else:
            self._again(row, Again(row.tallies, reason))

    def _again(self, row: Row, step: Again, attempt_reason: str = "") -> None:
        self._record.went_on(row, step, attempt_reason)
        if step.has_started:
            self._record_attempt(row, attempt_reason or step.reason, step.error)
        row.tallies = step.tallies
        row.reason = step.reason
        row.error = step.error or row.error
        self._let_loose(row)
        row.deadline_at = None
        if step.alone:
            row.kind = Kind.ISOLATED
        if step.has_started:
            row.expires_at = None
        if step.delay_s is None:
            self._make_ready(row)
        else:
            self._postpone(row, self._now() + step.delay_s)

    def _hold(self, row: Row, token: bytes) -> None:
        """Note under which token a job is held."""
        row.token = token
        self._held[token] = row
        self._pass(row)

    def _let_loose(self, row: Row) -> None:
        """Note that nobody holds a job any more."""
        if row.token:
            self._give_back(row)
            del self._held[row.token]
        row.token = b""

    def _record_attempt(self, row: Row, reason: str, error: bytes) -> None:
        started_at = row.started_at or 0.0
        row.attempts.append(
            AttemptRecord(row.attempt, row.fence, reason, started_at, self._now(), row.session, error)
        )

    def _suspend(self, row: Row, outcome: Suspended) -> None:
        self._record.went_on(row, Pause(outcome), "")
        self._record_steps(row, outcome.steps)
        row.reason = outcome.reason
        self._let_loose(row)
        row.expires_at = row.deadline_at = None
        row.state = State.WAITING
        if outcome.publishes:
            self._publish(outcome.publishes)
        for edge in outcome.edges:
            self._add_link(edge)
        self._judge_all([row], wait=lambda: self._wait(row, outcome))

    def _wait(self, row: Row, outcome: Suspended) -> None:
        """Begin the wait of a job whose edges do not keep it: for an event, a time, or for nothing."""
        wanted = outcome.event
        until = None if outcome.delay_s is None else self._now() + outcome.delay_s
        if wanted is not None and not self._take_event(row, wanted):
            row.event = wanted
            row.due_at = until
        elif wanted is None and until is not None:
            self._postpone(row, until)
        else:
            self._let_go(row)

    def _take_event(self, row: Row, wanted: Await) -> bool:
        """Record the oldest event that fits as a step of the job; False where there is none."""
        for event_id, (name, key, value, at, is_taken) in self._events.items():
            if (name, key) == (wanted.name, wanted.key) and not is_taken:
                self._events[event_id] = (name, key, b"", at, True)
                self._record_steps(row, [Step(wanted.step, value)])
                return True
        return False

    def _record_steps(self, row: Row, steps: Sequence[Step]) -> None:
        for step in steps:
            row.steps.setdefault(step.key, step.value)

    # --- to the end -----------------------------------------------------------------------
    def _finish(self, row: Row, step: Finish, attempt_reason: str = "") -> None:
        """End a job, and all that ends because of that."""
        self._end(row, step, attempt_reason)
        self._follow([row])

    def _follow(self, ended: list[Row]) -> None:
        while ended:
            ended.extend(self._decide_links_of(ended.pop(0)))

    def _end(self, row: Row, step: Finish, attempt_reason: str = "", *, fate: Fate | None = None) -> None:
        self._record.ended(row, step)
        if row.token:
            self._record_attempt(row, attempt_reason or step.reason, step.error)
        now = self._now()
        failed = step.state is State.FAILED
        row.state = step.state
        row.fate = fate or fate_of(step.state)
        row.tallies = step.tallies
        row.reason = step.reason
        row.result = step.result
        row.error = step.error
        row.ended_at = now
        row.delete_at = now + (row.new.keep_failed_s if failed else row.new.keep_s)
        self._let_loose(row)
        self._live.pop(row.id, None)
        row.cancelling = False
        row.event = None
        row.due_at = row.deadline_at = None
        self._ring_results(row.id)

    def _cancel(self, row: Row, reason: str, *, cause: str = "") -> Iterator[Row]:
        """Cancel a live job; yield it unless it runs: then it is asked to end."""
        row.cause = cause
        if row.state is not State.RUNNING:
            self._end(row, Finish(State.CANCELLED, row.tallies, reason or CANCELLED))
            yield row
            return
        if not row.cancelling:
            row.reason = reason or CANCELLED
        row.cancelling = True
        member = self._members.get(row.session)
        if member is not None:
            self._ring_session(member.session.worker)

    # --- edges ----------------------------------------------------------------------------
    def _links_into(self, row: Row) -> list[Link]:
        return list(self._into.get(row.id, {}).values())

    def _links_out_of(self, row: Row) -> list[Link]:
        return list(self._out_of.get(row.id, ()))

    def _broken_into(self, row: Row) -> list[Link]:
        return [link for link in self._links_into(row) if link.held is False]

    def _pending(self, row: Row) -> int:
        return row.is_held + sum(link.held is None for link in self._links_into(row))

    def _add_link(self, edge: Edge) -> None:
        """Keep an edge, decided where its parent has ended. One that is known changes nothing."""
        links = self._into.setdefault(edge.child, {})
        if edge.parent in links:
            return
        link = links[edge.parent] = Link(edge)
        self._out_of.setdefault(edge.parent, []).append(link)
        fate = self._fate_of(edge.parent)
        if fate is not None:
            link.held = holds(edge.rule, fate)

    def _fate_of(self, job_id: str) -> Fate | None:
        """Return how a job's end counts, None while it has none; one that is gone counts as failed."""
        row = self._rows.get(job_id)
        if row is not None:
            return row.fate if row.state.is_final else None
        tomb = self._tombs.get(job_id)
        return fate_of(tomb[0].state) if tomb else Fate.FAILURE

    def _decide_links_of(self, parent: Row) -> Iterator[Row]:
        """Decide the edges out of a job that has ended; yield the jobs that end because of it."""
        for link in self._links_out_of(parent):
            if link.held is not None:
                continue
            link.held = holds(link.edge.rule, parent.fate)
            child = self._rows.get(link.edge.child)
            if child is not None:
                yield from self._judge(child)

    def _judge_all(self, rows: Sequence[Row], *, wait: Callable[[], None] | None = None) -> None:
        for row in rows:
            self._follow(list(self._judge(row, wait=wait)))

    def _judge(self, row: Row, *, wait: Callable[[], None] | None = None) -> Iterator[Row]:
        """Let a waiting job go, or cancel it, where its edges say so; yield what ends by that."""
        if row.state is not State.WAITING:
            return
        broken = self._broken_into(row)
        is_free = self._pending(row) == 0
        first = next((link for link in broken if is_free or link.edge.join is Join.FIRST), None)
        if first is not None:
            yield from self._cancel_behind(row, first)
        elif is_free and row.event is None:
            (wait or (lambda: self._let_go(row)))()

    def _cancel_behind(self, row: Row, link: Link) -> Iterator[Row]:
        cause, fate = self._cause_of(link)
        row.cause = cause
        reason = broken_reason(link.edge.rule, fate, cause)
        step = Finish(State.CANCELLED, row.tallies, reason)
        self._end(row, step, fate=inherited(link.edge.rule, fate))
        yield row
        if link.edge.cancels_siblings:
            yield from self._cancel_before(row, reason, cause)

    def _cancel_before(self, row: Row, reason: str, cause: str) -> Iterator[Row]:
        """Cancel the parents of a job that are still live, and what those wait for."""
        for link in self._links_into(row):
            parent = self._rows.get(link.edge.parent)
            if parent is not None and not parent.state.is_final:
                yield from self._cancel(parent, reason, cause=cause)
                yield from self._cancel_before(parent, reason, cause)

    def _cause_of(self, link: Link) -> tuple[str, Fate]:
        parent = self._rows.get(link.edge.parent)
        cause = parent.cause if parent else ""
        return cause or link.edge.parent, self._fate_of(link.edge.parent) or Fate.FAILURE

    def _publish(self, workflow: str) -> None:
        self._published.add(workflow)
        held = [row for row in self._rows.values() if row.new.workflow == workflow and row.is_held]
        for row in held:
            row.is_held = False
        self._judge_all(held)

    # --- back from the end ----------------------------------------------------------------
    def _revive(self, row: Row, reason: str) -> bool:
        """Run an ended job again, and let what was cancelled because of it, or ran after it, wait for it."""
        if self._holder_of(row.new.unique) is not None or self._broken_into(row):
            return False
        cause = row.id
        self._bring_back(row, reason)
        back = [row]
        for one in back:
            for link in self._links_out_of(one):
                back += [r for r in self._undo(link, cause) if r not in back]
        if self._pending(row) == 0:
            self._make_ready(row)
            row.rank = rank(row.new.priority, self._now(), ageing_s=row.new.ageing_s)
        self._judge_all(back)
        self._record.revived(row)
        return True

    def _bring_back(self, row: Row, reason: str) -> None:
        self._live[row.id] = row
        row.state = State.WAITING
        row.tallies = Tallies()
        row.reason = reason or "revived"
        row.error = row.result = b""
        row.ended_at = row.expires_at = None
        row.fate = Fate.SUCCESS
        row.cause = row.shuns = ""

    def _undo(self, link: Link, cause: str) -> Iterator[Row]:
        """Make an edge undecided again, its parent being back; yield the jobs that come back with it."""
        child = self._rows.get(link.edge.child)
        if child is None or link.held is None:
            return
        if child.state is State.WAITING and not child.fence:
            link.held = None
        elif child.state is State.CANCELLED and child.cause:
            link.held = None
            yield from self._undo_cancellation(child, link, cause)
        elif self._runs_again(child, link):
            link.held = None
            was = child.state
            self._bring_back(child, "")
            if was is not State.SUCCEEDED:
                yield child
            else:
                self._judge_all([child])

    def _runs_again(self, child: Row, link: Link) -> bool:
        """Return whether a job that ended after its parent's end is to do so anew."""
        if not child.state.is_final or link.edge.rule is Rule.SUCCESS:
            return False
        if child.state is State.SUCCEEDED and link.edge.role is Role.CALL:
            return False
        return self._holder_of(child.new.unique) is None

    def _undo_cancellation(self, child: Row, link: Link, cause: str) -> Iterator[Row]:
        if link.edge.cancels_siblings:
            for row in self._rows.values():
                if row.state is not State.CANCELLED or row.cause != cause or self._broken_into(row):
                    continue
                if self._holder_of(row.new.unique) is None:
                    self._bring_back(row, "")
                    yield row
        broken = self._broken_into(child)
        if broken:
            child.cause, fate = self._cause_of(broken[0])
            child.reason = broken_reason(broken[0].edge.rule, fate, child.cause)
        elif child.state is State.CANCELLED and self._holder_of(child.new.unique) is None:
            self._bring_back(child, "")
            yield child

    def _holder_of(self, unique: str) -> Row | None:
        if not unique:
            return None
        return next((row for row in self._live.values() if row.new.unique == unique), None)

    # --- ringing --------------------------------------------------------------------------
    def _ring_idle(self) -> None:
        """Wake one waiting session if there is something to claim, or due soon."""
        for bell in self._bells:
            member = self._members.get(bell.owner)
            # A supervisor's own session takes no jobs.
            if bell.is_armed and member is not None and member.session.tasks and self._may_wake(member):
                bell.ring()
                return

    def _may_wake(self, member: Member) -> bool:
        live = self._live.values()
        return any(self._is_wanted_soon(row) and self._could_start(row, member) for row in live)

    def _is_wanted_soon(self, row: Row) -> bool:
        is_due = row.due_at is not None and row.due_at <= self._now() + 2.0
        return (row.state is State.READY or is_due) and row.new.queue not in self._paused

    def _ring_results(self, job_id: str) -> None:
        for bell in self._bells:
            if job_id in bell.job_ids:
                bell.ring()

    def _ring_session(self, session_id: str) -> None:
        for bell in self._bells:
            if bell.owner == session_id:
                bell.ring()
