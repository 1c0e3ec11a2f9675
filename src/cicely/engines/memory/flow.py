"""Flow control of the memory engine: what valves, lanes and resources let pass, and what comes back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass

from cicely.core import breaker, limits, patience, valves
from cicely.core.event import kind_of_gauge
from cicely.core.flow import BREAKER_PREFIX, NO_NEEDS, QUEUE_PREFIX, Needs, Use
from cicely.core.job import Kind, NewJob, step
from cicely.core.lanes import Lane, LaneWeight, charge, charged, corrected, start, turn
from cicely.core.limits import FRESH, NEVER, Gauge, Limit
from cicely.core.outcome import (
    Deferred,
    Failed,
    HandedBack,
    Outcome,
    Succeeded,
    Suspended,
    frees_of,
    keeps_of,
)
from cicely.core.reservations import Reservation, drawn, place_drawing
from cicely.core.resources import Amounts, free, is_kept, place
from cicely.core.states import State
from cicely.core.valves import Valve
from cicely.engines.contract import Ask, Session, Setting
from cicely.engines.memory.patience import Waiters, standing_of
from cicely.engines.memory.record import Record
from cicely.engines.memory.reservations import Reservations
from cicely.engines.memory.rows import Member, Row
from cicely.engines.memory.streams import Stream, could_ever, needs_of, stream_of
from cicely.errors import BacklogFull


@dataclass(slots=True)
class Acquired:
    """What a running claim took of limits beside what it was claimed with."""

    token: bytes
    uses: tuple[Use, ...]
    at: float


class FlowControl:
    """Which ready jobs may pass now, for whom, and in which order."""

    def __init__(self, *, now: Callable[[], float]) -> None:
        self._now = now
        self._lock = threading.RLock()
        self._record = Record(now)
        #: Every job; of these, those that have not ended by id, and those that are held by token.
        self._rows: dict[str, Row] = {}
        self._live: dict[str, Row] = {}
        #: The streams of a queue, until one more job is ready; see `_lines_of`.
        self._lines: dict[str, dict[Stream, list[Row]]] = {}
        self._held: dict[bytes, Row] = {}
        self._members: dict[str, Member] = {}
        self._settings: dict[tuple[str, str], Setting] = {}
        self._gauges: dict[str, Gauge] = {}
        self._acquired: dict[bytes, Acquired] = {}
        self._clocks: dict[str, float] = {}
        #: Whether the next job that is taken is the first one of its lane's turn.
        self._begins_turn = False
        self._lanes: dict[str, dict[str, Lane]] = {}
        self._paused: set[str] = set()
        #: By worker, the job that it passed over first for want of resources, and when.
        self._passed_over: dict[str, tuple[str, float]] = {}
        self._reservations = Reservations(self._held)
        self._waiters = Waiters(
            now,
            self._gauges,
            self._live,
            self._paused,
            self._valve,
            self._valve_opens_at,
            self._count_holders,
            self._put_gauge,
        )
        #: Whether this claim left room of a limit for a job that goes first.
        self._has_kept_back = False

    # --- the order ------------------------------------------------------------------------
    def _in_queue(self, queue: str, member: Member, ask: Ask) -> Iterator[Row]:
        """Yield the jobs of a queue that may pass, best first, each after the one before was taken or not."""
        streams = self._streams(queue, member, ask.kinds)
        while streams:
            stream = min(streams, key=lambda rows: (self._clock_of(rows[-1]), rows[-1].rank, rows[-1].n))
            self._begins_turn = True
            if not (yield from self._turn(stream, member, self._turn_jobs(stream[-1], ask))):
                streams.remove(stream)

    def _turn_jobs(self, row: Row, ask: Ask) -> int:
        is_shared = len(self._lanes[row.new.queue]) > 1
        return turn(ask.pace.get(row.new.task)) if is_shared else 1

    def _turn(self, stream: list[Row], member: Member, jobs: int) -> Generator[Row, None, bool]:
        """Yield so many jobs of a stream and one priority; return whether more of it may be looked at."""
        priority = step(stream[-1].rank)
        while jobs:
            row = stream[-1]
            if self._may_pass(row, member):
                yield row
            if row.state is State.READY:
                # It may not pass, or was not wanted, and so are those behind it.
                row.units, row.drawn = {}, frozenset()
                return False
            jobs -= row.state is State.RUNNING
            _leave_out_at_the_end(stream)
            if not stream or step(stream[-1].rank) != priority:
                break
        return bool(stream)

    def _streams(self, queue: str, member: Member, kinds: Collection[Kind]) -> list[list[Row]]:
        """Return the ready jobs that a session can run, by stream, the first at the end."""
        session = member.session
        return [
            rows
            for (_, _, task, kind, needs), rows in self._lines_of(queue).items()
            if kind in kinds and session.runs(task) and self._suits(needs, task, queue, session)
        ]

    def _lines_of(self, queue: str) -> dict[Stream, list[Row]]:
        """Return a queue's streams. Others look at them as well: who is no longer ready is left out alone."""
        lines = self._lines.get(queue)
        if lines is None:
            lines = self._lines[queue] = self._stood_up(queue)
        for stream, rows in list(lines.items()):
            _leave_out_at_the_end(rows)
            if not rows:
                del lines[stream]
        return lines

    def _stood_up(self, queue: str) -> dict[Stream, list[Row]]:
        lines: dict[Stream, list[Row]] = {}
        for row in self._live.values():
            if row.state is State.READY and row.new.queue == queue:
                lines.setdefault(stream_of(row), []).append(row)
        for rows in lines.values():
            rows.sort(key=lambda row: (row.rank, row.n), reverse=True)
        return lines

    def _suits(self, needs: Needs, task: str, queue: str, session: Session) -> bool:
        """Return whether a session's worker could ever run jobs with these needs."""
        if not could_ever(needs, session):
            return False
        return needs.shuns != session.worker or not self._others_run(needs, task, queue)

    def _others_run(self, needs: Needs, task: str, queue: str) -> bool:
        """Return whether there is a worker, beside the one that is shunned, that could run such jobs."""
        others = (m.session for m in self._members.values() if m.session.worker != needs.shuns)
        return any(o.runs(task) and queue in o.queues and could_ever(needs, o) for o in others)

    def _clock_of(self, row: Row) -> float:
        return self._lanes[row.new.queue][row.new.lane].clock

    # --- what may pass --------------------------------------------------------------------
    def _may_pass(self, row: Row, member: Member) -> bool:
        """Return whether a job may be claimed now; note what it gets of the worker's resources."""
        if row.new.flow is None:
            return True
        if self._opens_at(row) > self._now():
            self._note_waiter(row, member.session)
            return False
        if patience.kept_back(self._waiters, row.n, standing_of(row)) is not None:
            self._has_kept_back = True
            return False
        return self._has_room(row, member.session)

    def _note_waiter(self, row: Row, session: Session) -> None:
        """Note at its limits a job that only they hold back."""
        reserved = self._reservations.drawn_by(row)
        if not needs_of(row).resources or self._placed(row, session, reserved) is not None:
            patience.note(self._waiters, row.n, standing_of(row).passes)

    def _opens_at(self, row: Row) -> float:
        """Return when the valves of a job let it pass, NEVER where only a release can tell."""
        flow = row.new.flow
        uses = flow.passes if flow else ()
        return max((self._valve_opens_at(use) for use in uses), default=self._now())

    def _valve_opens_at(self, use: Use) -> float:
        valve, gauge = self._valve(use.key), self._gauges.get(use.key, FRESH)
        return valves.opens_at(
            valve, gauge, use.cost, now=self._now(), held=lambda since: self._count_holders(use.key, since)
        )

    def _valve(self, key: str) -> Valve:
        kind, name = ("breaker", key.removeprefix(BREAKER_PREFIX)) if is_breaker(key) else ("limit", key)
        setting = self._settings.get((kind, name))
        return setting if isinstance(setting, Valve) else valves.default_of(key)

    def _count_holders(self, key: str, since: float) -> int:
        claims = (r for r in self._held.values() if r.new.flow and key in r.new.flow.keys)
        acquired = (a for a in self._acquired.values() if any(use.key == key for use in a.uses))
        return sum((r.started_at or 0.0) >= since for r in claims) + sum(a.at >= since for a in acquired)

    def _has_room(self, row: Row, session: Session) -> bool:
        wants = needs_of(row).resources
        if not wants:
            return True
        reserved = self._reservations.drawn_by(row)
        placed = self._placed(row, session, reserved)
        if placed is None:
            # Who draws is not waited for: nobody else can have what is reserved.
            if not reserved:
                self._pass_over(row, session.worker)
            return False
        if not reserved and self._keeps_free(row, session.worker):
            return False
        row.units = placed
        row.drawn = frozenset(drawn(wants, reserved[session.worker])) if reserved else frozenset()
        return True

    def _placed(
        self, row: Row, session: Session, reserved: Mapping[str, Reservation]
    ) -> dict[str, dict[str, float]] | None:
        """Return which units of its worker a session could give a job now, None where they are not free.

        A job that draws runs where its workflow has `reserved`, by worker, and nowhere else.
        """
        wants = needs_of(row).resources
        left = free(session.offers, self._taken_of(session.worker))
        if not reserved:
            return place(wants, left, session.offers)
        if session.worker not in reserved:
            return None
        return place_drawing(wants, left, session.offers, reserved[session.worker])

    def _taken_of(self, worker: str) -> list[Amounts]:
        """Return what running jobs have of a worker, and what is reserved on it beside that."""
        used = [row.units for row in self._held.values() if row.worker == worker]
        return used + self._reservations.left_on(worker)

    def _pass_over(self, row: Row, worker: str) -> None:
        if self._waits_for_room(worker) is None:
            self._passed_over[worker] = (row.id, self._now())

    def _waits_for_room(self, worker: str) -> Row | None:
        """Return the job that a worker passed over, if it is still ready and draws nothing."""
        job_id, _ = self._passed_over.get(worker, ("", 0.0))
        row = self._live.get(job_id)
        if row is None or row.state is not State.READY or self._reservations.drawn_by(row):
            return None
        return row

    def _keeps_free(self, row: Row, worker: str) -> bool:
        """Return whether a worker keeps free, for a job that it passed over for long, what this one wants."""
        first = self._waits_for_room(worker)
        if first is None or stream_of(first) == stream_of(row):
            # It is the one, or goes before it.
            return False
        if first.new.queue in self._paused or self._opens_at(first) > self._now():
            # It would not start if there were room.
            return False
        wants, waiter = needs_of(row).resources, needs_of(first).resources
        return is_kept(wants, waiter, since=self._passed_over[worker][1], now=self._now())

    def _valves_open_in_s(self) -> float | None:
        """Return in how many seconds the next valve opens at which ready jobs wait."""
        now = self._now()
        openings = [at for at in map(self._opens_at, self._heads()) if now < at < NEVER]
        return min(openings) - now if openings else None

    def _heads(self) -> list[Row]:
        """Return the first of each stream: those behind wait for it, whatever they cost."""
        streams = [rows for queue in self._lanes for rows in self._lines_of(queue).values()]
        return [rows[-1] for rows in streams if rows[-1].new.flow is not None]

    def _could_start(self, row: Row, member: Member) -> bool:
        """Return whether a session could start this ready job now, or within the 2 s of a wake-up."""
        session = member.session
        needs = needs_of(row)
        if needs is NO_NEEDS:
            return True
        if not self._suits(needs, row.new.task, row.new.queue, session):
            return False
        reserved = self._reservations.drawn_by(row)
        return self._opens_at(row) <= self._now() + 2.0 and self._placed(row, session, reserved) is not None

    # --- what is reserved -----------------------------------------------------------------
    def _make_ready(self, row: Row) -> None:
        """Let a job stand in line: in that of its workflow where this has reserved what it wants."""
        row.state = State.READY
        row.draws = self._reservations.has_some_for(row)
        self._lines.pop(row.new.queue, None)

    def _heed_reservations(self, row: Row, outcome: Outcome) -> None:
        """End what an outcome frees, then keep what its job leaves to its workflow."""
        names = frees_of(outcome)
        if names and row.new.workflow:
            self._reservations.free(row.new.workflow, names)
        keeps = keeps_of(outcome, cancelling=row.cancelling)
        if keeps:
            offers = self._members[row.session].session.offers
            self._reservations.keep(row, keeps, offers=offers, now=self._now())
            self._bind_ready(row.new.workflow)

    def _bind_ready(self, workflow: str) -> None:
        """Have the jobs of a workflow that are ready by now draw what it has reserved as well."""
        for row in self._live.values():
            if row.state is State.READY and row.new.workflow == workflow:
                row.draws = row.draws or self._reservations.has_some_for(row)
                self._lines.pop(row.new.queue, None)

    def _end_reservations(self, batch: int) -> int:
        """End reservations of workflows of which no job is live; return how many."""
        return self._reservations.end_first((row.new.workflow for row in self._live.values()), batch)

    # --- taking ---------------------------------------------------------------------------
    def _pass(self, row: Row) -> None:
        """Take what a job passes as it is claimed; nobody waits for it any more."""
        self._charge(row)
        self._passed_over = {worker: one for worker, one in self._passed_over.items() if one[0] != row.id}
        patience.went(self._waiters, row.n, standing_of(row).passes)
        for use in row.new.flow.uses if row.new.flow else ():
            self._reserve(use)

    def _reserve(self, use: Use) -> None:
        gauge = self._gauges.get(use.key, FRESH)
        self._put_gauge(use.key, valves.reserved(self._valve(use.key), gauge, use.cost, now=self._now()))

    def _put_gauge(self, key: str, gauge: Gauge) -> None:
        """Keep where a valve stands; one that stands as if it were new is not kept."""
        if is_breaker(key):
            self._tell_of_breaker(key, gauge)
        self._gauges[key] = gauge
        if gauge == FRESH:
            del self._gauges[key]

    def _tell_of_breaker(self, key: str, gauge: Gauge) -> None:
        kind = kind_of_gauge(self._gauges.get(key, FRESH), gauge)
        if kind is not None:
            by_hand = "tripped" if gauge.shut_until == NEVER else ""
            self._record.tell(kind, name=key.removeprefix(BREAKER_PREFIX), reason=by_hand)

    def _charge(self, row: Row) -> None:
        queue, name = row.new.queue, row.new.lane
        row.charged = 0.0
        if len(self._lanes[queue]) < 2:  # noqa: PLR2004  (a single lane has nobody to share with)
            return
        lane, clock = self._lanes[queue][name], self._clocks.get(queue, 0.0)
        row.charged = charge(lane)
        if self._begins_turn:
            self._begins_turn = False
            self._clocks[queue] = start(lane, clock)
        self._lanes[queue][name] = charged(lane, clock, weight=self._weight(queue, name))

    def _weight(self, queue: str, lane: str) -> float:
        setting = self._settings.get(("lane", f"{queue}/{lane}"))
        return setting.weight if isinstance(setting, LaneWeight) else 1.0

    # --- giving back ----------------------------------------------------------------------
    def _give_back(self, row: Row) -> None:
        """Give back what a claim took: rates and its lane's charge only where it came back unused."""
        self._correct_lane(row)
        for use in row.new.flow.uses if row.new.flow else ():
            self._correct(use, row.spent, unused=row.unused)
        self._acquired = {key: a for key, a in self._acquired.items() if a.token != row.token}
        row.units, row.drawn, row.spent, row.unused = {}, frozenset(), {}, False

    def _correct(self, use: Use, spent: Mapping[str, float], *, unused: bool) -> None:
        limit, gauge = self._valve(use.key), self._gauges.get(use.key, FRESH)
        if not isinstance(limit, Limit):
            return
        if unused:
            self._put_gauge(use.key, limits.given_back(limit, gauge, use.cost))
        else:
            self._put_gauge(use.key, limits.corrected(limit, gauge, use.cost, spent))

    def _correct_lane(self, row: Row) -> None:
        if not row.charged:
            return
        queue, name = row.new.queue, row.new.lane
        lane, weight = self._lanes[queue][name], self._weight(queue, name)
        if row.unused:
            after = Lane(lane.clock - row.charged / weight, lane.mean_s)
        else:
            ran_s = self._now() - (row.started_at or 0.0)
            after = corrected(lane, was_charged=row.charged, ran_s=ran_s, weight=weight)
        self._lanes[queue][name] = after
        row.charged = 0.0

    def _heed(self, row: Row, outcome: Outcome) -> None:
        """Let an outcome tell the valves that its claim passed what it met."""
        if isinstance(outcome, HandedBack):
            row.unused = not (outcome.alone or outcome.has_started)
        if isinstance(outcome, Succeeded | Failed | Deferred | Suspended):
            row.spent = outcome.spent
        if isinstance(outcome, Deferred):
            for key in outcome.slows:
                self._refuse(key, outcome.delay_s)
        if isinstance(outcome, Failed) and outcome.elsewhere:
            row.shuns = row.worker
        if isinstance(outcome, Succeeded | Failed | Suspended):
            blames = outcome.blames if isinstance(outcome, Failed) else ()
            for name in row.new.flow.breakers if row.new.flow else ():
                self._tell(name, row, is_to_blame=name in blames)
        self._heed_reservations(row, outcome)

    def _tell(self, breaker_name: str, row: Row, *, is_to_blame: bool) -> None:
        key = BREAKER_PREFIX + breaker_name
        rule, gauge = self._valve(key), self._gauges.get(key, FRESH)
        if isinstance(rule, Limit):
            return
        if is_to_blame:
            self._put_gauge(key, breaker.failed(rule, gauge, now=self._now()))
        else:
            claimed_at = row.started_at or 0.0
            self._put_gauge(key, breaker.succeeded(gauge, claimed_at=claimed_at, now=self._now()))

    def _was_probe(self, row: Row, blames: Collection[str]) -> bool:
        """Return whether a claim was let through as a probe of a breaker that a failure blames."""
        names = row.new.flow.breakers if row.new.flow else ()
        gauges = [self._gauges.get(BREAKER_PREFIX + name, FRESH) for name in names if name in blames]
        return any(breaker.was_probe(gauge, claimed_at=row.started_at or 0.0) for gauge in gauges)

    def _refuse(self, key: str, retry_after_s: float) -> None:
        limit, gauge = self._valve(key), self._gauges.get(key, FRESH)
        if isinstance(limit, Limit):
            held, now = self._count_holders(key, 0.0), self._now()
            after = limits.refused(limit, gauge, held=held, retry_after_s=retry_after_s, now=now)
            self._put_gauge(key, after)

    # --- a backlog's bound ----------------------------------------------------------------
    def _check_backlogs(self, fresh: Sequence[NewJob]) -> None:
        wanted: dict[str, int] = {}
        for new in fresh:
            for key in _backlog_keys(new):
                wanted[key] = wanted.get(key, 0) + 1
        for key, count in wanted.items():
            limit = self._valve(key)
            if not isinstance(limit, Limit) or limit.backlog is None:
                continue
            ready = sum(r.state is State.READY and key in _backlog_keys(r.new) for r in self._live.values())
            if ready + count > limit.backlog:
                raise BacklogFull(
                    f"{ready} jobs of {key} are ready and its backlog may hold {limit.backlog}: "
                    f"{count} more are refused; send them again when some have started"
                )


def _leave_out_at_the_end(rows: list[Row]) -> None:
    while rows and rows[-1].state is not State.READY:
        rows.pop()


def _backlog_keys(new: NewJob) -> set[str]:
    return {QUEUE_PREFIX + new.queue, *(use.key for use in (new.flow.uses if new.flow else ()))}


def is_breaker(key: str) -> bool:
    """Return whether a key is that of a breaker's valve."""
    return key.startswith(BREAKER_PREFIX)
