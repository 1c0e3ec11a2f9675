"""procrastinate on PostgreSQL."""

from __future__ import annotations

from typing import Any

from procrastinate import App, PsycopgConnector

from benchmarks.peers import adapter, coroutines

app = App(connector=PsycopgConnector(conninfo=adapter.URL))

TASKS = {
    name: app.task(name=name)(getattr(coroutines, name)) for name in ("noop", "burn", "stamp", "hold", "nap")
}


class Adapter(adapter.Adapter):
    """It keeps no results."""

    async def open(self) -> None:
        await app.open_async()
        if not await app.check_connection_async():
            await app.schema_manager.apply_schema_async()

    async def close(self) -> None:
        await app.close_async()

    async def enqueue(self, task: str, *numbers: int) -> Any:
        return await TASKS[task].defer_async(**({"number": numbers[0]} if numbers else {}))

    async def enqueue_many(self, task: str, count: int) -> None:
        await TASKS[task].batch_defer_async(*({} for _ in range(count)))

    async def schedule(self, task: str, count: int, *, delay_s: float) -> None:
        later = TASKS[task].configure(schedule_in={"seconds": int(delay_s)})
        await later.batch_defer_async(*({} for _ in range(count)))
