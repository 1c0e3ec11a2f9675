"""Waiting until jobs end: for a bell, or for the next look, whichever comes first."""

from __future__ import annotations

import select
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Final

from cicely.core.job import Job as Record
from cicely.engines.contract import Bell
from cicely.errors import JobNotFound, UsageError, WouldDeadlock

if TYPE_CHECKING:
    import asyncio

    from cicely.connection import Connection

#: A bell is a hint: look at least so often.
LOOK_S: Final = 1.0
#: How often to look where an engine has no bells.
_POLL_S: Final = 0.05
#: So many jobs are looked at by one call, and a look that takes longer than this is followed by a rest.
_PAGE: Final = 200
_DEAR_S: Final = 0.005


def look(connection: Connection, job_id: str) -> Record:
    """Return the job as it is now. Raises JobNotFound."""
    [record] = connection.call(lambda engine: engine.get([job_id]))
    if record is None:
        raise _not_found(job_id)
    return record


def _not_found(job_id: str) -> JobNotFound:
    return JobNotFound(
        f"no job has the id {job_id}: it was swept after its retention, or never enqueued "
        "(a batch enqueues when it is left)"
    )


def await_end(connection: Connection, job_id: str, *, timeout_s: float | None) -> Record:
    """Return the job once it has ended. Raises TimeoutError; the job goes on."""
    give_up_at = None if timeout_s is None else time.monotonic() + timeout_s
    record = look(connection, job_id)
    if record.state.is_final:
        return record
    bell = connection.call(lambda engine: engine.result_bell([job_id]))
    try:
        while True:
            bell.arm()
            record = look(connection, job_id)
            if record.state.is_final:
                return record
            rung(bell, _wait_s(record, give_up_at, timeout_s))
            bell.disarm()
            # Most often it rang for the end: to arm it before that is seen would be for nothing.
            record = look(connection, job_id)
            if record.state.is_final:
                return record
    finally:
        bell.close()


def ends_in_order(connection: Connection, ids: Sequence[str], *, timeout_s: float | None) -> Iterator[Record]:
    """Yield jobs in their order, each once it has ended. Raises TimeoutError; the jobs go on."""
    give_up_at = None if timeout_s is None else time.monotonic() + timeout_s
    for start in range(0, len(ids), _PAGE):
        left = list(ids[start : start + _PAGE])
        with closing(_looks(connection, left, give_up_at=give_up_at, timeout_s=timeout_s)) as looks:
            for records in looks:
                for record in records:
                    if not record.state.is_final:
                        break
                    left.remove(record.id)
                    yield record


def as_they_end(connection: Connection, ids: Sequence[str], *, timeout_s: float | None) -> Iterator[Record]:
    """Yield jobs as they end. Raises TimeoutError; the jobs go on."""
    give_up_at = None if timeout_s is None else time.monotonic() + timeout_s
    left = list(ids)
    with closing(_looks(connection, left, give_up_at=give_up_at, timeout_s=timeout_s)) as looks:
        for records in looks:
            ended = [record for record in records if record.state.is_final]
            gone = {record.id for record in ended}
            left[:] = [job_id for job_id in left if job_id not in gone]
            yield from ended


def _looks(
    connection: Connection, left: list[str], *, give_up_at: float | None, timeout_s: float | None
) -> Generator[list[Record]]:
    """Yield the jobs that are `left` whenever there may be news; whoever takes them shortens the list."""
    watched: frozenset[str] = frozenset()
    bell: Bell | None = None
    try:
        while left:
            if bell is not None:
                bell.arm()
            began_at = time.monotonic()
            ids = list(left)
            live: list[Record] = []
            for start in range(0, len(ids), _PAGE):
                records = _records(connection, ids[start : start + _PAGE])
                live += [record for record in records if not record.state.is_final][:1]
                yield records
            if not live or len(left) < len(ids):
                continue
            if bell is None or watched.isdisjoint(left):
                watched = frozenset(left[:_PAGE])
                bell = _changed(connection, bell, watched)
                continue
            spent_s = time.monotonic() - began_at
            rung(bell, _wait_s(live[0], give_up_at, timeout_s))
            bell.disarm()
            if spent_s > _DEAR_S:
                # So looking takes half the time at most, however often it rings.
                time.sleep(min(spent_s, LOOK_S))
    finally:
        if bell is not None:
            bell.close()


def _changed(connection: Connection, bell: Bell | None, ids: frozenset[str]) -> Bell:
    if bell is not None:
        bell.close()
    return connection.call(lambda engine: engine.result_bell(ids))


def _records(connection: Connection, page: Sequence[str]) -> list[Record]:
    records: list[Record] = []
    for job_id, record in zip(page, connection.call(lambda engine: engine.get(page)), strict=True):
        if record is None:
            raise _not_found(job_id)
        records.append(record)
    return records


async def await_end_async(connection: Connection, job_id: str, *, timeout_s: float | None) -> Record:
    """As `await_end`, without blocking the event loop."""
    import asyncio

    try:
        return await asyncio.wait_for(_Vigil.here(connection).end_of(job_id), timeout_s)
    except TimeoutError:
        record = await asyncio.to_thread(look, connection, job_id)
        if record.state.is_final:
            return record
        raise _timeout(record, timeout_s or 0.0) from None


class _Vigil:
    """All jobs that one event loop waits for: one bell for them, and one look at all of them."""

    def __init__(self, key: tuple[asyncio.AbstractEventLoop, Connection]) -> None:
        import asyncio

        self._key = key
        self._loop, self._connection = key
        self._waiting: dict[str, list[asyncio.Future[Record]]] = {}
        self._news = asyncio.Event()
        self._task = self._loop.create_task(self._keep())

    @classmethod
    def here(cls, connection: Connection) -> _Vigil:
        """Return the running loop's, a new one where it waits for nothing yet."""
        import asyncio

        key = (asyncio.get_running_loop(), connection)
        vigil = _vigils.get(key)
        if vigil is None:
            vigil = _vigils[key] = cls(key)
        return vigil

    def end_of(self, job_id: str) -> asyncio.Future[Record]:
        """Return what becomes the job once it has ended."""
        future: asyncio.Future[Record] = self._loop.create_future()
        self._waiting.setdefault(job_id, []).append(future)
        self._news.set()
        return future

    async def _keep(self) -> None:
        try:
            # Once round the loop, so that all that `gather` starts is waited for together.
            await self._turn()
            await self._watch()
        except Exception as error:  # noqa: BLE001  (whoever waits gets it)
            for job_id in list(self._waiting):
                self._end(job_id, error)
        finally:
            _vigils.pop(self._key, None)
            for futures in self._waiting.values():
                for future in futures:
                    future.cancel()

    async def _turn(self) -> None:
        import asyncio

        await asyncio.sleep(0)
        self._forget_the_gone()

    async def _watch(self) -> None:
        import asyncio

        while self._waiting:
            ids = frozenset(self._waiting)
            bell = await asyncio.to_thread(
                self._connection.call, lambda engine, ids=ids: engine.result_bell(ids)
            )
            try:
                while self._waiting and self._waiting.keys() <= ids:
                    await self._look_and_wait(bell)
            finally:
                bell.close()

    async def _look_and_wait(self, bell: Bell) -> None:
        import asyncio

        self._news.clear()
        bell.arm()
        started_at = time.monotonic()
        await self._look()
        spent_s = time.monotonic() - started_at
        if spent_s > _DEAR_S:
            # So looking takes half the time at most, however often it rings.
            await asyncio.sleep(min(spent_s, LOOK_S))
        if self._waiting and not self._news.is_set():
            await self._rung(bell)
        bell.disarm()
        self._forget_the_gone()

    async def _look(self) -> None:
        import asyncio

        ids = list(self._waiting)
        for start in range(0, len(ids), _PAGE):
            page = ids[start : start + _PAGE]
            records = await asyncio.to_thread(
                self._connection.call, lambda engine, page=page: engine.get(page)
            )
            for job_id, record in zip(page, records, strict=True):
                if record is None:
                    self._end(job_id, _not_found(job_id))
                elif record.state.is_final:
                    self._end(job_id, record)

    async def _rung(self, bell: Bell) -> None:
        import asyncio

        file = bell.fileno()
        if file >= 0:
            self._loop.add_reader(file, self._news.set)
        try:
            await asyncio.wait_for(self._news.wait(), LOOK_S if file >= 0 else _POLL_S)
        except TimeoutError:
            return
        finally:
            if file >= 0:
                self._loop.remove_reader(file)

    def _end(self, job_id: str, end: Record | Exception) -> None:
        for future in self._waiting.pop(job_id, ()):
            if future.done():
                continue
            if isinstance(end, Exception):
                future.set_exception(end)
            else:
                future.set_result(end)

    def _forget_the_gone(self) -> None:
        """Drop those who were cancelled or waited long enough."""
        for job_id, futures in list(self._waiting.items()):
            futures[:] = [future for future in futures if not future.done()]
            if not futures:
                del self._waiting[job_id]


#: Of each event loop that waits in this process.
_vigils: dict[tuple[asyncio.AbstractEventLoop, Connection], _Vigil] = {}


def _wait_s(record: Record, give_up_at: float | None, timeout_s: float | None) -> float:
    if give_up_at is None:
        return LOOK_S
    left_s = give_up_at - time.monotonic()
    if left_s <= 0:
        raise _timeout(record, timeout_s or 0.0)
    return min(LOOK_S, left_s)


def _timeout(record: Record, timeout_s: float) -> TimeoutError:
    return TimeoutError(
        f"job {record.id} ({record.task}) is {record.state} after {timeout_s:g} s; it goes on"
    )


def rung(bell: Bell, wait_s: float) -> None:
    """Wait for a ring, at most `wait_s` seconds."""
    if bell.fileno() < 0:
        time.sleep(min(wait_s, _POLL_S))
        return
    poller = select.poll()
    poller.register(bell.fileno(), select.POLLIN)
    poller.poll(wait_s * 1000)


def refuse_inside_a_job(job_id: str) -> None:
    """Raise WouldDeadlock where a job's own code asks."""
    from cicely.worker.context import context_or_none

    context = context_or_none()
    if context is None:
        return
    if context.job_id == job_id:
        raise UsageError(f"job {job_id} waits for its own result")
    raise WouldDeadlock(
        f"job {context.job_id} waits for job {job_id} and may hold the slot that it needs; let a task "
        "enqueue and return, or pass allow_blocking=True where the two have workers of their own"
    )
