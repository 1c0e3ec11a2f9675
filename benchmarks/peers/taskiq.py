"""taskiq on Redis streams, which acknowledge, with results; a dead worker's are due after ten minutes."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone
from typing import Any

from taskiq_redis import ListRedisScheduleSource, RedisAsyncResultBackend, RedisStreamBroker

from benchmarks.peers import adapter, coroutines

_URL = adapter.URL or "redis://"
# From the start of the stream: its default skips what was sent before a first worker came.
broker = RedisStreamBroker(_URL, consumer_id="0").with_result_backend(RedisAsyncResultBackend(_URL))
schedules = ListRedisScheduleSource(_URL)

TASKS = {
    name: broker.register_task(getattr(coroutines, name), task_name=name)
    for name in ("noop", "burn", "stamp", "hold", "nap")
}


class Adapter(adapter.Adapter):
    """Many are sent by as many calls at once."""

    async def open(self) -> None:
        await broker.startup()

    async def close(self) -> None:
        await broker.shutdown()

    async def enqueue(self, task: str, *numbers: int) -> Any:
        return await TASKS[task].kiq(*numbers)

    async def enqueue_many(self, task: str, count: int) -> None:
        for first in range(0, count, 100):
            await asyncio.gather(*(TASKS[task].kiq() for _ in range(min(100, count - first))))

    async def schedule(self, task: str, count: int, *, delay_s: float) -> None:
        due_at = datetime.now(timezone.utc) + timedelta(seconds=delay_s)  # noqa: UP017
        for _ in range(count):
            await TASKS[task].schedule_by_time(schedules, due_at)

    async def result(self, handle: Any, *, timeout_s: float) -> Any:
        # Its own pause between looks is 0.2 s.
        return await handle.wait_result(check_interval=0.001, timeout=timeout_s)
