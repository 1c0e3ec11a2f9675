"""What an app says of the jobs that are there, and how it moves them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final

from cicely.connection import Connection
from cicely.core.job import Filter, Page
from cicely.core.job import Job as Record
from cicely.core.text import storable
from cicely.errors import ConfigError, JobNotFound
from cicely.groups import GroupJob
from cicely.handles import Job
from cicely.observe.reasons import Explanation
from cicely.orders import fresh_id
from cicely.settings import States, instant_of, states_of
from cicely.upkeep.steering import steer
from cicely.waiting import look
from cicely.workflows import Workflow, workflow_of

_PAGE: Final = 500


class Jobs:
    """The part of an app that finds jobs, groups and workflows, and steers them."""

    _connection: Connection

    def job(self, job_id: str) -> Job[Any]:
        """Return the handle of a job. Raises JobNotFound."""
        job_id = storable(str(job_id))
        look(self._connection, job_id)
        return Job(self._connection, job_id)

    def explain(self, job: str | Job[Any]) -> Explanation:
        """Return the one thing that holds a job back now, with its numbers. Raises JobNotFound."""
        return self.job(job.id if isinstance(job, Job) else job).explain()

    def group(self, group_id: str) -> GroupJob[Any]:
        """Return the handle of a group by its id. Raises JobNotFound where no job is in it."""
        handle: GroupJob[Any] = GroupJob(self._connection, group_id)
        if not len(handle):
            raise JobNotFound(f"no job is in the group {group_id}: it was swept, or never enqueued")
        return handle

    def workflow(self, an_id: str) -> Workflow:
        """Return the handle of a workflow by its id, or by that of one of its jobs. Raises JobNotFound."""
        return workflow_of(self._connection, an_id)

    def jobs(
        self,
        *,
        state: States = (),
        task: str = "",
        queue: str = "",
        tag: str = "",
        workflow: str = "",
        since: datetime | float | None = None,
        until: datetime | float | None = None,
        limit: int | None = None,
    ) -> Iterator[Job[Any]]:
        """Yield the jobs that match, newest first; `since` and `until` bound when they were enqueued."""
        where = Filter(
            states=states_of(state),
            task=_text(task),
            queue=_text(queue),
            tag=_text(tag),
            workflow=_text(workflow),
            since=None if since is None else instant_of(since, name="since"),
            until=None if until is None else instant_of(until, name="until"),
        )
        for record in self.records(where, limit=limit):
            yield Job(self._connection, record.id)

    def records(self, where: Filter, *, limit: int | None = None) -> Iterator[Record]:
        """Yield the outlines of the jobs that match, newest first, read page by page."""
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
            raise ConfigError(f"limit={limit!r}: a whole number from 0, or None for all")
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
            return self._steer_all(move, [self.job(which).id], reason=reason)
        if not isinstance(which, Filter):
            raise ConfigError(f"{move}({which!r}): the id of a job, or a Filter of many")
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
        reason = storable(str(reason))
        return len(self._connection.call(lambda engine: steer(engine, move, ids, reason=reason)))

    def send_event(self, name: str, value: object = None, *, key: str | Job[Any]) -> Job[Any] | None:
        """Tell the job that waits for the event `name` of `key`, and return its handle.

        `key` is a job, its id, or the key that it named. Where none waits yet the event is kept for
        the next that does, up to 30 days, and None is returned. Raises NotStorable for a value of
        more than 64 KB.
        """
        key = key if isinstance(key, str) else key.id
        where = f"the value of event {name!r}"
        data = self._connection.values.pack_event(value, where=where)
        event_id = fresh_id()
        taker = self._connection.call(
            lambda engine: engine.signal(event_id, storable(name), storable(key), data)
        )
        return Job(self._connection, taker) if taker else None


def _text(wanted: str) -> str:
    return storable(str(wanted or ""))
