"""Carries out what became of jobs: `Finish` ends one, `Again` has it run another time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from cicely.core.job import Kind, Tallies, rank
from cicely.core.outcome import Again, Finish
from cicely.core.rollup import Word
from cicely.core.states import State
from cicely.engines.sqlite.gates import Hold, gates_of
from cicely.engines.sqlite.statements import statements
from cicely.engines.sqlite.telling import ended, went_on
from cicely.engines.sqlite.transaction import (
    CHILDREN,
    CODES,
    FAILED,
    READY,
    RUNNING,
    SCHEDULED,
    SUCCEEDED,
    WAITING,
    WORKFLOW,
    Transaction,
    Values,
    numbers,
    state_of,
)

_SQL: Final = statements("settle")
_ENQUEUE: Final = statements("enqueue")
_GRAPH: Final = statements("graph")

#: From so many rows on, one statement over all of them is cheaper than one per row.
_ALIKE: Final = 3


class Row(msgspec.Struct, gc=False):
    """A job with what decides its next move, in the order of the statement `rows`.

    `fence`, `attempt_then` and `started_at` are of the current or last claim.
    """

    n: int
    id: str
    job_class: int
    queue: int
    lane: str
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
    cancelling: int
    reason: str
    end: int | None
    flags: int
    waits: int
    event: str | None
    flow: bytes | None
    shuns: str | None
    stream: int | None
    charged: float | None
    cause: str | None

    @property
    def tallies(self) -> Tallies:
        """How its earlier attempts ended."""
        return Tallies(self.errors, self.crashes, self.lost)

    @property
    def is_gated(self) -> bool:
        """Whether more than its queue holds it back."""
        return bool(self.lane) or self.flow is not None or self.shuns is not None

    @property
    def hold(self) -> Hold:
        """What its claim took."""
        return Hold(self.n, self.queue, self.lane, self.flow, self.charged or 0.0, self.started_at or 0.0)

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
    """Return the jobs with these numbers, oldest first."""
    wanted = numbers(ns)
    return [Row(*values) for values in txn.execute(_SQL["rows"], (wanted,))] if wanted else []


def held_by(txn: Transaction, session: int) -> list[Row]:
    """Return the jobs that a session holds."""
    return rows_of(txn, (row[0] for row in txn.rows(_SQL["held_by"], (session,))))


class Endings:
    """Moves of one call, written together by `write` so that each statement runs over all of them."""

    def __init__(self, txn: Transaction) -> None:
        self._txn = txn
        self._unrun: list[int] = []
        #: Numbers of jobs by what their rows have in common: one statement writes all that are alike.
        self._done: dict[Values, list[int]] = {}
        self._succeeded: dict[Values, list[int]] = {}
        self._sweepable: dict[float, list[int]] = {}
        self._ready: list[Values] = []
        self._gated: list[int] = []
        #: Jobs that ended and that others come after: `cascade.conclude` goes on from there.
        self.parents: list[int] = []

    def succeed(self, n: int, job_id: str, alike: Values) -> None:
        """End the plain case: a running job without a unique key that succeeded.

        `alike` is what it has in common with others: class, queue, what of its claim goes to `done`
        (claimed_at, session, request, fence, attempt), how long it is kept (None: by its workflow), result.
        """
        ns = self._succeeded.get(alike)
        if ns is None:
            self._succeeded[alike] = [n]
        else:
            ns.append(n)
        self._txn.ended.append(job_id)

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
        self._note_end(row, step)
        self._leave(row)
        if step.tallies != row.tallies:
            tallies = step.tallies
            txn.execute(_SQL["tallies"], (row.n, tallies.errors, tallies.crashes, tallies.lost))
        if row.unique_key is not None:
            txn.execute(_SQL["ununiq"], (row.unique_key, row.n))
        done = (
            code, txn.now, row.started_at, row.session, request, row.fence, row.attempt, step.reason,
            reason, step.error or None, step.result or None,
        )  # fmt: skip
        self._done.setdefault(done, []).append(row.n)
        if not row.flags & WORKFLOW:
            keep_s = row.keep_failed_s if code == FAILED else row.keep_s
            self._sweepable.setdefault(keep_s, []).append(row.n)
        txn.move(row.queue, row.state_code, code)
        txn.ended.append(row.id)
        if row.flags & CHILDREN:
            self.parents.append(row.n)

    def _note_end(self, row: Row, step: Finish) -> None:
        ended(self._txn, row, step)

    def again(self, row: Row, step: Again, reason: str) -> None:
        """Let a running job run another time."""
        txn = self._txn
        went_on(txn, row, step, reason)
        self._leave(row)
        job_class = row.job_class
        if step.alone:
            task, _ = txn.names.class_of(job_class)
            job_class = txn.names.class_id(task, Kind.ISOLATED)
        due_at = None if step.delay_s is None else txn.now + step.delay_s
        order = row.rank
        if due_at is not None:
            order = rank(row.priority, due_at, ageing_s=row.ageing_s)
        tallies = step.tallies
        expires_at = None if step.has_started else row.expires_at
        txn.execute(
            _SQL["again"],
            (
                row.n, tallies.errors, tallies.crashes, tallies.lost, row.fence, row.attempt,
                row.started_at, job_class, order, due_at, step.reason, expires_at,
            ),
        )  # fmt: skip
        self._keep_attempt(row, step, reason)
        if due_at is not None:
            txn.execute(_ENQUEUE["deferred"], (due_at, row.n))
        elif row.is_gated:
            self._gated.append(row.n)
        else:
            self._ready.append((row.queue, job_class, order, row.n))
        txn.move(row.queue, RUNNING, READY if due_at is None else SCHEDULED)
        if expires_at is not None:
            txn.execute(_ENQUEUE["expiring"], (expires_at, row.n))
        txn.freshen()

    def _keep_attempt(self, row: Row, step: Again, reason: str) -> None:
        txn = self._txn
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

    def _leave(self, row: Row) -> None:
        """Remove a job from where it stands."""
        txn = self._txn
        if row.is_running:
            self._unrun.append(row.n)
            if row.charged is not None:
                gates_of(txn).give_back(row.hold, {}, unused=False)
                row.charged = None
            return
        if row.waits:
            txn.execute(_GRAPH["stop_waiting"], (numbers((row.n,)),))
            if row.event is not None:
                txn.execute(_GRAPH["clear_event"], (row.n,))
        if row.due_at is not None:
            txn.execute(_SQL["undeferred"], (row.due_at, row.n))
        elif not row.waits:
            self._leave_place(row)
        if row.expires_at is not None:
            txn.execute(_SQL["unexpiring"], (row.expires_at, row.n))

    def _leave_place(self, row: Row) -> None:
        if row.is_gated:
            gates_of(self._txn).streams.leave([(row.stream, row.rank, row.n)])
        else:
            self._txn.execute(_SQL["unready"], (row.queue, row.job_class, row.rank, row.n))

    def write(self) -> None:
        """Write what was gathered; the ready rows of jobs that run again among it."""
        txn = self._txn
        if self._succeeded:
            self._gather_successes()
        if self._unrun:
            txn.execute(_SQL["unrun"], (numbers(self._unrun),))
        single: list[Values] = []
        for rest, ns in self._done.items():
            if len(ns) < _ALIKE:
                single += [(n, *rest) for n in ns]
            else:
                txn.execute(_SQL["done_alike"], (numbers(ns), *rest))
        txn.many(_SQL["done"], single)
        for keep_s, ns in self._sweepable.items():
            txn.execute(_SQL["sweepable"], (numbers(ns), txn.now + keep_s))
        txn.many(_ENQUEUE["ready"], self._ready)
        if self._gated:
            gates_of(txn).streams.make_ready(self._gated)

    def _gather_successes(self) -> None:
        """Put jobs that succeeded to the others, and count them."""
        txn = self._txn
        ran: dict[tuple[int, int, float], int] = {}
        for (job_class, queue, claimed_at, *claim, keep_s, result), ns in self._succeeded.items():
            done = (SUCCEEDED, txn.now, claimed_at, *claim, "", "succeeded", None, result)
            self._done.setdefault(done, []).extend(ns)
            self._unrun += ns
            if keep_s is not None:
                self._sweepable.setdefault(keep_s, []).extend(ns)
            kind = (job_class, queue, claimed_at)
            ran[kind] = ran.get(kind, 0) + len(ns)
        for (job_class, queue, claimed_at), jobs in ran.items():
            txn.record.count_runs(Word.SUCCEEDED, job_class, queue, claimed_at, jobs)
            txn.count(queue, RUNNING, -jobs)
            txn.count(queue, SUCCEEDED, jobs)


class Removals(Endings):
    """Ends of jobs that are deleted at once: nobody is told of them, and they count as nothing."""

    def _note_end(self, row: Row, step: Finish) -> None:
        pass
