"""streaq on Redis streams."""

from __future__ import annotations

from typing import Any

from streaq import Worker

from benchmarks.peers import adapter, coroutines

_OPTIONS = {"concurrency": int(adapter.CONCURRENCY)} if adapter.CONCURRENCY else {}
worker: Worker[None] = Worker(redis_url=adapter.URL or "redis://localhost:6379", **_OPTIONS)

TASKS = {
    name: worker.task(name=name)(getattr(coroutines, name))
    for name in ("noop", "burn", "stamp", "hold", "nap", "finish")
}


class Adapter(adapter.Adapter):
    """Many by one pipeline."""

    async def open(self) -> None:
        await worker.__aenter__()

    async def close(self) -> None:
        await worker.__aexit__(None, None, None)

    async def enqueue(self, task: str, *numbers: int) -> Any:
        return await TASKS[task].enqueue(*numbers)

    async def enqueue_many(self, task: str, count: int) -> None:
        await worker.enqueue_many([TASKS[task].enqueue() for _ in range(count)])

    async def schedule(self, task: str, count: int, *, delay_s: float) -> None:
        await worker.enqueue_many([TASKS[task].enqueue().start(delay=int(delay_s)) for _ in range(count)])

    async def result(self, handle: Any, *, timeout_s: float) -> Any:
        return await handle.result(timeout=int(timeout_s))

    async def chord(self, count: int) -> None:
        members = [TASKS["noop"].enqueue() for _ in range(count)]
        await worker.enqueue_many(members)
        await TASKS["finish"].enqueue().start(after=[member.id for member in members])
