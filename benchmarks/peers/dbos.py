"""DBOS on PostgreSQL or SQLite: queued workflows. `python -m benchmarks.peers.dbos` is one executor."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

from dbos import DBOS, DBOSClient, DBOSConfig, run_dbos_database_migrations

from benchmarks.peers import adapter, bodies, coroutines

QUEUE = "bench"
VERSION = "1"

config: DBOSConfig = {
    "name": "bench",
    "system_database_url": adapter.URL,
    "application_version": VERSION,
    "executor_id": os.environ.get("BENCH_INDEX", "0"),
    "log_level": "ERROR",
}

for _name in ("noop", "burn", "stamp", "hold"):
    DBOS.workflow(name=_name)(getattr(bodies, _name))
DBOS.workflow(name="nap")(coroutines.nap)


def main() -> None:
    """Run queued workflows until told to stop."""
    DBOS(config=config)
    DBOS.launch()
    DBOS.register_queue(QUEUE)
    threading.Event().wait()


class Adapter(adapter.Adapter):
    """A client beside the application; many are sent by as many calls at once."""

    async def open(self) -> None:
        await asyncio.to_thread(run_dbos_database_migrations, adapter.URL)
        self._client = await asyncio.to_thread(lambda: DBOSClient(system_database_url=adapter.URL))

    async def close(self) -> None:
        await asyncio.to_thread(self._client.destroy)

    async def enqueue(self, task: str, *numbers: int) -> Any:
        return await self._client.enqueue_async(self._options(task), *numbers)

    async def enqueue_many(self, task: str, count: int) -> None:
        for first in range(0, count, 20):
            await asyncio.gather(*(self.enqueue(task) for _ in range(min(20, count - first))))

    async def schedule(self, task: str, count: int, *, delay_s: float) -> None:
        options = {**self._options(task), "delay_seconds": delay_s}
        for first in range(0, count, 20):
            sent = (self._client.enqueue_async(options) for _ in range(min(20, count - first)))
            await asyncio.gather(*sent)

    async def result(self, handle: Any, *, timeout_s: float) -> Any:
        return await asyncio.wait_for(handle.get_result(polling_interval_sec=0.005), timeout_s)

    def _options(self, task: str) -> Any:
        return {"workflow_name": task, "queue_name": QUEUE, "app_version": VERSION}


if __name__ == "__main__":
    main()
