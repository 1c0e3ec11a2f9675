"""saq on Redis or PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

from saq import Queue

from benchmarks.peers import adapter, coroutines

queue = Queue.from_url(adapter.URL or "redis://localhost")


def _with_context(name: str) -> tuple[str, Callable[..., Awaitable[Any]]]:
    body = getattr(coroutines, name)

    async def run(_context: dict[str, Any], **numbers: int) -> Any:
        return await body(**numbers)

    return name, run


settings = {
    "queue": queue,
    "functions": [_with_context(name) for name in ("noop", "burn", "stamp", "hold", "nap")],
    **({"concurrency": int(adapter.CONCURRENCY)} if adapter.CONCURRENCY else {}),
}


class Adapter(adapter.Adapter):
    """Many are sent by as many calls at once."""

    async def open(self) -> None:
        await queue.connect()

    async def close(self) -> None:
        await queue.disconnect()

    async def enqueue(self, task: str, *numbers: int) -> Any:
        return await queue.enqueue(task, **({"number": numbers[0]} if numbers else {}))

    async def enqueue_many(self, task: str, count: int) -> None:
        for first in range(0, count, 100):
            await asyncio.gather(*(queue.enqueue(task) for _ in range(min(100, count - first))))

    async def schedule(self, task: str, count: int, *, delay_s: float) -> None:
        due_at = int(time.time() + delay_s)
        for first in range(0, count, 100):
            await asyncio.gather(
                *(queue.enqueue(task, scheduled=due_at) for _ in range(min(100, count - first)))
            )

    async def result(self, handle: Any, *, timeout_s: float) -> Any:
        give_up_at = time.monotonic() + timeout_s
        while not handle.completed and time.monotonic() < give_up_at:
            # A job that ends between its look and its subscription is not announced; `map` looks again, too.
            with contextlib.suppress(TimeoutError):
                await handle.refresh(until_complete=0.5)
        return handle.result
