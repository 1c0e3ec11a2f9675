"""What a running job may ask and say: `cicely.current()` gives its Context."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Coroutine, Mapping, MutableMapping, Sequence
from contextvars import ContextVar
from threading import Lock
from types import MappingProxyType
from typing import Any, Final, ParamSpec, Protocol, TypeVar, overload

import msgspec

from cicely.core.edge import Edge
from cicely.core.flow import Use
from cicely.core.job import Claim, Enqueued, NewJob
from cicely.core.needs import costs_of
from cicely.core.outcome import Step
from cicely.core.text import storable
from cicely.core.units import Duration, duration_s
from cicely.engines.contract import Grant
from cicely.errors import UsageError
from cicely.worker.durable import App, Durable, LetGo, Values
from cicely.worker.reserving import Reserving

P = ParamSpec("P")
R = TypeVar("R")

#: Sent to the main thread to raise an exception in the job that runs there.
INTERRUPT: Final = signal.SIGUSR1
_MESSAGE_CHARS: Final = 500

_log = logging.getLogger("cicely.job")
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


class Link(Protocol):
    """The way from a running attempt to whoever keeps what it says."""

    def touch(self) -> None:
        """Note that the attempt is alive (for `stall_timeout`). Costs no I/O."""

    def progress(self, done: float, total: float | None, message: str) -> None:
        """Pass progress on, soon; only the newest is kept."""

    def checkpoint(self, state: object) -> None:
        """Keep `state` for the next attempt; returns when it is durable."""

    def steps(self) -> list[Step]:
        """Return the steps that were recorded so far, oldest first."""

    def record(self, step: Step) -> None:
        """Record a step durably. Raises Cancelled when the claim no longer holds."""

    def enqueue(self, jobs: Sequence[NewJob], edges: Sequence[Edge]) -> Sequence[Enqueued]:
        """Enqueue what the job adds."""

    def acquire(self, request: bytes, uses: Sequence[Use]) -> Grant:
        """Take some of limits. Raises Cancelled when the claim no longer holds."""

    def release(self, request: bytes, spent: Mapping[str, float]) -> None:
        """Give back what was acquired."""


class _JobLog(logging.LoggerAdapter[logging.Logger]):
    """Adds the job to each line, beside what the line itself says."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(kwargs.get("extra") or {}), **(self.extra or {})}
        return msg, kwargs


class Context:
    """One running attempt, as its own code sees it.

    `attempt` counts from 1. `fence` grows with every claim of the job: hand it to outside systems
    that must refuse a late writer. `restored` is what the last attempt gave to `checkpoint`, or
    None. `cancelled` turns True when the job was asked to end. `resources` names the units of its
    worker that are its own, as `{"gpu": ["1"]}`; of what is only counted, none. `spent` is what it
    told `spend` so far.
    """

    __slots__ = (
        "_app",
        "_claim",
        "_durable",
        "_log",
        "_values",
        "cancelled",
        "fields",
        "is_inside",
        "landing",
        "link",
        "reserving",
        "restored",
        "spent",
        "was_cut_short",
    )

    def __init__(
        self,
        claim: Claim,
        link: Link,
        *,
        values: Values,
        app: App,
        restored: object = None,
    ) -> None:
        # Each job has one and most never look at it: what can be made when it is asked for is made then.
        self._claim = claim
        self.link = link
        self._values = values
        self._app = app
        self.restored = restored
        self.spent: Mapping[str, float] = _NOTHING
        #: Values of arguments that stand on each log line.
        self.fields: Mapping[str, object] = _NOTHING
        self.cancelled = False
        #: Whether the job's own code runs: only then may an interrupt land.
        self.is_inside = False
        #: Held by whoever interrupts it from another thread, and where its own code is left.
        self.landing = Lock()
        #: Whether a coroutine was cancelled from outside; the canceller knows why.
        self.was_cut_short = False
        #: What it reserved and released, where it did.
        self.reserving: Reserving | None = None
        self._log: _JobLog | None = None
        self._durable: Durable | None = None

    @property
    def job_id(self) -> str:
        """The job's id."""
        return self._claim.job_id

    @property
    def task(self) -> str:
        """The name of its task."""
        return self._claim.task

    @property
    def queue(self) -> str:
        """The queue that it came from."""
        return self._claim.queue

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1."""
        return self._claim.attempt

    @property
    def fence(self) -> int:
        """A number that grows with every claim of the job."""
        return self._claim.fence

    @property
    def keys(self) -> tuple[str, ...]:
        """Those of the limits that it holds from start to end."""
        return self._claim.keys

    @property
    def resources(self) -> dict[str, list[str]]:
        """The units of its worker that are its own, by resource."""
        return {name: sorted(filter(None, units)) for name, units in self._claim.units.items()}

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger whose lines name the job."""
        if self._log is None:
            self._log = _JobLog(_log, {"job_id": self.job_id, "task": self.task})
        return self._log

    def log_fields(self) -> dict[str, object]:
        """Return what a log line says of this attempt."""
        return {
            "task_id": self.job_id,
            "task": self.task,
            "queue": self.queue,
            "retry_count": self.attempt - 1,
            **self.fields,
        }

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Say how far the job is; shown to people, and counts as a sign of life."""
        self.link.touch()
        self.link.progress(done, total, message)

    def heartbeat(self) -> None:
        """Give a sign of life, for `stall_timeout`."""
        self.link.touch()

    def checkpoint(self, state: object) -> None:
        """Keep `state` for the next attempt, should this one be cut short.

        Returns when the state is durable. Raises NotStorable for a value that cannot be kept.
        """
        self.link.touch()
        self.link.checkpoint(state)

    def spend(self, **amounts: float) -> None:
        """Say what was really used of the limits' cost meters, as in `ctx.spend(tokens=1830)`.

        Amounts add up. When the attempt ends they take the place of the estimate that was reserved. Raises
        ConfigError for what is no amount.
        """
        for meter, amount in costs_of(amounts).items():
            self.spent = {**self.spent, meter: self.spent.get(meter, 0.0) + amount}

    def reserve(self, *resources: str) -> None:
        """Leave what it was given of these resources (none named: of all) to later jobs of its workflow.

        It counts when this attempt succeeds. From then on jobs of the workflow that want these resources run
        on this worker and are given these units, and no other job is, until one of them calls `release` or
        the workflow has ended. A worker that goes away takes its reservations along. Raises UsageError
        outside a workflow, and for a resource that the job was not given.
        """
        self.reserving = self.reserving or Reserving(self._claim)
        self.reserving.reserve(resources)

    def release(self, *resources: str) -> None:
        """End what its workflow has reserved of these resources (none named: of all), on every worker.

        It counts when this attempt ends, however that is, unless it is handed back or its process dies: then
        the next attempt says it again. What is not reserved is passed over.
        """
        self.reserving = self.reserving or Reserving(self._claim)
        self.reserving.release(resources)

    # --- durable steps ------------------------------------------------------------------------
    @property
    def durable(self) -> Durable:
        """Its durable steps; the methods below show them to the job."""
        # Late: most jobs have none, and each job has a context.
        if self._durable is None:
            self._durable = Durable(self._claim, self.link, self._values, self._app)
        return self._durable

    @property
    def let_go(self) -> LetGo | None:
        """What the job was unwound with, should its own code have caught that."""
        return None if self._durable is None else self._durable.let_go

    def is_canvas(self, value: object) -> bool:
        """Return whether a job that returned `value` goes on as a workflow."""
        return value is not None and self._app.is_canvas(value)

    @overload
    def step(
        self, name: str, function: Callable[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, R]: ...
    @overload
    def step(self, name: str, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R: ...
    def step(self, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function once and remember its value for all attempts of this job.

        It runs at least once until its value is recorded: `step_key` is the same each time, for
        systems outside that can refuse a second call. A coroutine function gives something to await.
        What it raises is not recorded. Raises NotStorable for a value that cannot be kept, and
        StepMismatch where an earlier attempt recorded another step in this place.
        """
        self.link.touch()
        return self.durable.step(name, function, *args, **kwargs)

    @property
    def step_key(self) -> str:
        """Within a step: its key, the same in every attempt; "" elsewhere."""
        return self.durable.key

    def sleep(self, duration: Duration) -> None:
        """Let go of the slot, and go on from the top of the function when the time has passed.

        Never awaited, in a coroutine neither. Nothing is held meanwhile, and a restart loses nothing.
        """
        self.durable.sleep(duration_s(duration, name="ctx.sleep"))

    def wait_for(self, event: str, *, timeout: Duration | None = None, key: str = "") -> Any:
        """Let go of the slot until `app.send_event(event, ...)` was called for `key`; return its value.

        `key` is this job's id unless given. An event sent before is kept, and each is taken once.
        Raises TimeoutError where none came within `timeout`. Never awaited.
        """
        timeout_s = None if timeout is None else duration_s(timeout, name="timeout")
        return self.durable.wait_for(event, key=key, timeout_s=timeout_s)

    def call(self, canvas: Any) -> Any:
        """Let go of the slot until a signature, chain, group or chord has ended; return its value.

        It is enqueued once, whatever becomes of this attempt. Raises JobFailed or JobCancelled where it
        did not succeed; `revive` on the job that failed revives this one, too. Never awaited.
        """
        return self.durable.call(canvas)

    def add_to_group(self, canvas: Any) -> Any:
        """Add a signature or chain to the group that this job is a member of, and return its handle.

        What comes after the group waits for it as well. Raises UsageError outside a group.
        """
        return self.durable.add(canvas)


_current: ContextVar[Context | None] = ContextVar("cicely_job", default=None)


def current() -> Context:
    """Return the Context of the job that runs here. Raises UsageError outside a job."""
    context = _current.get()
    if context is None:
        raise UsageError(
            "current(): no job runs here; it is for the code of tasks and what they call, in the thread or "
            "coroutine that the job runs in (contextvars.copy_context() takes it along to another)"
        )
    return context


def context_or_none() -> Context | None:
    """Return the Context of the job that runs here, or None outside a job."""
    return _current.get()


#: `enter(context)` makes it the current one and returns what `leave` wants.
enter = _current.set
leave = _current.reset


def encoded_progress(done: float, total: float | None, message: str) -> bytes:
    """Return the bytes that engines keep for a job's progress: plain numbers, storable text."""
    shown = {
        "done": _plain_number(done),
        "total": None if total is None else _plain_number(total),
        "message": storable(str(message)[:_MESSAGE_CHARS]),
    }
    return msgspec.msgpack.encode(shown)


def _plain_number(number: float) -> float:
    """Return what counts as a number (NumPy's, a Decimal) as one of Python's that can be stored."""
    if isinstance(number, int) and abs(number) < 1 << 63:
        return int(number)
    return float(number)
