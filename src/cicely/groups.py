"""The handle of a group: what `group(...).delay()` returns and `app.group(id)` finds."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import chain as flat
from typing import Any, Final, Generic, TypeVar, cast

import msgspec

from cicely.connection import Connection, connection_of
from cicely.core.job import Filter, Page
from cicely.core.job import Job as Record
from cicely.core.states import State
from cicely.core.text import storable
from cicely.core.units import Duration, duration_s
from cicely.errors import JobEnded
from cicely.handles import Job
from cicely.upkeep.steering import steer
from cicely.waiting import as_they_end, await_end_async, ends_in_order, refuse_inside_a_job
from cicely.workflow.outline import Many, Outline, Trail, all_of, leaves_of, shaped
from cicely.workflow.progress import WorkflowProgress, progress_of

R = TypeVar("R")

PAGE: Final = 500


class Steps(msgspec.Struct, frozen=True):
    """The steps of a chain up to the one before a handle's own."""

    connection: Connection
    steps: tuple[str | Many, ...]
    count: int

    def handle(self) -> Any:
        """Return the handle of the last of them."""
        earlier = msgspec.structs.replace(self, count=self.count - 1) if self.count > 1 else None
        return _handle(self.connection, self.steps[self.count - 1], earlier)

    def ids(self) -> tuple[str | Many, ...]:
        """Return what is to be kept of them."""
        return self.steps[: self.count]


def handle_of(connection: Connection, outline: Outline) -> Any:
    """Return the handle of what was enqueued: a Job, or a GroupJob."""
    if not isinstance(outline, Trail):
        return _handle(connection, outline, None)
    steps = outline.steps
    return _handle(connection, steps[-1], Steps(connection, steps, len(steps) - 1))


def _handle(connection: Connection, end: str | Many, earlier: Steps | None) -> Any:
    if isinstance(end, str):
        return Job(connection, end, earlier)
    return GroupJob(connection, end.id, end, earlier)


def restored_group(app_name: str, group_id: str, outline: Many | None) -> GroupJob[Any]:
    """Return the handle that was pickled, for the app of that name in this process."""
    return GroupJob(connection_of(app_name), group_id, outline)


class GroupJob(Generic[R]):
    """The jobs of a group, in their order. One that is found by its id knows them flat.

    Everything but `id` asks the engine anew.
    """

    __slots__ = ("_connection", "_earlier", "_outline", "id")

    def __init__(
        self, connection: Connection, group_id: str, outline: Many | None = None, earlier: Steps | None = None
    ) -> None:
        self._connection = connection
        self._outline = outline
        self._earlier = earlier
        self.id = group_id

    def __repr__(self) -> str:
        """Name the group."""
        return f"GroupJob({self.id!r})"

    def __eq__(self, other: object) -> bool:
        """Whether both are handles of one group."""
        return isinstance(other, GroupJob) and self.id == other.id

    def __hash__(self) -> int:
        """Follow from the id."""
        return hash(self.id)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as ids; the app of the same name is looked for where it is read."""
        return restored_group, (self._connection.name, self.id, self._outline)

    # --- its jobs -----------------------------------------------------------------------------
    @property
    def children(self) -> list[Any]:
        """The members' handles, in order: a Job each, or a GroupJob for a group within the group."""
        return [handle_of(self._connection, member) for member in self._members]

    @property
    def parent(self) -> Any:
        """The handle of what comes before the group in its chain, or None."""
        return self._earlier.handle() if self._earlier else None

    def __len__(self) -> int:
        """Return the number of members."""
        return len(self._members)

    def __iter__(self) -> Iterator[Any]:
        """Yield the members' handles."""
        return iter(self.children)

    @property
    def _members(self) -> tuple[Outline, ...]:
        if self._outline is not None:
            return self._outline.members
        found = [record.id for record in found_by(self._connection, Filter(group=self.id))]
        return tuple(reversed(found))

    def _ids(self) -> list[str]:
        return list(flat.from_iterable(map(leaves_of, self._members)))

    # --- its value ----------------------------------------------------------------------------
    def get(
        self, timeout: Duration | None = None, *, return_errors: bool = False, allow_blocking: bool = False
    ) -> list[R]:
        """Wait for all members and return their values in order; lists for groups within the group.

        Raises the first failure in order, as `Job.get` does, as soon as all before it have ended; with
        `return_errors` each failure stands in its place in the list. Raises TimeoutError (the jobs go
        on), and WouldDeadlock inside a running job unless `allow_blocking`.
        """
        if not allow_blocking:
            refuse_inside_a_job(self.id)
        timeout_s = None if timeout is None else duration_s(timeout, name="timeout")
        ended = ends_in_order(self._connection, self._ids(), timeout_s=timeout_s)
        return self._values(ended, return_errors=return_errors)

    def join(
        self, timeout: Duration | None = None, *, return_errors: bool = False, allow_blocking: bool = False
    ) -> list[R]:
        """As `get`; Celery's word for it."""
        return self.get(timeout, return_errors=return_errors, allow_blocking=allow_blocking)

    async def aget(
        self, timeout: Duration | None = None, *, return_errors: bool = False, allow_blocking: bool = False
    ) -> list[R]:
        """As `get`, for coroutines."""
        import asyncio

        if not allow_blocking:
            refuse_inside_a_job(self.id)
        timeout_s = None if timeout is None else duration_s(timeout, name="timeout")
        give_up_at = None if timeout_s is None else time.monotonic() + timeout_s
        ids = await asyncio.to_thread(self._ids)
        records: list[Record] = []
        for start in range(0, len(ids), PAGE):
            left_s = None if give_up_at is None else max(0.0, give_up_at - time.monotonic())
            page = ids[start : start + PAGE]
            waits = [await_end_async(self._connection, one, timeout_s=left_s) for one in page]
            records += await asyncio.gather(*waits)
        return await asyncio.to_thread(self._values, iter(records), return_errors=return_errors)

    def _values(self, ended: Iterator[Record], *, return_errors: bool) -> list[R]:
        values = {
            record.id: _value_of(self._connection, record, return_errors=return_errors) for record in ended
        }
        return cast(list[R], shaped(Many(self.id, self._members), values.__getitem__))

    def as_completed(self, timeout: Duration | None = None) -> Iterator[Job[Any]]:
        """Yield the members' jobs as they end. Raises TimeoutError; the jobs go on."""
        refuse_inside_a_job(self.id)
        timeout_s = None if timeout is None else duration_s(timeout, name="timeout")
        for record in as_they_end(self._connection, self._ids(), timeout_s=timeout_s):
            yield Job(self._connection, record.id)

    # --- how it stands ------------------------------------------------------------------------
    @property
    def progress(self) -> WorkflowProgress:
        """How many of its members' jobs have ended, of how many, and how many are in each state."""
        return progress_of(self._states())

    def ready(self) -> bool:
        """Whether all have ended."""
        return all(state.is_final for state in self._states())

    def successful(self) -> bool:
        """Whether all have succeeded."""
        return all(state is State.SUCCEEDED for state in self._states())

    def failed(self) -> bool:
        """Whether one has failed, or was cancelled or expired."""
        return any(state.is_final and state is not State.SUCCEEDED for state in self._states())

    def waiting(self) -> bool:
        """Whether one has not ended yet."""
        return not self.ready()

    def completed_count(self) -> int:
        """Return how many have succeeded."""
        return sum(state is State.SUCCEEDED for state in self._states())

    def _states(self) -> Iterator[State]:
        return (record.state for record in records_of(self._connection, self._ids()))

    # --- steering -----------------------------------------------------------------------------
    def cancel(self, reason: str = "") -> int:
        """Cancel the members and all steps before them within the group; return how many were."""
        # The last first, so that none ends because of one before it.
        ids = list(flat.from_iterable(map(all_of, self._members)))[::-1]
        return steer_all(self._connection, "cancel", ids, reason=reason)

    def revive(self) -> int:
        """Run again what failed, expired or was cancelled; return how many jobs come back.

        Where a member was cancelled because a job before it failed, that job is run again.
        """
        return revive_all(self._connection, records_of(self._connection, self._ids()))


def _value_of(connection: Connection, record: Record, *, return_errors: bool) -> Any:
    try:
        return Job[Any](connection, record.id).value_of(record)
    except JobEnded as error:
        if return_errors:
            return error
        raise


def records_of(connection: Connection, ids: Sequence[str]) -> Iterator[Record]:
    """Yield the jobs as they are now, without those that were swept."""
    for start in range(0, len(ids), PAGE):
        yield from filter(None, _get(connection, ids[start : start + PAGE]))


def _get(connection: Connection, page: Sequence[str]) -> list[Record | None]:
    return connection.call(lambda engine: engine.get(page))


def found_by(connection: Connection, where: Filter) -> Iterator[Record]:
    """Yield the jobs that match, newest first, read page by page."""
    cursor: str | None = ""
    while cursor is not None:
        page = _find(connection, where, cursor)
        yield from page.jobs
        cursor = page.cursor


def _find(connection: Connection, where: Filter, cursor: str) -> Page:
    return connection.call(lambda engine: engine.find(where, limit=PAGE, cursor=cursor or None))


def steer_all(connection: Connection, move: str, ids: Sequence[str], *, reason: str = "") -> int:
    """Move jobs, in pages; return how many were, or, revived, come back."""
    pages = (ids[start : start + PAGE] for start in range(0, len(ids), PAGE))
    return sum(len(_steer(connection, move, page, reason=reason)) for page in pages)


def _steer(connection: Connection, move: str, page: Sequence[str], *, reason: str) -> list[str]:
    return connection.call(lambda engine: steer(engine, move, page, reason=storable(reason)))


def revive_all(connection: Connection, records: Iterator[Record]) -> int:
    """Revive what ended without success: each job, or the one because of which it was cancelled."""
    unwell = [one.id for one in records if one.state.is_final and one.state is not State.SUCCEEDED]
    return steer_all(connection, "revive", unwell)
