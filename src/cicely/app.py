"""The app: what a user declares tasks and queues on, and asks for jobs.

Nothing is opened when an app is made or its module imported; the engine is opened by the first call
that needs it, once per process.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Final, Literal, ParamSpec, TypeVar, Unpack, overload

from cicely.connection import Connection
from cicely.core import task as core
from cicely.core.codec import DEFAULT_MAX_BYTES, Codec
from cicely.core.job import Filter, Page
from cicely.core.job import Job as Record
from cicely.core.states import State
from cicely.core.task import Registry, Route
from cicely.core.text import storable
from cicely.core.units import Duration, duration_s
from cicely.engines.contract import Engine
from cicely.errors import ConfigError, UnknownQueue
from cicely.functions import Functions
from cicely.handles import Job
from cicely.messages import Queue
from cicely.place import checked_name, default_url, importable_name
from cicely.settings import (
    MAX_QUEUE_PRIORITY,
    States,
    TaskSettings,
    instant_of,
    priority_of,
    queue_name,
    receives_of,
    states_of,
    task_options,
)
from cicely.tasks import AsyncTask, BoundDecorator, Decorator, Requests, Task, registered
from cicely.values import Store, Values
from cicely.waiting import look

P = ParamSpec("P")
R = TypeVar("R")
V = TypeVar("V")

URL_VARIABLE: Final = "CICELY_URL"
DURABILITIES: Final = ("power", "process", "none")

#: With blobs=, how large a value may be: what MessagePack can hold in one text or array.
_MAX_BLOB_BYTES: Final = (1 << 32) - 1
_PAGE: Final = 500


class Cicely:
    """An app: tasks and queues by name, and the engine that keeps their jobs.

    `url` says where jobs are kept; without it the environment variable CICELY_URL does, else they
    are in `.cicely/<name>.db` beside the module that makes the app. `durability` is what an
    accepted call survives: "power" (the default there), "process" or "none". `results` and `blobs`
    are folders by fsspec URL, for results and for values above 16 MB. `functions_from` are packages
    whose undecorated functions may be enqueued; by default the app's own. `keys` sign everything
    stored, the first of them, and all of them verify; `allow_pickle` needs them.
    """

    def __init__(
        self,
        name: str,
        url: str | None = None,
        *,
        durability: str | None = None,
        results: str | None = None,
        blobs: str | None = None,
        functions_from: Sequence[str] | None = None,
        keys: Sequence[bytes] = (),
        allow_pickle: bool = False,
    ) -> None:
        caller = sys._getframe(1).f_globals  # noqa: SLF001  (the only way to know the defining module)
        self.name = checked_name(name)
        self.registry = Registry()
        self._file: str | None = caller.get("__file__")
        self._url = url
        self._durability = _durability(durability)
        self._options: dict[str, object] = {
            "durability": durability,
            "results": results,
            "blobs": blobs,
            "functions_from": functions_from,
            "keys": f"{len(keys)} keys" if keys else None,
            "allow_pickle": allow_pickle or None,
        }
        self._functions = Functions(_packages(functions_from, caller.get("__name__", "__main__")))
        self._connection = Connection(
            self,
            self.registry,
            codec=Codec(
                keys=keys,
                allow_pickle=allow_pickle,
                max_bytes=_MAX_BLOB_BYTES if blobs else DEFAULT_MAX_BYTES,
            ),
            blobs=Store(blobs, option="blobs") if blobs else None,
            results=Store(results, option="results") if results else None,
        )

    def __repr__(self) -> str:
        """Name the app."""
        return f"Cicely({self.name!r})"

    # --- tasks --------------------------------------------------------------------------------
    @overload
    def task(  # type: ignore[overload-overlap]  # a coroutine function is the narrower case
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncTask[P, R]: ...
    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R]: ...
    @overload
    def task(
        self, function: None = None, /, *, bind: Literal[True], **options: Unpack[TaskSettings]
    ) -> BoundDecorator: ...
    @overload
    def task(
        self, function: None = None, /, *, bind: Literal[False] = False, **options: Unpack[TaskSettings]
    ) -> Decorator: ...
    def task(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        bind: bool = False,
        **options: Unpack[TaskSettings],
    ) -> Any:
        """Make a task of a function, as `@app.task` or `@app.task(queue=..., retry=...)`.

        Raises ConfigError for an option that does not exist or is out of range, and where another
        function has the task's name.
        """
        parsed = task_options(options, bind=bind)

        def decorate(function: Callable[..., Any]) -> Any:
            name = options.get("name") or _name_of(function)
            task = core.Task(name, function, parsed)
            self.registry.add(task)
            return registered(self._connection, task)

        return decorate if function is None else decorate(function)

    @overload
    def enqueue(
        self, function: Callable[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs
    ) -> Job[R]: ...
    @overload
    def enqueue(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Job[R]: ...
    def enqueue(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Job[Any]:
        """Enqueue a call of a plain function at the top of a module, or of a task.

        Workers find it where the app imports its module, in one of the packages `functions_from`.
        Raises UsageError for what no worker could find, lambdas among it.
        """
        if isinstance(function, Requests):
            return function.delay(*args, **kwargs)
        task = self._functions.task_of(function)
        requests: Requests[..., Any] = Requests(self._connection, task, {})
        return requests.delay(*args, **kwargs)

    def batch(self) -> AbstractContextManager[None]:
        """Enqueue all jobs and messages that the block asks for, up to 1,000, or none of them.

        They are enqueued when the block is left without an exception; until then their handles have
        nothing to show. Raises UsageError for more.
        """
        return self._connection.batch()

    # --- jobs ---------------------------------------------------------------------------------
    def job(self, job_id: str) -> Job[Any]:
        """Return the handle of a job. Raises JobNotFound."""
        look(self._connection, job_id)
        return Job(self._connection, job_id)

    def jobs(
        self,
        *,
        state: States = (),
        task: str = "",
        queue: str = "",
        tag: str = "",
        since: datetime | float | None = None,
        until: datetime | float | None = None,
        limit: int | None = None,
    ) -> Iterator[Job[Any]]:
        """Yield the jobs that match, newest first; `since` and `until` bound when they were enqueued."""
        where = Filter(
            states=states_of(state),
            task=task,
            queue=queue,
            tag=tag,
            since=None if since is None else instant_of(since, name="since"),
            until=None if until is None else instant_of(until, name="until"),
        )
        for record in self.records(where, limit=limit):
            yield Job(self._connection, record.id)

    def records(self, where: Filter, *, limit: int | None = None) -> Iterator[Record]:
        """Yield the outlines of the jobs that match, newest first, read page by page."""
        left = math.inf if limit is None else limit
        cursor: str | None = ""
        while cursor is not None and left > 0:
            page = self._page(where, cursor, limit=int(min(left, _PAGE)))
            yield from page.jobs
            left -= len(page.jobs)
            cursor = page.cursor

    def _page(self, where: Filter, cursor: str, *, limit: int = _PAGE) -> Page:
        return self._connection.call(lambda engine: engine.find(where, limit=limit, cursor=cursor or None))

    def cancel(self, which: str | Filter, *, reason: str = "") -> int:
        """Cancel one job by id, or all that match; return how many were. Running ones end soon."""
        return self._steer("cancel", which, reason=reason)

    def revive(self, which: str | Filter, *, reason: str = "") -> int:
        """Run one job again, or all that match; return how many will. Successes are left as they are."""
        return self._steer("revive", which, reason=reason)

    def discard(self, which: str | Filter) -> int:
        """Delete one job, or all that match, among those that have ended; return how many were."""
        return self._steer("discard", which, reason="")

    def _steer(self, move: str, which: str | Filter, *, reason: str) -> int:
        if isinstance(which, str):
            look(self._connection, which)
            return self._steer_all(move, [which], reason=reason)
        moved = 0
        cursor: str | None = ""
        while cursor is not None:
            page = self._page(which, cursor)
            moved += self._steer_all(move, [record.id for record in page.jobs], reason=reason)
            cursor = page.cursor
        return moved

    def _steer_all(self, move: str, ids: Sequence[str], *, reason: str) -> int:
        if not ids:
            return 0
        return len(self._connection.call(lambda engine: engine.steer(move, ids, reason=storable(reason))))

    # --- queues -------------------------------------------------------------------------------
    def queue(
        self,
        name: str,
        *,
        priority: int | None = None,
        ageing: Duration | None = None,
        max_receives: int | None = None,
        keep: Duration | None = None,
        keep_failed: Duration | None = None,
    ) -> Queue:
        """Declare a queue, or say more about one, and return it.

        `priority` is from 0 to 10, and 10 is served first. With `ageing="1h"` an hour of waiting
        weighs as much as one step of a job's priority. A message is failed after `max_receives`.
        """
        known = self.registry.queues.get(name) or core.Queue(name=queue_name(name))
        self.registry.declare(
            core.Queue(
                name=name,
                priority=(
                    known.priority if priority is None else priority_of(priority, most=MAX_QUEUE_PRIORITY)
                ),
                ageing_s=known.ageing_s if ageing is None else duration_s(ageing, name="ageing"),
                max_receives=known.max_receives if max_receives is None else receives_of(max_receives),
                keep_s=known.keep_s if keep is None else duration_s(keep, name="keep"),
                keep_failed_s=(
                    known.keep_failed_s
                    if keep_failed is None
                    else duration_s(keep_failed, name="keep_failed")
                ),
            )
        )
        return Queue(self._connection, name)

    def route(self, routes: Mapping[str, Route]) -> None:
        """Send tasks to queues: a pattern of names to a queue, or to a function of the arguments.

        The first pattern that matches decides; a function that answers None leaves it to the next.
        """
        for pattern, target in routes.items():
            if not isinstance(pattern, str) or not (callable(target) or queue_name(target)):
                raise ConfigError(f"app.route({{{pattern!r}: {target!r}}}): a pattern and a queue's name")
        self.registry.route(routes)

    def pause_queue(self, name: str) -> None:
        """Hand out nothing of a queue; what runs goes on. Raises UnknownQueue."""
        self._known_queue(name).pause()

    def resume_queue(self, name: str) -> None:
        """Hand out what is in a queue again. Raises UnknownQueue."""
        self._known_queue(name).resume()

    def purge(self, name: str) -> int:
        """Cancel all that has not started in a queue, and return how many; `revive` brings them back.

        What a worker starts at that very moment is asked to end.
        """
        queue = self._known_queue(name)
        waiting = Filter(queue=queue.name, states=(State.READY, State.SCHEDULED))
        return self.cancel(waiting, reason="purged")

    def _known_queue(self, name: str) -> Queue:
        """Return a queue that is declared here, or that the engine has seen."""
        try:
            self.registry.queue(name)
        except UnknownQueue:
            if name not in {record.name for record in self._connection.call(lambda e: e.queues())}:
                raise
        return Queue(self._connection, name)

    # --- values -------------------------------------------------------------------------------
    def codec(
        self, type_: type[V], encode: Callable[[V], object], decode: Callable[[Any], V], *, tag: str
    ) -> None:
        """Store values of a class of yours as what `encode` makes of them, under the name `tag`."""
        self._connection.codec.register(type_, encode, decode, tag=tag)

    # --- the engine ---------------------------------------------------------------------------
    @property
    def url(self) -> str:
        """Where the jobs are kept."""
        url = self._url or os.environ.get(URL_VARIABLE) or default_url(self.name, self._file)
        if self._durability is None:
            return url
        return f"{url}{'&' if '?' in url else '?'}durability={self._durability}"

    @property
    def engine(self) -> Engine:
        """This process's engine, open."""
        return self._connection.engine

    def use(self, engine: Engine | None) -> Engine | None:
        """Keep jobs in `engine` from now on (None: where `url` says); return the one used before.

        For tests, which hand in a MemoryEngine. The old engine is closed.
        """
        return self._connection.use(engine)

    def close(self) -> None:
        """Close the engine and give back what was received; the next use opens it again."""
        self._connection.close()

    # --- for workers --------------------------------------------------------------------------
    def values(self, engine: Engine) -> Values:
        """Return how values are packed for `engine`, as patient as a worker has to be."""
        return self._connection.values_in(engine, patience_s=math.inf)

    def values_without_engine(self) -> Values:
        """Return how values are packed in an isolated attempt: whole, and from here on without keys."""
        self._connection.codec.forget_keys()
        return self._connection.values_in(None, patience_s=0.0)

    def resolve(self, task_name: str) -> core.Task | None:
        """Return a registered task, or the task of a plain function inside `functions_from`, or None."""
        return self.registry.tasks.get(task_name) or self._functions.resolve(task_name)

    def runnable_tasks(self) -> Collection[str]:
        """Return the names of all that a worker with this app can run."""
        return {task.name for task in self._all_tasks()}

    def has_coroutines(self) -> bool:
        """Whether any of that is a coroutine function."""
        return any(task.is_async for task in self._all_tasks())

    def _all_tasks(self) -> Iterator[core.Task]:
        yield from self.registry.tasks.values()
        yield from self._functions.all()

    def settings(self) -> list[tuple[str, str, str]]:
        """Return each setting, its value and where that came from, for `cicely doctor`."""
        url_source = "url= in Cicely(...)" if self._url else URL_VARIABLE
        if not self._url and not os.environ.get(URL_VARIABLE):
            url_source = "default: beside the module of the app"
        return [
            ("name", self.name, "Cicely(...)"),
            ("url", self.url, url_source),
            *(
                (name, "-", "default") if value is None else (name, str(value), f"{name}= in Cicely(...)")
                for name, value in self._options.items()
            ),
        ]

    def manifest(self) -> dict[str, Any]:
        """Return what a supervisor needs to know without importing the app.

        `queues` are groups, the first to be served first; `tasks` are kinds by name.
        """
        return {
            "name": self.name,
            "url": self.url,
            "queues": self.registry.queues_by_priority(),
            "tasks": {name: str(task.kind) for name, task in self.registry.tasks.items()},
        }


def _name_of(function: Callable[..., Any]) -> str:
    if not callable(function) or not hasattr(function, "__qualname__"):
        raise ConfigError(f"@app.task is for functions, not for {function!r}")
    return f"{importable_name(function.__module__)}.{function.__qualname__}"


def _packages(functions_from: Sequence[str] | None, module_name: str) -> Sequence[str]:
    if functions_from is None:
        return (importable_name(module_name).partition(".")[0],)
    if isinstance(functions_from, str):
        raise ConfigError(f'functions_from={functions_from!r}: a list, as in ["{functions_from}"]')
    return functions_from


def _durability(durability: str | None) -> str | None:
    if durability is not None and durability not in DURABILITIES:
        raise ConfigError(f"durability={durability!r}: one of {', '.join(DURABILITIES)}")
    return durability
