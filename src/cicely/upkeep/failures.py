"""Running hooks: each failure that an engine tells of becomes one job per hook that is for it.

A hook's cursor lies in the engine, as a mark, and is moved in the transaction that enqueues its jobs: any
number of workers may look, and each failure gets one job, also where no code of the user's saw it fail.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from cicely.core.dead_letter import NO_ERROR, letter_of
from cicely.core.event import NEWEST, Event
from cicely.core.hook import Hook, decode
from cicely.core.job import Job, NewJob
from cicely.core.outcome import ErrorRecord
from cicely.engines.contract import MARK, Engine, Schedule, Swept
from cicely.errors import ConfigError

log = logging.getLogger("cicely.hooks")

_PAGE: Final = 100
#: How far a worker has read without finding anything is noted so often, for those that come after it.
NOTE_S: Final = 60.0


class Hooks:
    """One worker's part in running the hooks of its app."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._hooks: dict[str, Hook] = {}
        self._marks: dict[str, Schedule] = {}
        self._read_to: dict[str, str] = {}
        self._noted_at: dict[str, float] = {}
        self._seen = ""

    def serve(self, specs: Iterable[bytes]) -> None:
        """Run these hooks from now on; a new one hears of what fails from now on."""
        for spec in specs:
            try:
                hook = decode(spec)
            except ConfigError as error:
                log.warning("a hook is left to other workers: %s", error)
                continue
            self._hooks[hook.name] = hook
            self._mark_of(hook)

    def look(self, swept: Swept) -> bool:
        """Enqueue jobs for the failures that a sweep says there may be; True where more may be left."""
        if not self._hooks or swept.newest == self._seen:
            return False
        has_more = [self._read_on(hook) for hook in self._hooks.values()]
        if any(has_more):
            return True
        self._seen = swept.newest
        return False

    def _read_on(self, hook: Hook) -> bool:
        mark = self._mark_of(hook)
        cursor = self._read_to.get(hook.name) or _cursor_in(mark)
        page = self._engine.history(hook.where, limit=_PAGE, cursor=cursor or None)
        jobs = self._jobs_for(hook, page.events)
        if not (jobs or self._is_to_be_noted(hook, mark, page.cursor)):
            self._read_to[hook.name] = page.cursor
            return page.more
        then = msgspec.structs.replace(mark, spec=_spec_of(page.cursor))
        if self._engine.tick(mark, then, jobs):
            self._marks[hook.name] = then
            self._noted_at[hook.name] = time.monotonic()
        else:
            # Another worker was faster, and has dealt with what it read.
            self._marks.pop(hook.name, None)
        self._read_to.pop(hook.name, None)
        return page.more or hook.name not in self._marks

    def _is_to_be_noted(self, hook: Hook, mark: Schedule, cursor: str) -> bool:
        is_old = time.monotonic() - self._noted_at.get(hook.name, 0.0) >= NOTE_S
        return is_old and cursor != _cursor_in(mark)

    def _mark_of(self, hook: Hook) -> Schedule:
        if hook.name not in self._marks:
            name = mark_name(hook.name)
            known = next((one for one in self._engine.schedules() if one.name == name), None)
            if known is None:
                cursor = self._engine.history(hook.where, cursor=NEWEST).cursor
                known = Schedule(name=name, spec=_spec_of(cursor), next_at=None)
                self._engine.put_schedule(known)
            self._marks[hook.name] = known
            self._noted_at[hook.name] = time.monotonic()
        return self._marks[hook.name]

    def _jobs_for(self, hook: Hook, events: Sequence[Event]) -> list[NewJob]:
        heeded = [event for event in events if hook.heeds(event)]
        if not hook.errors:
            return [hook.job_for(event) for event in heeded]
        errors = self._errors_of(heeded)
        return [hook.job_for(event) for event in heeded if hook.wants(errors.get(event.cursor))]

    def _errors_of(self, events: Sequence[Event]) -> Mapping[str, ErrorRecord]:
        """Return by event what went wrong, where that is still known."""
        jobs = self._engine.get([event.job_id for event in events]) if events else []
        found = zip(events, jobs, strict=True)
        errors = {event.cursor: _error_of(job, event.fence) for event, job in found if job is not None}
        return {cursor: error for cursor, error in errors.items() if error is not NO_ERROR}


def _error_of(job: Job, fence: int) -> ErrorRecord:
    return letter_of(job, fence).error


def mark_name(hook_name: str) -> str:
    """Return the name under which a hook's cursor is kept."""
    return f"{MARK}failed:{hook_name}"


def _spec_of(cursor: str) -> bytes:
    return b"\x01" + cursor.encode()


def _cursor_in(mark: Schedule) -> str:
    return mark.spec[1:].decode()
