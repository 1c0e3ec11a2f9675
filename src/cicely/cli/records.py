"""Jobs, queues and sessions as JSON records and as cells of a table."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec

from cicely.cli.text import span
from cicely.core.job import AttemptRecord, Job
from cicely.core.outcome import ErrorRecord
from cicely.core.states import State
from cicely.errors import CicelyError

if TYPE_CHECKING:
    from cicely.values import Values


class Unreadable(msgspec.Struct, frozen=True):
    """Stands for a stored value that cannot be read here, and says why."""

    reason: str

    def __repr__(self) -> str:
        return f"<cannot be shown: {self.reason}>"


def outline(job: Job) -> dict[str, object]:
    """Return what a list of jobs says of each."""
    record = msgspec.structs.asdict(job)
    for bulky in ("body", "options", "result", "attempts"):
        record.pop(bulky, None)
    record["kind"] = str(job.kind)
    record["state"] = str(job.state)
    record["tallies"] = msgspec.structs.asdict(job.tallies)
    record["progress"] = progress_of(job)
    record["error"] = error_of(job.error)
    return record


def full(job: Job, values: Values) -> dict[str, object]:
    """Return everything about one job, its values decoded."""
    args, kwargs = arguments_of(job, values)
    record = outline(job)
    record["args"] = args
    record["kwargs"] = kwargs
    record["options"] = options_of(job)
    record["result"] = result_of(job, values)
    record["attempts"] = [attempt_record(attempt) for attempt in job.attempts]
    return record


def attempt_record(attempt: AttemptRecord) -> dict[str, object]:
    """Return one ended attempt."""
    return msgspec.structs.asdict(attempt) | {"error": error_of(attempt.error)}


def error_of(data: bytes) -> dict[str, object] | None:
    """Return a stored error; None where there is none."""
    return msgspec.structs.asdict(ErrorRecord.decoded(data)) if data else None


def progress_of(job: Job) -> dict[str, Any] | None:
    """Return what a job last said of its progress; None where it said nothing."""
    if not job.progress:
        return None
    try:
        return msgspec.msgpack.decode(job.progress, type=dict[str, Any])
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None


def options_of(job: Job) -> object:
    """Return the limits that the caller gave the job."""
    if not job.options:
        return {}
    try:
        return msgspec.msgpack.decode(job.options)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        return repr(Unreadable(str(error)))


def arguments_of(job: Job, values: Values) -> tuple[Any, Any]:
    """Return the positional and the named arguments; a message is one positional one."""
    if not job.body:
        return (), {}
    stored = _decoded(job, job.body, values)
    match stored:
        case [list() | tuple() as args, dict() as kwargs]:
            return args, kwargs
        case _:
            return (stored,), {}


def result_of(job: Job, values: Values) -> object:
    """Return the result; None where there is none (yet)."""
    return _decoded(job, job.result, values) if job.result else None


def _decoded(job: Job, data: bytes, values: Values) -> object:
    try:
        return values.unpack(job.id, data)
    except CicelyError as error:
        # str(JobFailed) would repeat the id.
        return Unreadable(getattr(error, "message", "") or str(error))


def state_of(job: Job) -> str:
    """Return the state as people see it."""
    return "cancelling" if job.cancelling and job.state is State.RUNNING else str(job.state)


def age(job: Job) -> str:
    """Return how long ago the job was enqueued."""
    return span(time.time() - job.created_at) if job.created_at else "-"


def took(job: Job) -> str:
    """Return how long the last attempt ran, or has run so far."""
    if job.started_at is None:
        return "-"
    ended_at = job.ended_at if job.ended_at is not None else time.time()
    is_over = job.state is State.RUNNING or job.state.is_final
    return span(ended_at - job.started_at) if is_over else "-"


def remark(job: Job) -> str:
    """Return the one thing worth knowing of a job in its state."""
    if job.state is State.SCHEDULED and job.due_at is not None:
        due = f"due in {span(job.due_at - time.time())}"
        return f"{due}, after: {job.reason}" if job.reason else due
    if job.state is State.RUNNING:
        return _progress_in_words(job)
    if job.error and job.state is State.FAILED:
        error = ErrorRecord.decoded(job.error)
        return f"{error.type_name}: {error.message}" if error.message else error.type_name
    return job.reason


def _progress_in_words(job: Job) -> str:
    progress = progress_of(job) or {}
    done, total, message = (progress.get(name) for name in ("done", "total", "message"))
    parts = []
    if isinstance(done, int | float):
        of_all = f"/{total:g}" if isinstance(total, int | float) else ""
        parts.append(f"{done:g}{of_all}")
    if message:
        parts.append(str(message))
    return " ".join(parts)
