"""From a call to the NewJob that an engine keeps: the pure part of `delay`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from hashlib import blake2b
from inspect import Parameter, Signature
from typing import Any, Final

import msgspec

from cicely.core.canonical import canonical
from cicely.core.flow import Flow
from cicely.core.identity import RANDOM_BYTES, Stable, new_id, stable_id
from cicely.core.job import Kind, NewJob
from cicely.core.task import Limits, Registry, Task
from cicely.core.text import storable
from cicely.errors import ConfigError
from cicely.settings import JobOptions
from cicely.values import Values

_BY_POSITION: Final = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_DIGEST_BYTES: Final = 16

Args = tuple[Any, ...]
Kwargs = dict[str, Any]


def fresh_id() -> str:
    """Return an id that sorts by now."""
    return new_id(int(time.time() * 1000), os.urandom(RANDOM_BYTES))


class Order:
    """Calls of one task with one set of options, each to become a job."""

    def __init__(self, task: Task, options: JobOptions, registry: Registry) -> None:
        self.task = task
        self._registry = registry
        self._id = options.id
        self._queue = registry.queue(options.queue) if options.queue else None
        self._options = options
        self._limits = b"" if options.limits is None else msgspec.msgpack.encode(options.limits)
        self._kind = _kind_of(task, options.limits)
        self._arity = _arity_of(task.signature)
        self._priority = task.options.priority if options.priority is None else options.priority
        self._tags = tuple(dict.fromkeys(task.options.tags + options.tags))
        self._lane = options.lane or task.options.lane
        self._needs = task.options.needs if options.needs is None else options.needs.over(task.options.needs)
        self._traits = registry.traits_of(self._tags)
        self._expires_s = options.expires_s
        if options.expires_s is None and options.expires_at is None:
            self._expires_s = task.options.expires_s

    def new_job(
        self, args: Args, kwargs: Kwargs, values: Values, *, job_id: str = "", new_id: str = ""
    ) -> NewJob:
        """Return the job that this call asks for. Raises TypeError for arguments that do not fit.

        `job_id` is an id that a person chose, `new_id` one that nobody did.
        """
        task = self.task
        self.check(args, kwargs)
        queue = self._queue or self._registry.queue_of(task, args, kwargs)
        chosen_id = job_id or (self._chosen_id(args, kwargs, values) if self._id and not new_id else "")
        job_id = chosen_id or new_id or fresh_id()
        options = self._options
        task_options = task.options
        lane = self._lane
        return NewJob(
            id=job_id,
            task=task.name,
            kind=self._kind,
            queue=queue.name,
            body=values.pack_call(job_id, args, kwargs=kwargs, where=task.name),
            options=self._limits,
            priority=self._priority,
            lane=lane if isinstance(lane, str) else self._answer(lane, args, kwargs, "lane"),
            tags=self._tags,
            delay_s=options.delay_s,
            due_at=options.due_at,
            expires_s=self._expires_s,
            expires_at=options.expires_at,
            unique=self._unique(args, kwargs, values) if task_options.unique else "",
            ageing_s=queue.ageing_s,
            keep_s=task_options.keep_s,
            keep_failed_s=task_options.keep_failed_s,
            remember_s=task_options.remember_s if chosen_id else 0.0,
            flow=self._flow(queue.name, args, kwargs),
            watched=task_options.events,
        )

    def _flow(self, queue: str, args: Args, kwargs: Kwargs) -> Flow | None:
        keys = self._registry.keys_of(queue, self._tags)
        try:
            return self._needs.flow(args, kwargs, traits=self._traits, keys=keys)
        except (TypeError, ConfigError) as error:
            raise type(error)(f"limits= or cost= of {self.task.name}: {error}") from None

    def check(self, args: Args, kwargs: Kwargs) -> None:
        """Raise TypeError where the arguments do not fit the task's signature."""
        arity = self._arity
        if arity is None or kwargs or not arity[0] <= len(args) <= arity[1]:
            self.task.bind_arguments(args, kwargs)

    def stable_id(self, args: Args, kwargs: Kwargs, *, version: str, values: Values) -> str:
        """Return the id that follows from these arguments, however they are passed."""
        arguments = self.task.bind_arguments(args, kwargs).arguments
        return stable_id(self.task.name, (), arguments, version, own=values.codec.own)

    def _chosen_id(self, args: Args, kwargs: Kwargs, values: Values) -> str:
        if isinstance(self._id, Stable):
            return self.stable_id(args, kwargs, version=self._id.version, values=values)
        return self._id

    def _answer(self, function: Callable[..., str], args: Args, kwargs: Kwargs, option: str) -> str:
        answer = function(*args, **kwargs)
        if answer is None:
            return ""
        if not isinstance(answer, str) or storable(answer) != answer:
            raise ConfigError(f"{option}= of {self.task.name} answered {answer!r}: a text, or None")
        return answer

    def _unique(self, args: Args, kwargs: Kwargs, values: Values) -> str:
        """Return the key that one live job may hold; each task has keys of its own."""
        unique = self.task.options.unique
        if callable(unique):
            key = self._answer(unique, args, kwargs, "unique")
        elif unique == "args":
            key = self._digest(args, kwargs, values)
        else:
            key = unique
        return f"{self.task.name}:{key}" if key else ""

    def _digest(self, args: Args, kwargs: Kwargs, values: Values) -> str:
        bound = self.task.bind_arguments(args, kwargs)
        bound.apply_defaults()
        where = f"the unique key of {self.task.name}"
        data = canonical(bound.arguments, own=values.codec.own, where=where)
        return blake2b(data, digest_size=_DIGEST_BYTES).hexdigest()


def _kind_of(task: Task, limits: Limits | None) -> Kind:
    return Kind.ISOLATED if limits is not None and limits.isolate else task.kind


def _arity_of(signature: Signature) -> tuple[int, int] | None:
    """Return how few and how many arguments fit by position; None where counting does not tell."""
    parameters: Mapping[str, Parameter] = signature.parameters
    if any(parameter.kind not in _BY_POSITION for parameter in parameters.values()):
        return None
    needed = sum(parameter.default is Parameter.empty for parameter in parameters.values())
    return needed, len(parameters)
