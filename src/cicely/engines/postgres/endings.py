"""Carries out what became of jobs: `Finish` ends one, `Again` has it run another time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from cicely.core.event import Event, kind_of_end, kind_of_step
from cicely.core.job import Kind, Tallies, rank
from cicely.core.outcome import Again, Deferred, Finish, Outcome
from cicely.core.rollup import word_of
from cicely.core.states import State
from cicely.engines.postgres.days import day_of
from cicely.engines.postgres.drawing import draw
from cicely.engines.postgres.gates import gates_of, stood
from cicely.engines.postgres.graph import DRAWS, HOLDS, LABEL, NODE, WATCHED
from cicely.engines.postgres.standing import stand
from cicely.engines.postgres.statements import statements
from cicely.engines.postgres.transaction import (
    CODES,
    FAILED,
    READY,
    RUNNING,
    SCHEDULED,
    SUCCEEDED,
    WAITING,
    Retry,
    Transaction,
    state_of,
)
from cicely.engines.postgres.wire import Values

_SQL: Final = statements("settle")
_GRAPH: Final = statements("graph")
_ROWS: Final = _SQL["rows"]
_LOCKS: Final = (
    (_SQL["lock_run"], RUNNING),
    (_SQL["lock_ready"], READY),
    (_SQL["lock_deferred"], SCHEDULED),
    (_SQL["lock_done"], SUCCEEDED),
    (_SQL["lock_waiting"], WAITING),
)
_MOST_LOOKS: Final = 8


class Row(msgspec.Struct, gc=False):
    """A job with what decides its next move, in the order of the statement `rows`.

    `fence`, `attempt_then` and `started_at` are of the current or last claim.
    """

    n: int
    id: str
    job_class: int
    queue: int
    stream: int
    priority: int
    rank: int
    due_at: float | None
    expires_at: float | None
    ageing_s: float
    keep_s: float
    keep_failed_s: float
    max_receives: int
    unique_key: str | None
    errors: int
    crashes: int
    lost: int
    fence: int
    attempt_then: int
    started_at: float | None
    session: int | None
    request: bytes | None
    cancelling: bool
    reason: str
    end: int | None
    traits: int
    waits: bool
    run_traits: int

    @property
    def tallies(self) -> Tallies:
        """How its earlier attempts ended."""
        return Tallies(self.errors, self.crashes, self.lost)

    @property
    def is_running(self) -> bool:
        """Whether a session holds it."""
        return self.session is not None

    @property
    def attempt(self) -> int:
        """The number of the current or last attempt."""
        return self.tallies.attempt if self.is_running else self.attempt_then

    @property
    def state_code(self) -> int:
        """Where it stands, as it is stored."""
        if self.end is not None:
            return self.end
        if self.is_running:
            return RUNNING
        if self.waits:
            return WAITING
        return READY if self.due_at is None else SCHEDULED

    @property
    def state(self) -> State:
        """Where it stands."""
        return state_of(self.state_code)


def rows_of(txn: Transaction, ns: Iterable[int]) -> list[Row]:
    """Return the jobs with these numbers, oldest first; the caller has locked where they stand."""
    wanted = list(ns)
    return [Row(*values) for values in txn.rows(_ROWS, {"ns": wanted})] if wanted else []


def locked_rows(txn: Transaction, ns: Iterable[int]) -> list[Row]:
    """Return the jobs with these numbers, oldest first, after locking where they stand.

    A job that moves while its place is looked for is looked for again.
    """
    wanted = sorted(ns)
    if not wanted:
        return []
    for _ in range(_MOST_LOOKS):
        places = {(n, code) for statement, code in _LOCKS for (n,) in txn.rows(statement, {"ns": wanted})}
        rows = rows_of(txn, wanted)
        if all((row.n, _place_of(row)) in places for row in rows):
            return rows
    raise Retry


def _place_of(row: Row) -> int:
    """Return for which place in _LOCKS a job's lock stands: all ends have one."""
    return SUCCEEDED if row.end is not None else row.state_code


def fresh(txn: Transaction, rows: Iterable[Row]) -> Iterator[Row]:
    """Yield rows, read anew once the end of one has moved others."""
    seen = txn.spread
    for row in rows:
        if txn.spread == seen:
            yield row
        else:
            yield from rows_of(txn, (row.n,))


def held_by(txn: Transaction, session: int) -> list[Row]:
    """Return the jobs that a session holds, locked."""
    return rows_of(txn, [n for (n,) in txn.rows(_SQL["held_by"], {"session": session})])


def tell_of(txn: Transaction, row: Row, kind: str | None, reason: str, run_s: float | None) -> None:
    """Write an event of a job down, unless there is nothing to tell."""
    if kind is None:
        return
    event = Event(
        kind=kind,
        at=txn.now,
        reason=reason,
        job_id=row.id,
        task=txn.class_of(row.job_class)[0],
        queue=txn.queue_name(row.queue),
        attempt=row.attempt,
        fence=row.fence,
        run_s=run_s,
    )
    txn.record.tell_of(event, row.n, row.session, has_label=bool(row.traits & LABEL))


class Endings:
    """Moves of one call, written together by `write` so that each statement runs over all of them."""

    def __init__(self, txn: Transaction) -> None:
        self._txn = txn
        self._unrun: list[int] = []
        self._done: list[Values] = []
        self._ready: list[Values] = []
        self._unwait: list[int] = []
        #: Those that are ready again and may draw what their workflow has reserved.
        self._drawing: list[int] = []
        #: Claims that give something back, unless whoever calls has noted them with their outcomes.
        self._holding: list[int] = []
        self.outcomes: dict[int, Outcome] = {}
        #: Jobs that are to run elsewhere, if they run again: the worker that they shun.
        self.shuns: dict[int, str] = {}
        #: Because of which job others are cancelled, as far as that is known; whether nothing is told.
        self.causes: dict[int, str] = {}
        self.is_silent = False

    def carry_out(self, row: Row, step: Finish | Again, reason: str, request: bytes | None = None) -> None:
        """Do what was decided; `reason` is the attempt's, `request` that of a settled claim."""
        if isinstance(step, Finish):
            self.finish(row, step, reason, request)
        else:
            self.again(row, step, reason)

    def release(self, row: Row, reason: str) -> None:
        """Take a claim back at no cost to the job."""
        if row.cancelling:
            self.finish(row, Finish(State.CANCELLED, row.tallies, row.reason), reason)
        else:
            self.again(row, Again(row.tallies, reason), reason)

    def finish(self, row: Row, step: Finish, reason: str = "", request: bytes | None = None) -> None:
        """End a job, running or not."""
        txn = self._txn
        code = CODES[step.state]
        if not self.is_silent:
            self._tell_end(row, step)
        self._leave(row)
        if step.tallies != row.tallies:
            tallies = step.tallies
            txn.execute(_SQL["tallies"], (tallies.errors, tallies.crashes, tallies.lost, row.n))
        if row.unique_key is not None:
            txn.execute(_SQL["ununiq"], (row.unique_key, row.id))
        keep_s = row.keep_failed_s if code == FAILED else row.keep_s
        # A workflow is deleted as a whole.
        delete_at = math.inf if row.traits & LABEL else txn.now + keep_s
        self._done.append(
            (
                row.n, code, txn.now, delete_at, row.started_at, row.session, request, row.fence,
                row.attempt, step.reason, reason, step.error or None, step.result or None,
                day_of(delete_at, row.traits),
            )
        )  # fmt: skip
        txn.move(row.queue, row.state_code, code)
        txn.ended.append(row.id)

    def again(self, row: Row, step: Again, reason: str) -> None:
        """Let a running job run another time."""
        txn = self._txn
        self._tell_step(row, step, reason)
        self._leave(row)
        job_class, stream = self._place_of(row, is_alone=step.alone)
        due_at = None if step.delay_s is None else txn.now + step.delay_s
        order = row.rank
        if due_at is not None:
            order = rank(row.priority, due_at, ageing_s=row.ageing_s)
        tallies = step.tallies
        expires_at = None if step.has_started else row.expires_at
        txn.execute(
            _SQL["again"],
            (
                tallies.errors, tallies.crashes, tallies.lost, row.fence, row.attempt, row.started_at,
                job_class, order, due_at, step.reason, expires_at, row.n,
            ),
        )  # fmt: skip
        if step.error:
            txn.execute(_SQL["error"], (row.n, step.error))
        if step.has_started:
            txn.execute(
                _SQL["attempt"],
                (
                    row.n, row.fence, row.attempt, reason, row.started_at, txn.now, row.session,
                    step.error or None,
                ),
            )  # fmt: skip
        if due_at is None:
            self._ready.append((row.queue, stream, job_class, order, row.n))
            stood(txn, (stream,))
            if row.traits & DRAWS:
                self._drawing.append(row.n)
            txn.move(row.queue, RUNNING, READY)
        else:
            txn.execute(_SQL["deferred"], (due_at, row.n))
            txn.move(row.queue, RUNNING, SCHEDULED)
        if expires_at is not None:
            txn.execute(_SQL["expiring"], (expires_at, row.n))
        txn.is_stirred = True

    def _tell_end(self, row: Row, step: Finish) -> None:
        """Count and tell of an end."""
        word = word_of(step, "")
        started_at = row.started_at if row.is_running else None
        run_s = (
            self._txn.record.count(word, row.queue, row.job_class, started_at=started_at) if word else None
        )
        cause = self._cause_of_end(row) if step.state is State.CANCELLED else ""
        watched = bool(row.traits & WATCHED)
        tell_of(
            self._txn,
            row,
            kind_of_end(step.state, run_s=run_s, watched=watched, cause=cause),
            step.reason,
            run_s,
        )

    def _cause_of_end(self, row: Row) -> str:
        """Return the job because of which one was cancelled, "" for none."""
        if row.n in self.causes:
            return self.causes[row.n]
        found = self._txn.row(_GRAPH["cause"], {"n": row.n}) if row.traits & NODE else None
        return (found[0] or "") if found else ""

    def _tell_step(self, row: Row, step: Again, reason: str) -> None:
        """Count and tell of an attempt after which the job goes on."""
        word = word_of(step, reason)
        if word is not None:
            run_s = self._txn.record.count(word, row.queue, row.job_class, started_at=row.started_at)
            tell_of(self._txn, row, kind_of_step(step, reason), step.reason, run_s)

    def _place_of(self, row: Row, *, is_alone: bool) -> tuple[int, int]:
        """Return the class and stream in which a job stands from now on."""
        txn, job_class = self._txn, row.job_class
        if is_alone:
            task, _ = txn.class_of(job_class)
            job_class = txn.names.class_id(task, Kind.ISOLATED)
        shuns = self.shuns.get(row.n, "")
        if shuns or (row.stream and is_alone):
            return job_class, stand(txn, row.n, job_class=job_class, shuns=shuns)
        return job_class, row.stream

    def _leave(self, row: Row) -> None:
        """Remove a job from where it stands."""
        txn = self._txn
        if row.is_running:
            self._unrun.append(row.n)
            outcome = self.outcomes.get(row.n)
            if row.run_traits & HOLDS or (isinstance(outcome, Deferred) and outcome.slows):
                self._holding.append(row.n)
            return
        if row.waits:
            self._unwait.append(row.n)
        if row.due_at is not None:
            txn.execute(_SQL["undeferred"], (row.due_at, row.n))
        elif not row.waits:
            place = (row.queue, row.stream, row.job_class, row.rank, row.n)
            txn.execute(_SQL["unready"], place)
            stood(txn, (row.stream,))
        if row.expires_at is not None:
            txn.execute(_SQL["unexpiring"], (row.expires_at, row.n))

    def note_ends(self) -> None:
        """Note what gives something back so far: in which order outcomes are heeded matters."""
        if self._holding:
            gates_of(self._txn).note_ends(self._holding, self.outcomes)
            self._holding = []

    def write(self) -> None:
        """Write what was gathered; the ready rows of jobs that run again among it."""
        txn = self._txn
        self.note_ends()
        if self._unrun:
            txn.execute(_SQL["unrun"], {"ns": self._unrun})
        if self._unwait:
            txn.execute(_GRAPH["stop_waiting"], {"ns": self._unwait})
        txn.many(_SQL["done"], self._done)
        txn.many(_SQL["ready"], self._ready)
        self._unrun, self._unwait, self._done, self._ready = [], [], [], []
        drawing, self._drawing = self._drawing, []
        stood(txn, draw(txn, drawing))
