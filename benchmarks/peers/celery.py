"""Celery on Redis: prefork, results kept, late acknowledgements, as its guide asks for."""

from __future__ import annotations

from typing import Any

from celery import Celery, chord, group

from benchmarks.peers import adapter, bodies

app = Celery("bench", broker=adapter.URL, backend=adapter.URL)
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    # What its guide names for many short jobs.
    worker_prefetch_multiplier=64,
    broker_connection_retry_on_startup=True,
    task_serializer="json",
    result_serializer="json",
)

TASKS = {
    name: app.task(getattr(bodies, name), name=name)
    for name in ("noop", "burn", "stamp", "hold", "nap", "embed", "finish")
}


class Adapter(adapter.Adapter):
    """Groups are its way to enqueue many."""

    async def enqueue(self, task: str, *numbers: int) -> Any:
        return TASKS[task].delay(*numbers)

    async def enqueue_many(self, task: str, count: int) -> None:
        group(TASKS[task].si() for _ in range(count)).apply_async()

    async def schedule(self, task: str, count: int, *, delay_s: float) -> None:
        group(TASKS[task].si() for _ in range(count)).apply_async(countdown=delay_s)

    async def result(self, handle: Any, *, timeout_s: float) -> Any:
        return handle.get(timeout=timeout_s)

    async def chord(self, count: int) -> None:
        chord((TASKS["noop"].si() for _ in range(count)), TASKS["finish"].si()).delay()
