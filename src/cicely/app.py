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
from typing import Any, Final, Literal, ParamSpec, TypeVar, Unpack, overload

import msgspec

from cicely.canvas import Canvas, Signature
from cicely.composing import Composed
from cicely.connection import Connection
from cicely.core import task as core
from cicely.core.codec import DEFAULT_MAX_BYTES, Codec
from cicely.core.job import Claim
from cicely.core.task import Registry
from cicely.core.units import Duration
from cicely.core.when import When
from cicely.dead_letters import DeadLetters
from cicely.dynamic import Additions
from cicely.engines.contract import Engine
from cicely.errors import ConfigError
from cicely.flow_control import FlowControl
from cicely.flows import Flow
from cicely.functions import Functions
from cicely.handles import Job
from cicely.iteration import builtin_tasks
from cicely.place import checked_name, default_url, importable_name
from cicely.schedules import Schedule, Schedules, call_of, rule_of
from cicely.settings import JobSettings, TaskSettings, refuse_unknown_fields, tag_names_of, task_options
from cicely.signatures import read_canvas
from cicely.tasks import AsyncTask, BoundDecorator, ComposedTask, Decorator, Requests, Task, registered
from cicely.values import Store, Values
from cicely.workflow.written import Enqueue

P = ParamSpec("P")
R = TypeVar("R")
V = TypeVar("V")

URL_VARIABLE: Final = "CICELY_URL"
DURABILITIES: Final = ("power", "process", "none")

#: With blobs=, how large a value may be: what MessagePack can hold in one text or array.
_MAX_BLOB_BYTES: Final = (1 << 32) - 1
_PAGE: Final = 500


class Cicely(FlowControl, DeadLetters):
    """An app: tasks and queues by name, and the engine that keeps their jobs.

    `url` says where jobs are kept; without it the environment variable CICELY_URL does, else they
    are in `.cicely/<name>.db` beside the module that makes the app. `durability` is what an
    accepted call survives: "power" (the default there), "process" or "none". `results` and `blobs`
    are folders by fsspec URL, for results and for values above 16 MB; one on this machine's disk is refused
    beside a server unless `shared_folders` says that all who use the server have it mounted.
    `functions_from` are packages whose undecorated functions may be enqueued; by default the app's
    own. `keys` sign everything stored, the first of them, and all of them verify; `allow_pickle`
    needs them. By tags "name=value" of these names workers choose jobs (`accept_by`), and each value has
    a limit of its own that can be set at run time (`quota_by`).
    """

    def __init__(
        self,
        name: str,
        url: str | None = None,
        *,
        durability: str | None = None,
        results: str | None = None,
        blobs: str | None = None,
        shared_folders: bool = False,
        functions_from: Sequence[str] | None = None,
        keys: Sequence[bytes] = (),
        allow_pickle: bool = False,
        accept_by: Sequence[str] = (),
        quota_by: Sequence[str] = (),
    ) -> None:
        caller = sys._getframe(1).f_globals  # noqa: SLF001  (the only way to know the defining module)
        self.name = checked_name(name)
        self.registry = Registry()
        self.registry.accept_by = tag_names_of(accept_by, "accept_by")
        self.registry.quota_by = tag_names_of(quota_by, "quota_by")
        self.shared_folders = shared_folders
        self._file: str | None = caller.get("__file__")
        self._url = _checked_url(url)
        self._durability = _durability(durability)
        self._options: dict[str, object] = {
            "durability": durability,
            "results": results,
            "blobs": blobs,
            "shared_folders": shared_folders or None,
            "functions_from": functions_from,
            "keys": f"{len(keys)} keys" if keys else None,
            "allow_pickle": allow_pickle or None,
            "accept_by": ", ".join(accept_by) or None,
            "quota_by": ", ".join(quota_by) or None,
        }
        self._builtins = builtin_tasks(self.resolve)
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
        self._schedules = Schedules(self._connection)
        self._declared_settings = {}
        self._hooks = {}

    def __repr__(self) -> str:
        """Name the app."""
        return f"Cicely({self.name!r})"

    # --- tasks --------------------------------------------------------------------------------
    @overload
    def task(  # type: ignore[overload-overlap]  # the narrower cases come first
        self, function: Callable[P, Composed[R]] | Callable[P, Coroutine[Any, Any, Composed[R]]], /
    ) -> ComposedTask[P, R]: ...
    @overload
    def task(  # type: ignore[overload-overlap]
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
            try:
                task = core.Task(name, function, parsed)
            except ValueError as error:
                raise ConfigError(
                    f"@app.task cannot use {function!r}: {error}; wrap it in a function"
                ) from None
            refuse_unknown_fields(task)
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

    def signature(
        self,
        what: str | Mapping[str, Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        immutable: bool = False,
        **given: Unpack[JobSettings],
    ) -> Canvas[Any]:
        """Return the signature of a task by name, or the canvas that `to_json` or `to_dict` wrote.

        Raises UnknownTask with the nearest name.
        """
        return read_canvas(self._connection, what, args, kwargs or {}, given=given, immutable=immutable)

    def flow(self) -> Flow:
        """Begin a flow: jobs that come after any others, to be enqueued together."""
        return Flow(self._connection)

    def batch(self) -> AbstractContextManager[None]:
        """Enqueue all jobs and messages that the block asks for, up to 1,000, or none of them.

        They are enqueued when the block is left without an exception; until then their handles have
        nothing to show. Raises UsageError for more.
        """
        return self._connection.batch()

    # --- schedules ----------------------------------------------------------------------------
    def schedule(
        self,
        name: str,
        call: Signature[Any] | Requests[..., Any],
        when: When,
        *,
        catch_up: Literal["skip", "one", "all"] = "one",
        overlap: Literal["allow", "skip"] = "allow",
        jitter: Duration = 0,
    ) -> Schedule:
        """Declare that a job is enqueued at each tick of `every(...)` or `cron(...)`, and return the handle.

        `app.schedule("nightly", rebuild.s(full=True), cron("0 5 * * *", tz="Europe/Berlin"))`. Workers put
        it into the engine when they start. `catch_up` says what becomes of ticks that nobody dealt with in
        time, `overlap` whether one may start while an earlier one runs, and `jitter` within which time
        after the tick its job starts. Raises ConfigError for what can never work.
        """
        rule = rule_of(when, catch_up=catch_up, overlap=overlap, jitter=jitter)
        return self._schedules.declare(name, call_of(name, call), rule)

    def add_schedule(
        self,
        name: str,
        call: Signature[Any] | Requests[..., Any],
        when: When,
        *,
        catch_up: Literal["skip", "one", "all"] = "one",
        overlap: Literal["allow", "skip"] = "allow",
        jitter: Duration = 0,
    ) -> Schedule:
        """Keep a schedule in the engine from now on, until it is removed there.

        Raises ConfigError as `schedule` does, and for a name that is taken.
        """
        rule = rule_of(when, catch_up=catch_up, overlap=overlap, jitter=jitter)
        return self._schedules.add(name, call_of(name, call), rule)

    def schedules(self) -> list[Schedule]:
        """Return the schedules that the engine keeps or this code declares, by name."""
        return self._schedules.all()

    def declared_schedules(self) -> dict[str, bytes]:
        """Return the schedules of the code by name, as workers put them into the engine."""
        return self._schedules.specs()

    # --- values -------------------------------------------------------------------------------
    def codec(
        self, type_: type[V], encode: Callable[[V], object], decode: Callable[[Any], V], *, tag: str
    ) -> None:
        """Store values of a class of yours as what `encode` makes of them, under the name `tag`."""
        if not callable(encode) or not callable(decode):
            raise ConfigError(f"app.codec(..., tag={tag!r}): encode and decode are functions of one value")
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
        return (
            self.registry.tasks.get(task_name)
            or self._builtins.get(task_name)
            or self._functions.resolve(task_name)
        )

    def additions(self, claim: Claim, values: Values, enqueue: Enqueue) -> Additions:
        """Return what writes the jobs that a running one adds, calls or goes on as."""
        return Additions(self._connection, claim, values, enqueue=enqueue)

    def is_canvas(self, value: object) -> bool:
        """Whether a job that returned `value` goes on as a workflow."""
        return isinstance(value, Canvas)

    def runnable_tasks(self) -> Collection[str]:
        """Return the names of all that a worker with this app can run."""
        return {task.name for task in self._all_tasks()} | self._builtins.keys()

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

        `queues` are groups, the first to be served first; `accept_by` names of tags; `tasks` are kinds by
        name; `schedules` and `settings` are as the engine keeps them.
        """
        return {
            "name": self.name,
            "url": self.url,
            "queues": self.registry.queues_by_priority(),
            "accept_by": self.registry.accept_by,
            "tasks": {name: str(task.kind) for name, task in self.registry.tasks.items()},
            "schedules": self._schedules.specs(),
            "hooks": self.declared_hooks(),
            "settings": [msgspec.msgpack.encode(setting) for setting in self.declared_settings()],
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


def _checked_url(url: str | None) -> str | None:
    if url is None or isinstance(url, str):
        return url
    raise ConfigError(f"url={url!r}: a text, as in sqlite:////var/lib/app/jobs.db")


def _durability(durability: str | None) -> str | None:
    if durability is not None and durability not in DURABILITIES:
        raise ConfigError(f"durability={durability!r}: one of {', '.join(DURABILITIES)}")
    return durability
