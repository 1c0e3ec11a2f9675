"""Hooks: what is run, as a job, for each job that failed.

A hook is kept as bytes that any worker can carry out without the app's code. Its jobs are known by
the claim that failed, so that no failure gets two.
"""

from __future__ import annotations

from typing import Final

import msgspec

from cicely.core.event import JOB_FAILED, Event, EventFilter
from cicely.core.job import DAY_S, NewJob
from cicely.core.outcome import ErrorRecord
from cicely.errors import ConfigError

_FORMAT: Final = b"\x01"
#: With this begin the ids of hooks' jobs, whose own failures no hook hears of.
PREFIX: Final = "failed:"


class Hook(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`job` is enqueued for each failure of `task` ("" for any) by one of `errors` (none: any).

    An error is named by its type, with or without its module.
    """

    name: str
    job: NewJob
    task: str = ""
    errors: tuple[str, ...] = ()

    @property
    def where(self) -> EventFilter:
        """The events that may concern it."""
        return EventFilter(kinds=(JOB_FAILED,), task=self.task)

    def heeds(self, event: Event) -> bool:
        """Return whether a failure is one that hooks are for: not their own."""
        return not event.job_id.startswith(PREFIX)

    def wants(self, error: ErrorRecord | None) -> bool:
        """Return whether an error is one that it is for; None is one that nobody knows any more."""
        if not self.errors:
            return True
        return error is not None and not {error.type_name, qualified(error)}.isdisjoint(self.errors)

    def job_for(self, event: Event) -> NewJob:
        """Return the job for one failure: which, its id says."""
        job_id = f"{PREFIX}{self.name}:{event.fence}:{event.job_id}"
        return msgspec.structs.replace(self.job, id=job_id, remember_s=max(self.job.remember_s, DAY_S))


def failure_in(job_id: str, name: str) -> tuple[str, int]:
    """Return the job, and which claim of it, whose failure a job of the hook `name` is for.

    Raises ConfigError where the id is none of this hook's: somebody enqueued its task by hand.
    """
    head, _, rest = job_id.partition(f"{name}:")
    fence, _, failed_id = rest.partition(":")
    if head != PREFIX or not fence.isdigit() or not failed_id:
        raise ConfigError(f"{name} is run for jobs that failed, by their events; job {job_id} is for none")
    return failed_id, int(fence)


def qualified(error: ErrorRecord) -> str:
    """Return an error's type with its module."""
    return f"{error.module}.{error.type_name}" if error.module else error.type_name


def encode(hook: Hook) -> bytes:
    """Return a hook as a worker's manifest has it."""
    return _FORMAT + msgspec.msgpack.encode(hook)


def decode(spec: bytes) -> Hook:
    """Read what `encode` wrote. Raises ConfigError."""
    try:
        if spec[:1] != _FORMAT:
            raise ConfigError(f"a hook in the format {spec[:1].hex()}, and this version reads 01")
        return msgspec.msgpack.decode(spec[1:], type=Hook)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise ConfigError(f"a hook that cannot be read: {error}") from error
