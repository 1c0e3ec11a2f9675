"""Tasks as a user holds them: functions that can also be enqueued."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence, Sized
from functools import update_wrapper
from itertools import islice
from typing import (
    Any,
    Concatenate,
    Final,
    Generic,
    NoReturn,
    ParamSpec,
    Protocol,
    TypeVar,
    Unpack,
    cast,
    overload,
)

from cicely.canvas import Signature, group
from cicely.composing import Composed
from cicely.connection import Connection, Way
from cicely.core import task as core
from cicely.core.identity import Stable
from cicely.core.job import NewJob
from cicely.core.retry import RetryLater
from cicely.core.units import Duration, duration_s
from cicely.dispatch import OnProgress
from cicely.errors import NotStorable, UsageError
from cicely.handles import Job
from cicely.iteration import MAP, STARMAP, name_for, settings_for
from cicely.orders import Order
from cicely.settings import JobSettings, id_of, job_options
from cicely.signatures import signature_of
from cicely.values import Values

P = ParamSpec("P")
R = TypeVar("R")

PAGE: Final = 500

#: Options that make one call a workflow.
_COMPOSED: Final = frozenset({"link", "link_error", "after"})

Row = tuple[Any, ...]
Ids = Stable | Callable[[Row], str]


class Requests(Generic[P, R]):
    """Ways to ask for jobs of one task, with the options given so far."""

    def __init__(self, connection: Connection, task: core.Task, given: JobSettings) -> None:
        self._connection = connection
        self._task = task
        self._given = given
        self._parsed: Order | None = None

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Enqueue a job and return its handle.

        Raises TypeError for arguments that do not fit, NotStorable for values that cannot be kept,
        and EngineUnavailable when the engine stays away for 5 s.
        """
        if not _COMPOSED.isdisjoint(self._given):
            return self.s(*args, **kwargs).delay()
        way = self._way
        new = self._order.new_job(args, kwargs, way.values)
        job: Job[R] = Job(self._connection, new.id)
        way.send(new, job)
        return job

    async def adelay(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """As `delay`, without blocking the event loop. Raises UsageError with `connection=`."""
        import asyncio

        if self._given.get("connection") is not None:
            raise UsageError(
                "adelay() runs in another thread, where the connection of connection= may not be used: "
                "call delay() where its transaction is open"
            )
        return await asyncio.to_thread(self.delay, *args, **kwargs)

    def delay_many(
        self, rows: Iterable[Row], *, ids: Ids | None = None, on_progress: OnProgress | None = None
    ) -> list[Job[R]]:
        """Enqueue a job per row, a tuple of arguments, in pages; return the handles in order.

        Each page is enqueued whole or not at all. With `ids`, `stable("v1")` or a function of the
        row, the call can be repeated after any failure: it adds what is missing. `on_progress` is told
        after each page how many jobs were sent, of how many (None where the rows have no length).
        """
        if not _COMPOSED.isdisjoint(self._given):
            raise UsageError("delay_many takes no link= and no after=: write group(task.s(...) for ...)")
        if isinstance(self._given.get("id"), str):
            raise UsageError(
                "one id= is one job, whatever the row: give delay_many a function of the row, ids="
            )
        if ids is not None and not isinstance(ids, Stable) and not callable(ids):
            raise TypeError(f'ids={ids!r}: a function of the row, or stable("v1")')
        total = len(rows) if isinstance(rows, Sized) else None
        numbered = enumerate(rows)
        jobs: list[Job[R]] = []
        while page := list(islice(numbered, PAGE)):
            way = self._way
            entries = [self._entry(number, row, ids, values=way.values) for number, row in page]
            way.send_all(entries)
            jobs += [job for _, job in entries]
            if on_progress is not None:
                on_progress(len(jobs), total)
        return jobs

    def _entry(self, number: int, row: Row, ids: Ids | None, *, values: Values) -> tuple[NewJob, Job[R]]:
        if not isinstance(row, tuple):
            raise TypeError(
                f"row {number} is {type(row).__name__}, not a tuple of arguments; write (value,) for one"
            )
        try:
            job_id = self._id_of(row, ids) if ids is not None else ""
            new = self._order.new_job(row, {}, values, job_id=job_id)
        except TypeError as error:
            raise TypeError(f"row {number}: {error}") from None
        except NotStorable as error:
            raise NotStorable(f"row {number}: {error}") from error
        return new, Job(self._connection, new.id)

    def _id_of(self, row: Row, ids: Ids) -> str:
        chosen = ids if isinstance(ids, Stable) else id_of(ids(row))
        if not isinstance(chosen, Stable):
            return chosen
        return self._order.stable_id(row, {}, version=chosen.version, values=self._connection.values)

    def options(self, **given: Unpack[JobSettings]) -> Requests[P, R]:
        """Return the same task with options for the jobs asked for through it.

        With `connection=`, a psycopg, SQLAlchemy or Django one, jobs are stored in the transaction
        that is open there, and start after its commit. Only PostgreSQL can.
        """
        requests: Requests[P, R] = Requests(self._connection, self._task, self._given | given)
        requests._parsed = requests._parse()
        return requests

    def apply_async(
        self,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **given: Unpack[JobSettings],
    ) -> Job[R]:
        """Enqueue a job with arguments and options apart, as in Celery."""
        if isinstance(args, str | bytes) or not isinstance(args, Iterable):
            raise TypeError(f"apply_async(args={args!r}): a list of arguments, as in args=[{args!r}]")
        if not isinstance(kwargs, Mapping | None):
            raise TypeError(f"apply_async(kwargs={kwargs!r}): a dict of arguments by name")
        requests: Requests[..., R] = self.options(**given)
        return requests.delay(*args, **(kwargs or {}))

    # --- signatures ---------------------------------------------------------------------------
    def s(self, *args: Any, **kwargs: Any) -> Signature[R]:
        """Return the signature of a call: a value, to be enqueued or composed with others.

        What comes before it in a chain, or is given to `delay`, is put before `args`.
        """
        return self.signature(args, kwargs)

    def si(self, *args: Any, **kwargs: Any) -> Signature[R]:
        """Return the signature of a call that takes nothing from what comes before it."""
        return self._signature(args, kwargs, {}, immutable=True)

    def signature(
        self,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        immutable: bool = False,
        **given: Unpack[JobSettings],
    ) -> Signature[R]:
        """Return the signature of a call, with arguments and options apart, as in Celery."""
        return self._signature(args, kwargs or {}, given, immutable=immutable)

    def _signature(
        self,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        given: Mapping[str, Any],
        *,
        immutable: bool,
    ) -> Signature[R]:
        return signature_of(
            self._connection,
            self._task.name,
            args,
            kwargs,
            given={**self._given, **given},
            immutable=immutable,
        )

    def map(self, items: Iterable[Any]) -> Signature[list[R]]:
        """Return the signature of one job that calls the function for each item, one after the other.

        Its result is the list of results. One job for each item is `group`, or `delay_many`.
        """
        return self._iteration(MAP, list(items))

    def starmap(self, items: Iterable[Sequence[Any]]) -> Signature[list[R]]:
        """As `map`, where each item holds the arguments of one call."""
        return self._iteration(STARMAP, [list(item) for item in items])

    def chunks(self, items: Iterable[Sequence[Any]], size: int) -> group[list[R]]:
        """Return a group of `starmap`s of `size` items each."""
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise UsageError(f"chunks(..., {size!r}): how many items one job has, a whole number from 1")
        numbered = iter(items)
        pages = iter(lambda: list(islice(numbered, size)), [])
        return group(self.starmap(page) for page in pages)

    def _iteration(self, kind: str, items: list[Any]) -> Signature[list[R]]:
        return signature_of(
            self._connection,
            name_for(kind, self._task),
            (self._task.name, items),
            {},
            given={**settings_for(self._task), **self._given},
            immutable=True,
        )

    @property
    def _way(self) -> Way:
        """The app's own way to the engine, or the caller's transaction, as it is now."""
        given = self._given.get("connection")
        return self._connection if given is None else self._connection.within(given)

    @property
    def _order(self) -> Order:
        # Late: queues and routes may be declared after the task.
        parsed = self._parsed
        if parsed is None:
            parsed = self._parsed = self._parse()
        return parsed

    def _parse(self) -> Order:
        return Order(self._task, job_options(self._given), self._connection.registry)


class _Registered(Requests[P, R]):
    """What tasks of both kinds have beside their calls."""

    def __init__(self, connection: Connection, task: core.Task) -> None:
        super().__init__(connection, task, {})
        self.name = task.name

    def __repr__(self) -> str:
        """Name the task."""
        return f"<task {self.name}>"

    def retry(self, exc: BaseException | None = None, countdown: Duration | None = None) -> NoReturn:
        """End the running attempt and ask for another, from a task with `bind=True`.

        Counts as an error: after the attempts of the task's Retry (else Celery's defaults, 4 with
        180 s between them) the job fails, with `exc` as its error.
        """
        delay_s = None if countdown is None else duration_s(countdown, name="countdown")
        raise RetryLater(delay_s, exc) from exc


class Task(_Registered[P, R]):
    """A function that can be called here, or enqueued to run elsewhere."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function, here and now."""
        return cast(R, self._task.function(*_owner_of(self._task), *args, **kwargs))


class AsyncTask(_Registered[P, R]):
    """A coroutine function that can be awaited here, or enqueued to run elsewhere."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Call the coroutine function, here."""
        function = self._task.function
        return cast("Coroutine[Any, Any, R]", function(*_owner_of(self._task), *args, **kwargs))


class ComposedTask(_Registered[P, R]):
    """As a type checker sees a task whose function returns a canvas: `R` is what the canvas comes to.

    When it runs it is a Task, or an AsyncTask.
    """

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Call the function, here and now; it returns the canvas, a coroutine function awaits it."""
        return self._task.function(*_owner_of(self._task), *args, **kwargs)


def _owner_of(task: core.Task) -> Iterator[object]:
    return iter((task.owner,) if task.options.bind else ())


def registered(connection: Connection, task: core.Task) -> Any:
    """Return what a user holds of `task`."""
    held: Any = AsyncTask(connection, task) if task.is_async else Task(connection, task)
    update_wrapper(held, task.function, updated=())
    if task.options.bind:
        task.owner = held
    return held


class Decorator(Protocol):
    """Makes a task of a function."""

    @overload
    def __call__(  # type: ignore[overload-overlap]  # the narrower cases come first
        self, function: Callable[P, Composed[R]] | Callable[P, Coroutine[Any, Any, Composed[R]]], /
    ) -> ComposedTask[P, R]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...


class BoundDecorator(Protocol):
    """Makes a task of a function whose first parameter is the task."""

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self,
        function: Callable[Concatenate[Any, P], Composed[R]]
        | Callable[Concatenate[Any, P], Coroutine[Any, Any, Composed[R]]],
        /,
    ) -> ComposedTask[P, R]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, function: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], /
    ) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Any, P], R], /) -> Task[P, R]: ...
