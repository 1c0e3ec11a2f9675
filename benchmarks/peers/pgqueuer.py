"""pgqueuer on PostgreSQL by asyncpg. `python -m benchmarks.peers.pgqueuer` is one worker.

It is started by its API: its command fails with the version of typer that is pinned here.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import asyncpg
import uvloop
from pgqueuer import PgQueuer, Queries
from pgqueuer.core.completion import CompletionWatcher

from benchmarks.peers import adapter, coroutines


async def main() -> None:
    """Run jobs until told to stop."""
    connection = await asyncpg.connect(adapter.URL)
    queuer = PgQueuer.from_asyncpg_connection(connection)
    for name in ("noop", "burn", "stamp", "hold", "nap"):
        queuer.entrypoint(name)(_with_job(name))
    if adapter.CONCURRENCY:
        at_once = int(adapter.CONCURRENCY)
        await queuer.run(batch_size=at_once, max_concurrent_tasks=2 * at_once)
    else:
        await queuer.run()


def _with_job(name: str) -> Callable[[Any], Any]:
    body = getattr(coroutines, name)

    async def run(job: Any) -> None:
        await body(*([int(job.payload)] if job.payload else []))

    return run


class Adapter(adapter.Adapter):
    """Its watcher says that a job ended; it keeps no results."""

    async def open(self) -> None:
        self._connection = await asyncpg.connect(adapter.URL)
        self._queries = Queries.from_asyncpg_connection(self._connection)
        if not await self._queries.has_table("pgqueuer"):
            await self._queries.install()

    async def close(self) -> None:
        await self._connection.close()

    async def enqueue(self, task: str, *numbers: int) -> Any:
        payload = str(numbers[0]).encode() if numbers else None
        return (await self._queries.enqueue(task, payload))[0]

    async def enqueue_many(self, task: str, count: int) -> None:
        await self._queries.enqueue([task] * count, [None] * count, [0] * count)

    async def schedule(self, task: str, count: int, *, delay_s: float) -> None:
        later: list[timedelta | None] = [timedelta(seconds=delay_s)] * count
        await self._queries.enqueue([task] * count, [None] * count, [0] * count, later)

    async def result(self, handle: Any, *, timeout_s: float) -> Any:
        async with CompletionWatcher(self._queries.driver, queries=self._queries) as watcher:
            return await watcher.wait_for(handle)


if __name__ == "__main__":
    uvloop.run(main())
