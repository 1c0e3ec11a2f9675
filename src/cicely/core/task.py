"""Tasks as registered: a function with its options, and the registry that knows them all."""

from __future__ import annotations

import fnmatch
import inspect
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import msgspec

from cicely.core.failures import Failure
from cicely.core.flow import QUEUE_PREFIX, TAG_PREFIX
from cicely.core.job import DAY_S, DEFAULT_PRIORITY, Kind
from cicely.core.needs import Needs
from cicely.core.retry import Retry
from cicely.errors import ConfigError, UnknownQueue, UnknownTask

DEFAULT_QUEUE = "default"

Route = str | Callable[..., str | None]


class Limits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an attempt may use; None is "no limit". A worker reads them from the task or the job.

    `memory_again_bytes` is the memory of the one attempt that follows one that ran out of it.
    """

    timeout_s: float | None = None
    soft_timeout_s: float | None = None
    stall_timeout_s: float | None = None
    memory_bytes: int | None = None
    isolate: bool = False
    memory_again_bytes: int | None = None

    def over(self, task: Limits) -> Limits:
        """Return these limits where they are set, else the task's."""
        given = {name: value for name, value in msgspec.structs.asdict(self).items() if value}
        return msgspec.structs.replace(task, **given)


class TaskOptions(msgspec.Struct, frozen=True, kw_only=True):
    """A task's options after parsing. `unique` and `lane` may be functions of the arguments.

    `traceback_locals` keeps each frame's local variables with a failed attempt; they may hold
    secrets, so it is off unless asked for. `failures` says what kinds of failures the task's errors are.
    `events`: its starts and successes are told. `log_fields` are parameters that stand on each log line.
    """

    queue: str = ""
    priority: int = DEFAULT_PRIORITY
    retry: Retry | None = None
    limits: Limits = Limits()
    expires_s: float | None = None
    lane: str | Callable[..., str] = ""
    unique: str | Callable[..., str] = ""
    tags: tuple[str, ...] = ()
    keep_s: float = DAY_S
    keep_failed_s: float = 30 * DAY_S
    remember_s: float = 90 * DAY_S
    raises: tuple[type[BaseException], ...] = ()
    traceback_locals: bool = False
    events: bool = False
    log_fields: tuple[str, ...] = ()
    bind: bool = False
    needs: Needs = Needs()
    failures: Mapping[type[BaseException], Failure] = {}


class Task:
    """A registered function: its name, options, signature and the kind of its jobs.

    `owner` is what a bound function gets as its first argument.
    """

    __slots__ = ("function", "hints_", "is_async", "name", "options", "owner", "signature")

    def __init__(self, name: str, function: Callable[..., Any], options: TaskOptions) -> None:
        self.name = name
        self.function = function
        self.options = options
        self.owner: object = None
        self.is_async = inspect.iscoroutinefunction(function)
        self.signature = _signature_of(function, skip_first=options.bind)
        self.hints_: dict[str, object] | None = None

    @property
    def kind(self) -> Kind:
        """How jobs of this task run unless they say otherwise."""
        if self.options.limits.isolate:
            return Kind.ISOLATED
        return Kind.ASYNC if self.is_async else Kind.SYNC

    @property
    def hints(self) -> dict[str, object]:
        """The type hints by parameter name, "return" among them; none where they cannot be read."""
        if self.hints_ is None:
            self.hints_ = _hints_of(self.function)
        return self.hints_

    def bind_arguments(self, args: Sequence[object], kwargs: Mapping[str, object]) -> inspect.BoundArguments:
        """Check arguments against the signature. Raises TypeError as a call would."""
        try:
            return self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}{self.signature}: {error}") from None


def _signature_of(function: Callable[..., Any], *, skip_first: bool) -> inspect.Signature:
    signature = inspect.signature(function)
    if not skip_first:
        return signature
    return signature.replace(parameters=list(signature.parameters.values())[1:])


def _hints_of(function: Callable[..., Any]) -> dict[str, object]:
    import typing

    try:
        return typing.get_type_hints(function)
    except Exception:  # noqa: BLE001  (a hint may name anything; without hints nothing is converted)
        return {}


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """A declared queue. `ageing_s`: so much waiting outweighs one step of priority (0: strict)."""

    name: str
    priority: int = 5
    ageing_s: float = 0.0
    max_receives: int = 10
    keep_s: float = DAY_S
    keep_failed_s: float = 30 * DAY_S


class Registry:
    """What an app declares: its tasks, queues and routes."""

    def __init__(self) -> None:
        self.tasks: dict[str, Task] = {}
        self.queues: dict[str, Queue] = {DEFAULT_QUEUE: Queue(name=DEFAULT_QUEUE)}
        self.routes: dict[str, Route] = {}
        #: By these names of "name=value" tags workers choose jobs, and quotas are set.
        self.accept_by: tuple[str, ...] = ()
        self.quota_by: tuple[str, ...] = ()
        #: Queues and tags that are bounded as a whole, as the keys of their limits.
        self.capped: set[str] = set()

    def traits_of(self, tags: Sequence[str]) -> tuple[str, ...]:
        """Return those of a job's tags by which workers choose jobs, sorted."""
        return tuple(sorted(tag for tag in tags if tag.partition("=")[0] in self.accept_by and "=" in tag))

    def keys_of(self, queue: str, tags: Sequence[str]) -> tuple[str, ...]:
        """Return the keys of the limits that bound a job's queue and tags as a whole."""
        if not self.capped and not self.quota_by:
            return ()
        by_tag = [TAG_PREFIX + tag for tag in tags if tag.partition("=")[0] in self.quota_by]
        named = {QUEUE_PREFIX + queue, *(TAG_PREFIX + tag for tag in tags)} & self.capped
        return tuple(sorted({*by_tag, *named}))

    def add(self, task: Task) -> None:
        """Register `task`. Raises ConfigError where another function has its name."""
        known = self.tasks.get(task.name)
        if known is not None and known.function is not task.function:
            raise ConfigError(f"two tasks are called {task.name}: give one of them name=")
        self.tasks[task.name] = task
        if task.options.queue:
            self.queues.setdefault(task.options.queue, Queue(name=task.options.queue))

    def declare(self, queue: Queue) -> None:
        """Declare `queue`, or say more about it."""
        self.queues[queue.name] = queue

    def route(self, routes: Mapping[str, Route]) -> None:
        """Send tasks whose name matches a pattern to a queue, or to what a function answers."""
        self.routes.update(routes)
        for target in routes.values():
            if isinstance(target, str):
                self.queues.setdefault(target, Queue(name=target))

    def task(self, name: str) -> Task:
        """Return the task called `name`. Raises UnknownTask with the nearest name."""
        try:
            return self.tasks[name]
        except KeyError:
            raise UnknownTask(f"no task is called {name}{_nearest(name, self.tasks)}") from None

    def queue(self, name: str) -> Queue:
        """Return the queue called `name`. Raises UnknownQueue with the nearest name."""
        try:
            return self.queues[name]
        except KeyError:
            raise UnknownQueue(
                f'no queue is called {name}{_nearest(name, self.queues)}; declare it with app.queue("{name}")'
            ) from None

    def queue_of(self, task: Task, args: Sequence[object], kwargs: Mapping[str, object]) -> Queue:
        """Return the queue for a job of `task`: the first route that answers, else its own."""
        for pattern, target in self.routes.items():
            if not fnmatch.fnmatchcase(task.name, pattern):
                continue
            name = target if isinstance(target, str) else target(*args, **kwargs)
            if not isinstance(name, str | None):
                raise ConfigError(f"the route {pattern!r} answered {name!r}: a queue's name, or None")
            if name:
                return self.queue(name)
        return self.queue(task.options.queue or DEFAULT_QUEUE)

    def queues_by_priority(self) -> list[list[str]]:
        """Return the declared queues' names, highest priority first, equal ones together."""
        groups: dict[int, list[str]] = {}
        for queue in self.queues.values():
            groups.setdefault(queue.priority, []).append(queue.name)
        return [groups[priority] for priority in sorted(groups, reverse=True)]


def _nearest(name: str, known: Mapping[str, object]) -> str:
    matches = get_close_matches(name, known, n=1)
    return f" (did you mean {matches[0]}?)" if matches else ""
