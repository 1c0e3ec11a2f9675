"""Durable steps: a job that waits lets go of its slot, and goes on from the top with what it recorded.

`Durable` answers from the journal what was recorded, and unwinds the function with `LetGo` where it
has to wait. Nothing of it is a thread or a lock: the wait is the engine's.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from contextvars import ContextVar
from inspect import iscoroutinefunction
from typing import Any, Protocol

import msgspec

from cicely.core.edge import Edge, ParentEnd
from cicely.core.job import Claim, Enqueued, NewJob
from cicely.core.journal import MAX_STEPS, Asked, Journal, StepKind, returned
from cicely.core.outcome import Await, ErrorRecord, Step, Suspended
from cicely.core.states import State
from cicely.core.values.inputs import Inputs
from cicely.errors import JobCancelled, JobEnded, JobFailed, UsageError
from cicely.worker.inputs import Uncalled, called_value, count_calls, described
from cicely.workflow.dynamic import Called

Enqueue = Callable[[Sequence[NewJob], Sequence[Edge]], Sequence[Enqueued]]


class LetGo(BaseException):
    """Unwinds a job that waits; the attempt ends as suspended. No error: `except Exception` lets it pass."""

    def __init__(self, suspended: Suspended) -> None:
        super().__init__(suspended.reason)
        self.suspended = suspended

    def outcome(self, token: bytes) -> Suspended:
        """Return how the attempt of this claim ended."""
        return msgspec.structs.replace(self.suspended, token=token)


class Values(Protocol):
    """How what is remembered becomes bytes and back."""

    def pack(self, job_id: str, value: object, *, where: str) -> bytes:
        """Encode `value`. Raises NotStorable."""

    def unpack(self, job_id: str, data: bytes) -> Any:
        """Decode what `pack` made. Raises Malformed."""

    def parents(self, job_id: str, after: int, limit: int) -> list[ParentEnd]:
        """Return how the jobs before one stand, in order, without the first `after`."""


class Additions(Protocol):
    """Writes the jobs that a running one asks for."""

    def names(self, canvas: Any) -> str:
        """Return the tasks of a canvas in a few words, the same for the same code."""

    def called(self, canvas: Any, *, calls: int) -> Called:
        """Write a canvas; nothing of it begins. `calls` jobs were called before."""

    def added(self, canvas: Any, *, number: int) -> Any:
        """Add a canvas to the job's group and return its handle; `number` counts the job's additions."""


class App(Protocol):
    """What an attempt needs to know of the user's app."""

    def additions(self, claim: Claim, values: Any, enqueue: Enqueue) -> Additions:
        """Return what writes the jobs that a running one asks for."""

    def is_canvas(self, value: object) -> bool:
        """Return whether a value is a signature, chain, group or chord."""


class Memory(Protocol):
    """The way from a running attempt to what the engine remembers of its job."""

    def enqueue(self, jobs: Sequence[NewJob], edges: Sequence[Edge]) -> Sequence[Enqueued]:
        """As `engines.contract.Engine.enqueue`."""

    def steps(self) -> list[Step]:
        """Return all that was recorded so far, oldest first."""

    def record(self, step: Step) -> None:
        """Record a step durably. Raises Cancelled when the claim no longer holds."""


_running: ContextVar[str] = ContextVar("cicely_step", default="")


class Durable:
    """The durable steps of one attempt."""

    def __init__(self, claim: Claim, memory: Memory, values: Values, app: App) -> None:
        self._claim = claim
        self._memory = memory
        self._values = values
        self._app = app
        self._opened: Journal | None = None
        #: What the function was unwound with, should its own code have caught that.
        self.let_go: LetGo | None = None

    @property
    def journal(self) -> Journal:
        """The job's journal, read when it is first asked for."""
        if self._opened is None:
            steps = self._memory.steps() if self._claim.steps else []
            self._opened = Journal(self._claim.job_id, steps)
        return self._opened

    @property
    def key(self) -> str:
        """The key of the step that runs here: the same in every attempt, for use outside."""
        return f"{self._claim.job_id}:{_running.get()}" if _running.get() else ""

    # --- steps --------------------------------------------------------------------------------
    def step(self, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Return what `function` returned when it was recorded; call and record it where it was not."""
        asked = self.ask(StepKind.STEP, name)
        if iscoroutinefunction(function):
            return self._later(asked, function(*args, **kwargs) if asked.note is None else None)
        if asked.note is not None:
            return self._values.unpack(self._claim.job_id, asked.note.value)
        running = _running.set(asked.key)
        try:
            value = function(*args, **kwargs)
        finally:
            _running.reset(running)
        self._memory.record(self._noted(asked, value))
        return value

    async def _later(self, asked: Asked, call: Coroutine[Any, Any, Any] | None) -> Any:
        import asyncio

        if asked.note is not None or call is None:
            return self._values.unpack(self._claim.job_id, asked.note.value if asked.note else b"")
        running = _running.set(asked.key)
        try:
            value = await call
        finally:
            _running.reset(running)
        noted = self._noted(asked, value)
        await asyncio.to_thread(self._memory.record, noted)
        return value

    def _noted(self, asked: Asked, value: object) -> Step:
        where = f"step {asked.key!r} of {self._claim.task}"
        return asked.noted(self._values.pack(self._claim.job_id, value, where=where))

    # --- waits --------------------------------------------------------------------------------
    def sleep(self, seconds: float) -> None:
        """Return once `seconds` have passed since this was first asked for."""
        asked = self.ask(StepKind.SLEEP, "")
        if asked.note is None:
            self.suspend(
                Suspended(b"", (asked.noted(),), delay_s=seconds, reason=f"sleeps for {seconds:g} s")
            )

    def wait_for(self, name: str, *, key: str, timeout_s: float | None) -> Any:
        """Return the value of the event; raise TimeoutError where it did not come in time."""
        key = key or self._claim.job_id
        asked = self.ask(StepKind.WAIT, name, detail=key)
        value = self.journal.event(asked)
        if value is None:
            self.suspend(
                Suspended(
                    b"",
                    () if asked.note else (asked.noted(),),
                    delay_s=timeout_s,
                    event=Await(name, key, asked.event_key),
                    reason=f"waits for the event {name!r} of {key}",
                )
            )
        if not value:
            raise TimeoutError(f"the event {name!r} of {key} did not come within {timeout_s or 0:g} s")
        return self._values.unpack(key, value)

    # --- other jobs ---------------------------------------------------------------------------
    def call(self, canvas: Any) -> Any:
        """Return the value of a workflow, once it has ended; write and begin it where that was not done."""
        names = self._additions.names(canvas)
        asked = self.ask(StepKind.CALL, names)
        if asked.note is None:
            called = self._called(canvas)
            self._suspend_for(called, asked.noted(called.inputs.packed()), f"waits for {names}")
        try:
            return self._value_of(asked.note.value if asked.note else b"")
        except Uncalled as uncalled:
            raise _error_of(uncalled) from None

    def add(self, canvas: Any) -> Any:
        """Add a canvas to the job's group; the same addition is the same jobs in every attempt."""
        asked = self.ask(StepKind.ADD, self._additions.names(canvas))
        return self._additions.added(canvas, number=asked.ordinal)

    def go_on_as(self, canvas: Any) -> None:
        """Unwind where the function returned a workflow: the job goes on as that."""
        called = self._called(canvas)
        reason = f"goes on as {self._additions.names(canvas)}"
        self._suspend_for(called, returned(called.inputs.packed()), reason)

    @property
    def has_returned(self) -> bool:
        """Whether an earlier attempt returned a workflow, so that the function does not run again."""
        return bool(self._claim.steps) and self.journal.returned is not None

    def result(self) -> Any:
        """Return the value of the workflow that the job went on as. Raises Uncalled."""
        return self._value_of(self.journal.returned or b"")

    def _value_of(self, inputs: bytes) -> Any:
        return called_value(Inputs.unpacked(inputs), self._claim, self._values)

    @property
    def _additions(self) -> Additions:
        return self._app.additions(self._claim, self._values, self._memory.enqueue)

    def _called(self, canvas: Any) -> Called:
        return self._additions.called(canvas, calls=count_calls(self._claim, self._values))

    def _suspend_for(self, called: Called, step: Step, reason: str) -> None:
        self.suspend(Suspended(b"", (step,), edges=called.edges, publishes=called.workflow, reason=reason))

    # --- what others build on -----------------------------------------------------------------
    def ask(self, kind: StepKind, name: str, *, detail: str = "") -> Asked:
        """Return the next step, with its note where it was recorded."""
        if _running.get():
            raise UsageError(f"{kind} {name!r} within the step {_running.get()!r}: steps do not nest")
        asked = self.journal.ask(kind, name, detail=detail)
        if asked.ordinal >= MAX_STEPS:
            raise UsageError(
                f"job {self._claim.job_id} asks for more than {MAX_STEPS:,} steps, each of which every "
                "attempt reads again; let it call other jobs that have steps of their own"
            )
        return asked

    def suspend(self, suspended: Suspended) -> None:
        """Unwind the function: it goes on from the top when the wait is over."""
        self.let_go = LetGo(suspended)
        raise self.let_go


def _error_of(uncalled: Uncalled) -> JobEnded:
    """Return what a call raises whose job did not succeed."""
    end = uncalled.end
    if end.state is State.CANCELLED and not end.error:
        return JobCancelled(str(uncalled))
    error = ErrorRecord.decoded(end.error) if end.error else ErrorRecord("", described(end))
    return JobFailed(
        end.cause or end.id, type_name=error.type_name, message=error.message, traceback=error.traceback
    )
