"""Cicely, at its defaults."""

from __future__ import annotations

from typing import Any

from benchmarks.peers import adapter, bodies, coroutines
from cicely import Cicely, chord

app = Cicely("bench", url=adapter.URL or None)

TASKS: dict[str, Any] = {
    "noop": app.task(bodies.noop),
    "burn": app.task(bodies.burn),
    "stamp": app.task(bodies.stamp),
    "hold": app.task(bodies.hold),
    "nap": app.task(coroutines.nap),
    "embed": app.task(bodies.embed),
    "finish": app.task(bodies.finish),
}


class Adapter(adapter.Adapter):
    """Everything by the public names."""

    async def open(self) -> None:
        app.engine.open()

    async def close(self) -> None:
        app.close()

    async def enqueue(self, task: str, *numbers: int) -> Any:
        return TASKS[task].delay(*numbers)

    async def enqueue_many(self, task: str, count: int) -> None:
        TASKS[task].delay_many(() for _ in range(count))

    async def enqueue_numbered(self, task: str, numbers: range) -> None:
        TASKS[task].delay_many((number,) for number in numbers)

    async def schedule(self, task: str, count: int, *, delay_s: float) -> None:
        TASKS[task].options(countdown=delay_s).delay_many(() for _ in range(count))

    async def result(self, handle: Any, *, timeout_s: float) -> Any:
        return handle.get(timeout=timeout_s)

    async def chord(self, count: int) -> None:
        noop, finish = TASKS["noop"], TASKS["finish"]
        chord((noop.si() for _ in range(count)), finish.si()).delay()
