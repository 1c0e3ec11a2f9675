"""The two sides of a migration: what takes jobs and says how they stand, of Cicely's or of anybody's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from cicely.app import Cicely
from cicely.connection import Connection
from cicely.core.job import Job as Record
from cicely.core.job import Kind
from cicely.core.states import State
from cicely.engines.contract import Engine
from cicely.errors import ConfigError, JobEnded
from cicely.handles import Job
from cicely.messages import Queue
from cicely.tasks import Requests

_PAGE: Final = 500

UNKNOWN: Final = "unknown"
LIVE: Final = "live"
SUCCEEDED: Final = "succeeded"
FAILED: Final = "failed"


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How a side says that a job stands: `state` is unknown, live, succeeded or failed.

    `output`, `duration_s` and `memory_bytes` are what is compared; None is not.
    """

    state: str = UNKNOWN
    output: Any = None
    duration_s: float | None = None
    memory_bytes: int | None = None

    @property
    def is_known(self) -> bool:
        """Whether the side has, or had, the job."""
        return self.state != UNKNOWN

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will happen to it there."""
        return self.state in (SUCCEEDED, FAILED)


Submit = Callable[[str, Any], object]
Status = Callable[[str], Standing | None]
Reading = Callable[[Any], Standing]


class Side(Protocol):
    """What takes jobs by id, each once however often it is submitted, and says how they stand."""

    def submit(self, job_id: str, payload: Any) -> None:
        """Accept a job. Raises whatever it likes where it does not."""

    def standings(self, job_ids: Sequence[str]) -> Mapping[str, Standing]:
        """Return how each of the jobs stands."""

    @property
    def engine(self) -> Callable[[], Engine] | None:
        """Return how to reach the engine that keeps its jobs; None where that is none of Cicely's."""


def side_of(given: object, reading: Reading | None) -> Side:
    """Return the side that a user named. Raises ConfigError for what is none."""
    match given:
        case Requests():
            return TaskSide(given, reading)
        case Cicely():
            return TaskSide(_only_task(given), reading)
        case Queue():
            return QueueSide(given)
        case (submit, status) if callable(submit) and callable(status):
            return Calls(submit, status)
        case _:
            raise ConfigError(
                f"{given!r} is no side of a migration: name a task, an app with one task, a queue, "
                "or two functions (submit(job_id, payload), status(job_id))"
            )


def _only_task(app: Cicely) -> Requests[..., Any]:
    tasks = app.registry.tasks
    if len(tasks) != 1:
        raise ConfigError(
            f"the app {app.name} has {len(tasks)} tasks: name the one that runs the jobs, as in new=evaluate"
        )
    return Requests(_connection_of(app), next(iter(tasks.values())), {})


def _connection_of(what: Any) -> Connection:
    connection = what._connection  # noqa: SLF001  (apps, tasks and queues have one; it is no user's business)
    assert isinstance(connection, Connection)
    return connection


class Calls:
    """A side of anybody's: two functions. `status` answers None for a job that it does not know."""

    engine = None

    def __init__(self, submit: Submit, status: Status) -> None:
        self._submit = submit
        self._status = status

    def submit(self, job_id: str, payload: Any) -> None:
        """Accept a job."""
        self._submit(job_id, payload)

    def standings(self, job_ids: Sequence[str]) -> Mapping[str, Standing]:
        """Return how each of the jobs stands."""
        return {job_id: self._status(job_id) or Standing() for job_id in job_ids}


class TaskSide:
    """A task of Cicely's: a payload that is a dict holds its arguments by name, any other is its argument.

    `reading` says what of its result is compared; without it, all of it and the time that it ran.
    """

    def __init__(self, task: Requests[..., Any], reading: Reading | None) -> None:
        self._task = task
        self._name = task._task.name  # noqa: SLF001  (as above)
        self._connection = _connection_of(task)
        self._reading = reading

    @property
    def engine(self) -> Callable[[], Engine]:
        """Return how to reach its engine."""
        return lambda: self._connection.engine

    def submit(self, job_id: str, payload: Any) -> None:
        """Enqueue the job."""
        asked = self._task.options(id=job_id)
        if isinstance(payload, Mapping):
            asked.delay(**payload)
        else:
            asked.delay(payload)

    def standings(self, job_ids: Sequence[str]) -> Mapping[str, Standing]:
        """Return how each of the jobs stands."""
        records = _records(self._connection, job_ids, self._is_mine)
        return {job_id: self._standing(record) for job_id, record in records.items()}

    def _is_mine(self, record: Record) -> bool:
        return record.task == self._name

    def _standing(self, record: Record | None) -> Standing:
        standing = _outline(record)
        if record is None or standing.state != SUCCEEDED:
            return standing
        job: Job[Any] = Job(self._connection, record.id)
        try:
            value = job.value_of(record)
        except JobEnded:  # it succeeded, and what it returned was swept
            return standing
        if self._reading is None:
            return msgspec.structs.replace(standing, output=value)
        said = self._reading(value)
        ran_s = standing.duration_s if said.duration_s is None else said.duration_s
        return msgspec.structs.replace(said, state=SUCCEEDED, duration_s=ran_s)


class QueueSide:
    """A plain queue of Cicely's: payloads are messages, and one that was acknowledged has succeeded."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._connection = _connection_of(queue)

    @property
    def engine(self) -> Callable[[], Engine]:
        """Return how to reach its engine."""
        return lambda: self._connection.engine

    def submit(self, job_id: str, payload: Any) -> None:
        """Send the message."""
        self._queue.send(payload, id=job_id)

    def standings(self, job_ids: Sequence[str]) -> Mapping[str, Standing]:
        """Return how each of the messages stands."""
        records = _records(self._connection, job_ids, self._is_mine)
        # How long a message was held says nothing of how long its receiver worked.
        return {job_id: Standing(state=_outline(record).state) for job_id, record in records.items()}

    def _is_mine(self, record: Record) -> bool:
        return record.kind is Kind.MESSAGE and record.queue == self._queue.name


def _records(
    connection: Connection, job_ids: Sequence[str], is_mine: Callable[[Record], bool]
) -> dict[str, Record | None]:
    """Return the jobs of a side; both sides may be in one engine."""
    records: dict[str, Record | None] = {}
    for start in range(0, len(job_ids), _PAGE):
        page = job_ids[start : start + _PAGE]
        found = connection.call(lambda engine, page=page: engine.get(page))  # type: ignore[misc]
        mine = [record if record is not None and is_mine(record) else None for record in found]
        records.update(zip(page, mine, strict=True))
    return records


def _outline(record: Record | None) -> Standing:
    if record is None:
        return Standing()
    if not record.state.is_final:
        return Standing(state=LIVE)
    ran_s = None
    if record.started_at is not None and record.ended_at is not None:
        ran_s = record.ended_at - record.started_at
    return Standing(state=SUCCEEDED if record.state is State.SUCCEEDED else FAILED, duration_s=ran_s)
