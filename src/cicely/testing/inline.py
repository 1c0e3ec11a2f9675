"""Tests without workers: jobs run in the test's own process, and time passes when the test says so.

::

    with inline(app) as world:
        job = charge.delay(7)
        world.run()
        world.advance(60)          # a retry that waits a minute
        assert job.get() == "paid"

Attempts are run by the code that workers run them by, on the memory engine. Limits (timeouts,
memory) are not enforced, and `isolate=True` runs in the test's process, too.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from itertools import pairwise
from typing import Any, Final

import msgspec

from cicely.app import Cicely
from cicely.core.edge import Edge
from cicely.core.flow import Use
from cicely.core.job import Claim, Enqueued, Kind, NewJob
from cicely.core.journal import MAX_STEPS
from cicely.core.outcome import HandedBack, Outcome, Step, reason_of
from cicely.core.task import Task
from cicely.core.units import Duration, duration_s
from cicely.engines.contract import Ask, Demand, Grant, Save, Session
from cicely.engines.memory import MemoryBell, MemoryEngine
from cicely.errors import Cancelled, SessionClosed, UsageError
from cicely.orders import fresh_id
from cicely.upkeep import settings
from cicely.upkeep.failures import Hooks
from cicely.upkeep.schedules import carry_out, declare
from cicely.values import Values
from cicely.worker.attempt import refused, run_attempt
from cicely.worker.context import Context, encoded_progress

#: A test that runs more attempts than this at one instant has a job that enqueues itself.
MAX_ATTEMPTS: Final = 100_000

_KINDS: Final = (Kind.SYNC, Kind.ASYNC, Kind.ISOLATED)
_SWEEP_BATCH: Final = 1_000


class Ran(msgspec.Struct, frozen=True):
    """One attempt as it was run: `at` is virtual time, `ended` one of the words of `reason_of`."""

    job_id: str
    task: str
    attempt: int
    at: float
    ended: str


class Inline:
    """An app's jobs, in one process and in virtual time. Made by `inline`."""

    def __init__(self, app: Cicely) -> None:
        self.app = app
        self.ran: list[Ran] = []
        self._now = time.time()
        self.engine = _InlineEngine(self)
        self._session_id = ""
        self._worker = fresh_id()
        self._known: frozenset[str] = frozenset()
        self._declared: dict[str, bytes] = {}
        self._hooks = Hooks(self.engine)
        self._heard = ""
        self._keep_schedules()

    @property
    def now(self) -> float:
        """The virtual time, in Unix seconds. It begins at the real time and stands still."""
        return self._now

    def run(self, *, limit: int = MAX_ATTEMPTS) -> int:
        """Run all that is ready, and what that enqueues, until nothing is; return how many attempts.

        Raises UsageError at `limit` attempts: a job enqueues itself for ever.
        """
        self._keep_schedules()
        count = 0
        while (claim := self._claim()) is not None:
            self._run(claim)
            count += 1
            if count == limit:
                raise UsageError(
                    f"{count:,} attempts at one instant, the last of {claim.task}: does it enqueue itself "
                    "without a countdown? Where there are so many, call run(limit=...)"
                )
        return count

    def advance(self, seconds: Duration) -> int:
        """Let time pass, stopping where a job or a schedule is due; return how many attempts ran."""
        until = self._now + duration_s(seconds, name="seconds")
        count = self.run()
        while (due_in_s := self._next_due_in_s()) is not None and self._now + due_in_s <= until:
            self._now += due_in_s
            count += self.run()
        self._now = until
        self.engine.sweep(_SWEEP_BATCH)
        return count + self.run()

    def waits(self, job_id: str) -> list[float]:
        """Return the seconds of virtual time between the attempts of a job."""
        starts = [ran.at for ran in self.ran if ran.job_id == job_id]
        return [round(later - earlier, 6) for earlier, later in pairwise(starts)]

    def _next_due_in_s(self) -> float | None:
        return self.engine.sweep(_SWEEP_BATCH).next_due_in_s

    def _keep_schedules(self) -> None:
        """Do what a worker does at its start, and at each tick."""
        specs = self.app.declared_schedules()
        declare(self.engine, {name: spec for name, spec in specs.items() if self._declared.get(name) != spec})
        self._declared = specs
        self._hooks.serve(self.app.declared_hooks())
        while self.engine.schedules() and (swept := self.engine.sweep(_SWEEP_BATCH)).due:
            for schedule in swept.due:
                carry_out(self.engine, schedule, swept.now)

    def _claim(self) -> Claim | None:
        self._join()
        groups = self.app.registry.queues_by_priority()
        declared = [name for group in groups for name in group]
        demand = Demand(
            request=os.urandom(8),
            queues=(*declared, *(name for name in self.engine.queue_names() if name not in declared)),
            asks=(Ask(kinds=_KINDS, slots=1),),
        )
        claims = self.engine.claim(self._session_id, demand).claims
        if not claims and self._has_hooks_to_run():
            return self._claim()
        # A sweep was made meanwhile, which may have ended the reservations of a workflow.
        claims = claims or self.engine.claim(self._session_id, demand).claims
        return claims[0] if claims else None

    def _has_hooks_to_run(self) -> bool:
        """Have jobs made for what failed, as a worker's sweeps do; False where nothing happened since."""
        swept = self.engine.sweep(_SWEEP_BATCH)
        if swept.newest == self._heard:
            return False
        while self._hooks.look(swept):
            pass
        self._heard = swept.newest
        return True

    def _join(self) -> None:
        known = frozenset(self.app.runnable_tasks())
        if self._session_id and known == self._known:
            return
        # Tasks may be declared as the test goes on, and a session's are fixed when it joins.
        self._known = known
        self._session_id = fresh_id()
        settings.declare(self.engine, self.app.declared_settings())
        self.engine.join(
            Session(id=self._session_id, worker=self._worker, tasks=known, offers=self._offers())
        )

    def _offers(self) -> dict[str, dict[str, float]]:
        """Have of each resource, on a unit "0", what the most demanding task needs."""
        offers: dict[str, dict[str, float]] = {}
        for task in self.app.registry.tasks.values():
            for name, amount in task.options.needs.resources:
                offers[name] = {"0": max(amount, offers.get(name, {}).get("0", 0.0))}
        return offers

    def _run(self, claim: Claim) -> None:
        started_at = self._now
        session_id = self._session_id
        values = self.app.values(self.engine)
        task = self.app.resolve(claim.task)
        if task is None:
            outcome: Outcome = HandedBack(claim.token, f"{claim.task} is not there any more")
        else:
            outcome = self._attempt(claim, task, values)
        self.engine.settle(session_id, [outcome])
        self.ran.append(Ran(claim.job_id, claim.task, claim.attempt, started_at, reason_of(outcome)))

    def _attempt(self, claim: Claim, task: Task, values: Values) -> Outcome:
        restored = None
        try:
            if claim.checkpoint is not None:
                restored = values.unpack(claim.job_id, claim.checkpoint)
        except Exception as error:  # noqa: BLE001  (as a worker: what cannot be read ends the job)
            return refused(claim, error)
        link = _InlineLink(self.engine, self._session_id, claim=claim, values=values)
        context = Context(claim, link, values=values, app=self.app, restored=restored)
        if task.is_async and _is_loop_running():
            return _in_a_thread(lambda: run_attempt(claim, task, values, context))
        return run_attempt(claim, task, values, context)


class _InlineEngine(MemoryEngine):
    """A memory engine in which whoever waits for a job runs it."""

    def __init__(self, world: Inline) -> None:
        super().__init__(now=lambda: world.now)
        self._world = world

    def result_bell(self, job_ids: Collection[str]) -> MemoryBell:
        self._world.run()
        for job in self.get(list(job_ids)):
            if job is not None and not job.state.is_final:
                due = f", due in {job.due_at - self._world.now:g} s" if job.due_at else ""
                raise UsageError(
                    f"job {job.id} ({job.task}) is {job.state}{due}, and nothing will move it while "
                    "this test waits; call advance(seconds) first"
                )
        return super().result_bell(job_ids)


class _InlineLink:
    """Saves at once what a running job says."""

    def __init__(self, engine: MemoryEngine, session_id: str, *, claim: Claim, values: Values) -> None:
        self._engine = engine
        self._session_id = session_id
        self._claim = claim
        self._values = values

    def touch(self) -> None:
        """Nothing watches for signs of life."""

    def progress(self, done: float, total: float | None, message: str) -> None:
        """Save progress."""
        self._save(Save(self._claim.token, progress=encoded_progress(done, total, message)))

    def checkpoint(self, state: object) -> None:
        """Save a checkpoint. Raises Cancelled when the claim no longer holds."""
        where = f"the checkpoint of {self._claim.task}"
        data = self._values.pack(self._claim.job_id, state, where=where)
        self._keep(Save(self._claim.token, checkpoint=data))

    def steps(self) -> list[Step]:
        """Return the recorded steps."""
        return self._engine.steps(self._claim.job_id, limit=MAX_STEPS)

    def record(self, step: Step) -> None:
        """Record a step. Raises Cancelled when the claim no longer holds."""
        self._keep(Save(self._claim.token, steps=(step,)))

    def enqueue(self, jobs: Sequence[NewJob], edges: Sequence[Edge]) -> Sequence[Enqueued]:
        """Enqueue what the job adds."""
        return self._engine.enqueue(jobs, edges)

    def acquire(self, request: bytes, uses: Sequence[Use]) -> Grant:
        """Take some of limits. Raises Cancelled when the claim no longer holds."""
        try:
            return self._engine.acquire(self._session_id, self._claim.token, request, uses)
        except SessionClosed:
            raise Cancelled("this attempt's claim was lost") from None

    def release(self, request: bytes, spent: Mapping[str, float]) -> None:
        """Give back what was acquired."""
        self._engine.release(self._session_id, self._claim.token, request, spent)

    def _keep(self, save: Save) -> None:
        if not self._save(save):
            raise Cancelled("this attempt's claim was lost")

    def _save(self, save: Save) -> bool:
        return self._engine.save(self._session_id, [save])[0]


def _is_loop_running() -> bool:
    asyncio: Any = sys.modules.get("asyncio")
    if asyncio is None:
        return False
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _in_a_thread(run: Callable[[], Outcome]) -> Outcome:
    outcomes: list[Outcome] = []
    context = copy_context()
    thread = threading.Thread(target=lambda: outcomes.append(context.run(run)))
    thread.start()
    thread.join()
    return outcomes[0]


@contextmanager
def inline(app: Cicely) -> Iterator[Inline]:
    """Run the app's jobs in this process and in virtual time while the block lasts."""
    world = Inline(app)
    before = app.use(world.engine)
    try:
        yield world
    finally:
        app.use(before)
