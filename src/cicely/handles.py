"""The handle of a job: what `delay` returns and `app.job(id)` finds."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

import msgspec

from cicely.core.codec import convert
from cicely.core.job import AttemptRecord
from cicely.core.job import Job as Record
from cicely.core.outcome import ErrorRecord
from cicely.core.states import State
from cicely.core.text import storable
from cicely.core.units import Duration, duration_s
from cicely.engines.contract import Surroundings
from cicely.errors import JobCancelled, JobEnded, JobExpired, JobFailed, Malformed, ResultGone
from cicely.observe.explain import explain
from cicely.observe.reasons import Explanation
from cicely.upkeep.steering import steer
from cicely.values import ValueGone
from cicely.waiting import await_end, await_end_async, look, refuse_inside_a_job

if TYPE_CHECKING:
    from cicely.connection import Connection

R = TypeVar("R")


class Progress(msgspec.Struct, frozen=True):
    """How far a job is, in its own words."""

    done: float
    total: float | None = None
    message: str = ""


class Earlier(Protocol):
    """What comes before a job in its chain."""

    def handle(self) -> Any:
        """Return its handle."""


def restored_job(app_name: str, job_id: str) -> Job[Any]:
    """Return the handle that was pickled, for the app of that name in this process."""
    from cicely.connection import connection_of

    return Job(connection_of(app_name), job_id)


class Job(Generic[R]):
    """One job, wherever it runs. Every attribute but `id` asks the engine anew."""

    __slots__ = ("_connection", "_earlier", "id")

    def __init__(self, connection: Connection, job_id: str, earlier: Earlier | None = None) -> None:
        self._connection = connection
        self._earlier = earlier
        self.id = job_id

    def __repr__(self) -> str:
        """Name the job."""
        return f"Job({self.id!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as an id; the app of the same name is looked for where it is read."""
        return restored_job, (self._connection.name, self.id)

    @property
    def parent(self) -> Any:
        """The handle of what comes before this one in the chain it was enqueued with, or None.

        That is a GroupJob for the header of a chord. A handle that was found by its id has none.
        """
        return self._earlier.handle() if self._earlier else None

    # --- its value ----------------------------------------------------------------------------
    def get(self, timeout: Duration | None = None, *, allow_blocking: bool = False) -> R:
        """Wait for the job and return its value, converted to the task's annotated return type.

        A value that does not fit the annotation comes as it was stored. Raises JobFailed (its cause
        is the original exception where the task lists the class in `raises=`), JobCancelled,
        JobExpired, ResultGone, TimeoutError (the job goes on), and WouldDeadlock inside a running
        job unless `allow_blocking`.
        """
        if not allow_blocking:
            refuse_inside_a_job(self.id)
        timeout_s = None if timeout is None else duration_s(timeout, name="timeout")
        return self.value_of(await_end(self._connection, self.id, timeout_s=timeout_s))

    async def aget(self, timeout: Duration | None = None, *, allow_blocking: bool = False) -> R:
        """As `get`, for coroutines."""
        import asyncio

        if not allow_blocking:
            refuse_inside_a_job(self.id)
        timeout_s = None if timeout is None else duration_s(timeout, name="timeout")
        record = await await_end_async(self._connection, self.id, timeout_s=timeout_s)
        return await asyncio.to_thread(self.value_of, record)

    @property
    def result(self) -> R | None:
        """The value, or None where the job has not succeeded; never waits and never raises for it."""
        record = look(self._connection, self.id)
        if record.state is not State.SUCCEEDED or record.swept:
            return None
        return self.value_of(record)

    @property
    def error(self) -> JobFailed | None:
        """The error of the last attempt that had one, also while the job goes on; or None."""
        record = look(self._connection, self.id)
        return self._failure(record) if record.error or record.state is State.FAILED else None

    def value_of(self, record: Record) -> R:
        """Return the value of this job, which has ended as `record` says; raises as `get` does."""
        match record.state:
            case State.SUCCEEDED if not record.swept:
                return self._result(record)
            case State.FAILED:
                raise self._failure(record)
            case _:
                raise _end_of(record) from self._cause_of(record)

    def _cause_of(self, record: Record) -> JobFailed | None:
        """Return the failure because of which a job was cancelled, where it was one."""
        if not record.cause:
            return None
        [cause] = self._connection.call(lambda engine: engine.get([record.cause]))
        return self._failure(cause) if cause is not None and cause.state is State.FAILED else None

    def _result(self, record: Record) -> R:
        if not record.result:
            return cast(R, None)
        try:
            value = self._connection.values.unpack(record.id, record.result)
        except ValueGone as gone:
            raise ResultGone(f"job {record.id} ({record.task}) succeeded, and {gone.message}") from None
        except Malformed as malformed:
            raise Malformed(malformed.message, job_id=record.id) from malformed
        task = self._connection.task(record.task)
        if task is None or "return" not in task.hints:
            return cast(R, value)
        try:
            return cast(R, convert(value, task.hints["return"]))
        except TypeError:
            return cast(R, value)

    def _failure(self, record: Record) -> JobFailed:
        if record.swept:
            return JobFailed(record.id, message="its error was swept after its retention")
        error = ErrorRecord.decoded(record.error) if record.error else ErrorRecord("", record.reason)
        failure = JobFailed(
            record.id, type_name=error.type_name, message=error.message, traceback=error.traceback
        )
        failure.__cause__ = self._original(record, error)
        return failure

    def _original(self, record: Record, error: ErrorRecord) -> BaseException | None:
        task = self._connection.task(record.task)
        for raised in task.options.raises if task else ():
            if (raised.__module__, raised.__qualname__) != (error.module, error.type_name):
                continue
            try:
                return raised(_argument_of(raised, error.message))
            except Exception:  # noqa: BLE001  (its constructor wants something else: the text must do)
                return None
        return None

    # --- how it stands ------------------------------------------------------------------------
    @property
    def state(self) -> State:
        """Where the job stands; compares equal to the state's name."""
        return look(self._connection, self.id).state

    @property
    def attempt(self) -> int:
        """The number of the current or last attempt, from 1; 0 before the first."""
        return look(self._connection, self.id).attempt

    @property
    def progress(self) -> Progress | None:
        """What the job last said of its progress, or None."""
        return _progress_of(look(self._connection, self.id))

    def info(self) -> dict[str, Any]:
        """Return all that is known of the job, as JSON can hold it; its arguments as text."""
        record = look(self._connection, self.id)
        info = as_info(record)
        info["arguments"] = self._arguments(record)
        info["attempts"] = [_attempt_info(attempt) for attempt in record.attempts]
        return info

    def _arguments(self, record: Record) -> str | None:
        if record.swept:
            return None
        try:
            body = self._connection.values.unpack(record.id, record.body)
        except Malformed as malformed:
            return f"(unreadable: {malformed.message})"
        return _shown(body) if record.task else _cut(repr(body))

    def explain(self) -> Explanation:
        """Return the one thing that holds the job back now, with its numbers; or that it runs, or ended."""
        around = self._connection.call(lambda engine: engine.surroundings(self.id))
        if around is None:
            # What is left of a swept job has nothing around it.
            around = Surroundings(job=look(self._connection, self.id), now=0.0)
        return explain(around)

    # --- steering -----------------------------------------------------------------------------
    def cancel(self, reason: str = "") -> bool:
        """Cancel the job: at once, or, while it runs, as soon as it has ended itself or was killed.

        False where it had ended already.
        """
        return self._steer("cancel", reason)

    def revive(self) -> bool:
        """Run the job again, with its tallies at nought; False unless it failed, expired or was cancelled.

        Where a job before it, or one that it called or went on as, did not succeed, that one is run
        again, and this follows.
        """
        return self._steer("revive", "")

    def discard(self) -> bool:
        """Delete the job; False unless it had ended."""
        return self._steer("discard", "")

    def _steer(self, move: str, reason: str) -> bool:
        reason = storable(str(reason))
        return bool(self._connection.call(lambda engine: steer(engine, move, [self.id], reason=reason)))


def _end_of(record: Record) -> JobEnded:
    job = f"job {record.id} ({record.task})"
    match record.state:
        case State.CANCELLED:
            return JobCancelled(f"{job} was cancelled: {record.reason or 'no reason given'}")
        case State.EXPIRED:
            return JobExpired(f"{job} did not start before it expired")
        case _:
            return ResultGone(f"{job} succeeded, and its result was swept after its retention")


def as_info(record: Record) -> dict[str, Any]:
    """Return a job's outline, as JSON can hold it."""
    progress = _progress_of(record)
    return {
        "id": record.id,
        "task": record.task,
        "kind": str(record.kind),
        "queue": record.queue,
        "state": str(record.state),
        "cancelling": record.cancelling,
        "reason": record.reason,
        "lane": record.lane,
        "priority": record.priority,
        "tags": list(record.tags),
        "unique": record.unique,
        "attempt": record.attempt,
        "errors": record.tallies.errors,
        "crashes": record.tallies.crashes,
        "lost": record.tallies.lost,
        "fence": record.fence,
        "created_at": record.created_at,
        "due_at": record.due_at,
        "expires_at": record.expires_at,
        "started_at": record.started_at,
        "ended_at": record.ended_at,
        "session": record.session,
        "progress": msgspec.structs.asdict(progress) if progress else None,
        "error": _error_info(record.error),
    }


def _error_info(data: bytes) -> dict[str, Any] | None:
    return msgspec.structs.asdict(ErrorRecord.decoded(data)) if data else None


def _attempt_info(attempt: AttemptRecord) -> dict[str, Any]:
    return msgspec.structs.asdict(attempt) | {"error": _error_info(attempt.error)}


def _argument_of(raised: type[BaseException], message: str) -> object:
    """Return what an exception with this text was made with: a KeyError shows the `repr` of its key."""
    if not issubclass(raised, KeyError):
        return message
    try:
        return ast.literal_eval(message)
    except (ValueError, SyntaxError):
        return message


def _progress_of(record: Record) -> Progress | None:
    if not record.progress:
        return None
    try:
        return msgspec.msgpack.decode(record.progress, type=Progress)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None


def _shown(call: object) -> str:
    match call:
        case [[*args], dict(kwargs)]:
            words = [repr(arg) for arg in args] + [f"{name}={value!r}" for name, value in kwargs.items()]
            return _cut(", ".join(words))
        case _:
            return _cut(repr(call))


def _cut(text: str, limit: int = 2_000) -> str:
    return text if len(text) <= limit else f"{text[:limit]}…"
