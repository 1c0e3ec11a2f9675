"""Jobs that failed for good: told of one by one, looked at in groups, revived by rule, alerted about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar, Unpack, overload

import msgspec

from cicely.core import task as core
from cicely.core.dead_letter import DeadGroup, DeadLetter, grouped, letter_of
from cicely.core.event import JOB_REVIVED, EventFilter
from cicely.core.hook import Hook, encode, failure_in, qualified
from cicely.core.job import Filter
from cicely.core.states import State
from cicely.core.text import storable
from cicely.core.units import Duration, duration_s
from cicely.errors import ConfigError, JobNotFound
from cicely.history import History
from cicely.jobs import Jobs
from cicely.observe.alerts import post_to
from cicely.observe.events import events_behind
from cicely.orders import Order
from cicely.place import importable_name
from cicely.settings import JobOptions, TaskSettings, instant_of, task_options
from cicely.upkeep.alarms import Alarms
from cicely.worker.context import context_or_none

Errors = str | type[BaseException] | Sequence["str | type[BaseException]"]
Handler = Callable[[DeadLetter], Any]
H = TypeVar("H", bound=Handler)

_LIMIT: Final = 10_000


class Revive(msgspec.Struct, frozen=True, kw_only=True):
    """Which failed jobs may run again by themselves: up to `at_most` times each, `after` their failure.

    `error` names types, `task` a task; what is left out means any.
    """

    error: Errors = ()
    task: str = ""
    at_most: int = 1
    after: Duration = 0

    def __post_init__(self) -> None:
        """Refuse what is out of range with a ConfigError."""
        names_of(self.error)
        duration_s(self.after, name="after")
        _count_of(self.at_most, "Revive(at_most")

    def allows(self, letter: DeadLetter, *, revived: int, now: float) -> bool:
        """Return whether a job that was revived so often may be revived now."""
        is_time = now - letter.failed_at >= duration_s(self.after, name="after")
        return is_time and revived < self.at_most and _is_of(letter, self.task, names_of(self.error))


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """Whom to tell of which failures: once per group, and again after `cooldown` while it goes on.

    `to` is the URL of a webhook, which gets JSON, or a function of the group, which has `at_least` so many
    jobs.
    """

    to: str | Callable[[DeadGroup], object]
    error: Errors = ()
    task: str = ""
    at_least: int = 1
    cooldown: Duration = 3600

    def __post_init__(self) -> None:
        """Refuse what is out of range with a ConfigError."""
        post_to(self.to, app="")
        names_of(self.error)
        duration_s(self.cooldown, name="cooldown")
        _count_of(self.at_least, "Alert(at_least")

    def is_for(self, group: DeadGroup) -> bool:
        """Return whether a group is one to tell of."""
        newest = group.letters[-1]
        return group.count >= self.at_least and _is_of(newest, self.task, names_of(self.error))


class DeadLetterReport(msgspec.Struct, frozen=True, kw_only=True):
    """What processing dead letters found and did.

    `revived` and `alerted` are job ids and fingerprints. `unsent` says by fingerprint why an alert could
    not be sent; the next turn tries again.
    """

    groups: tuple[DeadGroup, ...] = ()
    revived: tuple[str, ...] = ()
    alerted: tuple[str, ...] = ()
    unsent: dict[str, str] = {}

    def summary(self) -> dict[str, Any]:
        """Return it as what a job can return: counts and fingerprints, not each letter."""
        groups = [
            {
                "fingerprint": g.fingerprint,
                "task": g.task,
                "error": g.error,
                "message": g.message,
                "count": g.count,
            }
            for g in self.groups
        ]
        return {
            "groups": groups,
            "revived": list(self.revived),
            "alerted": list(self.alerted),
            "unsent": dict(self.unsent),
        }


class DeadLetters(Jobs, History):
    """The part of an app that deals with jobs that failed."""

    name: str
    registry: core.Registry
    _hooks: dict[str, tuple[str, Errors]]

    # --- hooks --------------------------------------------------------------------------------
    @overload
    def on_failed(self, function: H, /) -> H: ...
    @overload
    def on_failed(
        self,
        function: None = None,
        /,
        *,
        task: Any = "",
        error: Errors = (),
        **options: Unpack[TaskSettings],
    ) -> Callable[[H], H]: ...
    def on_failed(
        self,
        function: Handler | None = None,
        /,
        *,
        task: Any = "",
        error: Errors = (),
        **options: Unpack[TaskSettings],
    ) -> Any:
        """Run the function, as a job of its own, once for each job that failed for good.

        `@app.on_failed(task="evals.run", error=TimeoutError)`: it gets a DeadLetter. `task` is a task or its
        name, `error` one or several exception classes (their subclasses count) or names of such; without
        them it is for any. `options` are those of `@app.task`, for the function's own jobs. Also failures
        that no code of yours saw are told: a crash, a lost worker. A job that is revived and fails again
        is told of again. What failed before a worker first knew the function is not.
        """
        if options.get("isolate") or options.get("memory"):
            raise ConfigError("@app.on_failed: its jobs read from the engine, so not isolate= and memory=")
        parsed = task_options(options, bind=False)
        task_name = storable(task if isinstance(task, str) else getattr(task, "name", ""))
        if not isinstance(task, str) and not task_name:
            raise ConfigError(f"@app.on_failed(task={task!r}): a task, or its name")
        names_of(error)

        def decorate(function: H) -> H:
            name = options.get("name") or f"{importable_name(function.__module__)}.{function.__qualname__}"
            self.registry.add(core.Task(name, self._told(function, name), parsed))
            self._hooks[name] = (task_name, error)
            return function

        return decorate if function is None else decorate(function)

    def _told(self, function: Handler, name: str) -> Callable[[], Any]:
        """Return the function of a hook's jobs, which learns from its id what failed."""
        from inspect import iscoroutinefunction

        def tell() -> Any:
            return function(self._letter_for(name, _own_id()))

        async def tell_async() -> Any:
            import asyncio

            return await function(await asyncio.to_thread(self._letter_for, name, _own_id()))

        return tell_async if iscoroutinefunction(function) else tell

    def _letter_for(self, name: str, job_id: str) -> DeadLetter:
        failed_id, fence = failure_in(job_id, name)
        [record] = self._connection.call(lambda engine: engine.get([failed_id]))
        if record is None or record.swept:
            raise JobNotFound(f"job {failed_id}, which failed, was deleted before {name} could be told of it")
        return letter_of(record, fence)

    def declared_hooks(self) -> list[bytes]:
        """Return the hooks of the code, as workers run them."""
        return [encode(self._hook(name, *declared)) for name, declared in self._hooks.items()]

    def _hook(self, name: str, task: str, error: Errors) -> Hook:
        values = self._connection.values_in(None, patience_s=0.0)
        order = Order(self.registry.task(name), JobOptions(), self.registry)
        job = order.new_job((), {}, values, new_id="-")
        return Hook(name=name, job=job, task=task, errors=names_of(error))

    # --- groups -------------------------------------------------------------------------------
    def dead_letters(
        self,
        *,
        task: str = "",
        queue: str = "",
        error: Errors = (),
        since: datetime | float | None = None,
        limit: int = _LIMIT,
    ) -> list[DeadGroup]:
        """Return the jobs that are failed now, in groups of failures that are alike, the largest first.

        `since` bounds when they failed. At most `limit` jobs are looked at, those enqueued last.
        """
        names = names_of(error)
        failed_since = 0.0 if since is None else instant_of(since, name="since")
        where = Filter(states=(State.FAILED,), task=storable(task), queue=storable(queue))
        letters = map(letter_of, self.records(where, limit=limit))
        return grouped(one for one in letters if one.failed_at >= failed_since and _is_of(one, "", names))

    def process_dead_letters(
        self,
        *,
        revive: Sequence[Revive] = (),
        alert: Sequence[Alert] = (),
        task: str = "",
        queue: str = "",
        limit: int = _LIMIT,
    ) -> DeadLetterReport:
        """Look at the dead letters once: tell of groups that are to be told of, revive what a rule allows.

        Meant to be called by a scheduled task, as docs/how-to/dead-letters.md shows. An alert is sent once
        per group and cool-down, whoever calls this at the same time.
        """
        groups = self.dead_letters(task=task, queue=queue, limit=limit)
        alerted, unsent = self._alert(groups, alert)
        return DeadLetterReport(
            groups=tuple(groups),
            revived=self._revive_by(groups, revive),
            alerted=tuple(alerted),
            unsent=unsent,
        )

    def _alert(
        self, groups: Iterable[DeadGroup], alerts: Sequence[Alert]
    ) -> tuple[list[str], dict[str, str]]:
        alarms = Alarms(self._connection.engine, now=self._now())
        alerted: list[str] = []
        unsent: dict[str, str] = {}
        wanted = [(number, one, group) for group in groups for number, one in enumerate(alerts)]
        for number, one, group in wanted:
            what = f"{group.fingerprint}:{number}"
            cooldown_s = duration_s(one.cooldown, name="cooldown")
            if not one.is_for(group) or not alarms.is_ours(what, cooldown_s=cooldown_s):
                continue
            failure = post_to(one.to, app=self.name)(group)
            if failure:
                alarms.take_back(what)
                unsent[group.fingerprint] = failure
            else:
                alerted.append(group.fingerprint)
        return alerted, unsent

    def _now(self) -> float:
        """Return the engine's now, by which jobs fail: a sweep tells it."""
        return self._connection.call(lambda engine: engine.sweep(1)).now

    def _revive_by(self, groups: Iterable[DeadGroup], rules: Sequence[Revive]) -> tuple[str, ...]:
        if not rules:
            return ()
        times = self._revivals()
        now = self._now()
        allowed = [
            letter.job_id
            for group in groups
            for letter in group.letters
            if any(rule.allows(letter, revived=times[letter.job_id], now=now) for rule in rules)
        ]
        return tuple(job_id for job_id in allowed if self._steer_all("revive", [job_id], reason="by rule"))

    def _revivals(self) -> Counter[str]:
        """Return how often jobs were revived, by whomever, within the time that events are kept."""
        where = EventFilter(kinds=(JOB_REVIVED,))
        found = self._connection.call(lambda engine: [one.job_id for one in events_behind(engine, where)])
        return Counter(found)


def _own_id() -> str:
    context = context_or_none()
    return context.job_id if context is not None else ""


def names_of(error: Errors) -> tuple[str, ...]:
    """Return the names of exception classes, with those of their subclasses so far. Raises ConfigError."""
    given = tuple(error) if isinstance(error, Sequence) and not isinstance(error, str) else (error,)
    names: dict[str, None] = {}
    for one in given:
        if isinstance(one, str) and one:
            names[one] = None
        elif isinstance(one, type) and issubclass(one, BaseException):
            names.update(dict.fromkeys(f"{kind.__module__}.{kind.__qualname__}" for kind in _family(one)))
        else:
            raise ConfigError(f"error={one!r}: an exception class, its name, or several of them")
    return tuple(names)


def _count_of(value: object, option: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{option}={value!r}): a whole number from 1")


def _family(kind: type[BaseException]) -> Iterable[type[BaseException]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _family(child)


def _is_of(letter: DeadLetter, task: str, names: tuple[str, ...]) -> bool:
    if task and letter.task != task:
        return False
    return not names or not {letter.error.type_name, qualified(letter.error)}.isdisjoint(names)
