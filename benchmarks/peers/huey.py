"""huey on Redis, PostgreSQL or SQLite, which here waits for the disk. A job that is taken is deleted."""

from __future__ import annotations

from typing import Any

from huey import PostgresHuey, RedisHuey, SqliteHuey
from huey import chord as chord_of

from benchmarks.peers import adapter, bodies

if adapter.URL.startswith("sqlite"):
    queue = SqliteHuey("bench", filename=adapter.URL.removeprefix("sqlite:///"), fsync=True)
elif adapter.URL.startswith("postgresql"):
    queue = PostgresHuey("bench", dsn=adapter.URL)
else:
    # Each of its workers has a connection, and its client's pool has 100.
    queue = RedisHuey("bench", url=f"{adapter.URL or 'redis://'}?max_connections=1100")

TASKS = {
    name: queue.task(name=name)(getattr(bodies, name))
    for name in ("noop", "burn", "stamp", "hold", "nap", "finish")
}


class Adapter(adapter.Adapter):
    """It has no enqueue in bulk."""

    async def enqueue(self, task: str, *numbers: int) -> Any:
        return TASKS[task](*numbers)

    async def schedule(self, task: str, count: int, *, delay_s: float) -> None:
        for _ in range(count):
            TASKS[task].schedule(delay=delay_s)

    async def result(self, handle: Any, *, timeout_s: float) -> Any:
        # Its own first look comes after a tenth of a second.
        return handle.get(blocking=True, timeout=timeout_s, max_delay=0.005)

    async def chord(self, count: int) -> None:
        queue.enqueue(chord_of([TASKS["noop"].s() for _ in range(count)], TASKS["finish"].s()))
