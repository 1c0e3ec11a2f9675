"""dramatiq on Redis. No results by default; the job that times results keeps them."""

from __future__ import annotations

import asyncio
from typing import Any

from dramatiq import actor, group, set_broker
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import GroupCallbacks
from dramatiq.rate_limits.backends import RedisBackend as LimitsBackend
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend as ResultsBackend

from benchmarks.peers import adapter, bodies

broker = RedisBroker(url=adapter.URL or "redis://")
results = ResultsBackend(url=adapter.URL or "redis://")
broker.add_middleware(Results(backend=results))
broker.add_middleware(GroupCallbacks(LimitsBackend(url=adapter.URL or "redis://")))
set_broker(broker)

TASKS = {
    name: actor(getattr(bodies, name), actor_name=name, store_results=name == "stamp")
    for name in ("noop", "burn", "stamp", "hold", "nap", "finish")
}


class Adapter(adapter.Adapter):
    """It has no enqueue in bulk; a group sends its messages one after the other."""

    async def enqueue(self, task: str, *numbers: int) -> Any:
        return TASKS[task].send(*numbers)

    async def schedule(self, task: str, count: int, *, delay_s: float) -> None:
        for _ in range(count):
            TASKS[task].send_with_options(delay=int(delay_s * 1000))

    async def result(self, handle: Any, *, timeout_s: float) -> Any:
        return await asyncio.to_thread(handle.get_result, block=True, timeout=int(timeout_s * 1000))

    async def chord(self, count: int) -> None:
        members = group(TASKS["noop"].message() for _ in range(count))
        members.add_completion_callback(TASKS["finish"].message())
        members.run()
