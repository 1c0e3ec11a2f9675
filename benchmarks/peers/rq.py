"""RQ on Redis: a pool of workers, each of which forks a process per job unless its class says otherwise."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from redis import Redis
from rq import Queue

from benchmarks.peers import adapter, bodies

connection = Redis.from_url(adapter.URL or "redis://")
queue = Queue("default", connection=connection)


class Adapter(adapter.Adapter):
    """Functions by reference."""

    async def enqueue(self, task: str, *numbers: int) -> Any:
        return queue.enqueue(getattr(bodies, task), *numbers)

    async def enqueue_many(self, task: str, count: int) -> None:
        queue.enqueue_many([Queue.prepare_data(getattr(bodies, task)) for _ in range(count)])

    async def enqueue_numbered(self, task: str, numbers: range) -> None:
        function = getattr(bodies, task)
        queue.enqueue_many([Queue.prepare_data(function, args=(number,)) for number in numbers])

    async def schedule(self, task: str, count: int, *, delay_s: float) -> None:
        for _ in range(count):
            queue.enqueue_in(timedelta(seconds=delay_s), getattr(bodies, task))

    async def result(self, handle: Any, *, timeout_s: float) -> Any:
        found = await asyncio.to_thread(handle.latest_result, timeout=int(timeout_s))
        return None if found is None else found.return_value

    async def chord(self, count: int) -> None:
        jobs = queue.enqueue_many([Queue.prepare_data(bodies.noop) for _ in range(count)])
        queue.enqueue(bodies.finish, depends_on=jobs)
