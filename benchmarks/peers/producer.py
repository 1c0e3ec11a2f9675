"""Whoever asks a peer for jobs: `python -m benchmarks.peers.producer PEER WORK COUNT LIMIT_S`.

Runs in the peer's environment. Says "ready" when connected, waits for a line, works for LIMIT_S seconds
at most, and prints its answer as one line of JSON.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import random
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from benchmarks.peers import ledger
from benchmarks.peers.adapter import Adapter, NotOffered

PAGE: Final = 1_000
LEAST_PAGE: Final = 100
LONG_S: Final = 0.3
RESULT_S: Final = 10.0
HOUR_S: Final = 3_600.0
#: The share of a latency run's jobs that warm the way and are not counted.
WARM_UPS: Final = 10

Work = Callable[[Adapter, int, float], Awaitable[Any]]


async def main() -> None:
    """Do one piece of work."""
    peer, work, count, limit_s = sys.argv[1:]
    adapter: Adapter = importlib.import_module(f"benchmarks.peers.{peer}").Adapter()
    await adapter.open()
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        found = await WORKS[work](adapter, int(count), ledger.now() + float(limit_s))
    except NotOffered as reason:
        found = {"not_offered": str(reason)}
    print(json.dumps(found), flush=True)
    await adapter.close()


async def single(adapter: Adapter, count: int, until: float) -> dict[str, float]:
    """Enqueue one job per call."""
    return await _one_by_one(adapter, "noop", count, until=until)


async def _one_by_one(adapter: Adapter, task: str, count: int, *, until: float) -> dict[str, float]:
    began_at, moved = ledger.now(), 0
    while moved < count and ledger.now() < until:
        await adapter.enqueue(task)
        moved += 1
    return _moved(moved, began_at)


async def _in_pages(
    enqueue: Callable[[range], Awaitable[None]], count: int, until: float
) -> dict[str, float]:
    began_at, moved, page = ledger.now(), 0, LEAST_PAGE
    while moved < count and (at := ledger.now()) < until:
        stop = min(count, moved + page)
        await enqueue(range(moved, stop))
        moved = stop
        # Who needs long for a page is not asked for a larger one: it would pass the limit by far.
        page = PAGE if ledger.now() - at < LONG_S else LEAST_PAGE
    return _moved(moved, began_at)


def bulk(task: str) -> Work:
    """Return the work of enqueueing many jobs of a task."""

    async def work(adapter: Adapter, count: int, until: float) -> dict[str, float]:
        return await _in_pages(lambda page: adapter.enqueue_many(task, len(page)), count, until)

    return work


def fill(task: str) -> Work:
    """Return the same for a measure that only needs the jobs: one by one where there is no other way."""
    in_bulk = bulk(task)

    async def work(adapter: Adapter, count: int, until: float) -> dict[str, float]:
        try:
            moved: dict[str, float] = await in_bulk(adapter, count, until)
        except NotOffered:
            return await _one_by_one(adapter, task, count, until=until)
        return moved

    return work


async def schedule(adapter: Adapter, count: int, until: float) -> dict[str, float]:
    """Enqueue jobs that are due in an hour."""
    return await _in_pages(lambda page: adapter.schedule("noop", len(page), delay_s=HOUR_S), count, until)


async def embed(adapter: Adapter, count: int, until: float) -> dict[str, float]:
    """Enqueue jobs that embed, each other documents."""
    return await _in_pages(lambda page: adapter.enqueue_numbered("embed", page), count, until)


async def hold(adapter: Adapter, count: int, _until: float) -> dict[str, float]:
    """Enqueue one job that takes its time; `count` is its number."""
    began_at = ledger.now()
    await adapter.enqueue("hold", count)
    return _moved(1, began_at)


async def chord(adapter: Adapter, count: int, _until: float) -> dict[str, float]:
    """Enqueue one chord of so many members."""
    began_at = ledger.now()
    await adapter.chord(count)
    return _moved(count, began_at)


async def latency(adapter: Adapter, count: int, until: float) -> list[dict[str, float | None]]:
    """Enqueue one job at a time for an idle worker, and wait for its result, or else for its start."""
    path = Path(os.environ[ledger.FILE_VARIABLE])
    seen: list[tuple[float, float | None]] = []
    while len(seen) < count + WARM_UPS and ledger.now() < until:
        await asyncio.sleep(random.uniform(0.002, 0.012))
        sent_at = ledger.now()
        handle = await adapter.enqueue("stamp", len(seen))
        seen.append((sent_at, await _ended_at(adapter, handle, path, len(seen))))
    began = {entry.number: entry.began_at for entry in ledger.entries(path)}
    return [
        {"start_s": began[number] - sent_at, "result_s": None if ended is None else ended - sent_at}
        for number, (sent_at, ended) in enumerate(seen)
        if number >= WARM_UPS and number in began
    ]


async def _ended_at(adapter: Adapter, handle: Any, path: Path, before: int) -> float | None:
    try:
        await adapter.result(handle, timeout_s=RESULT_S)
    except NotOffered:
        give_up_at = ledger.now() + RESULT_S
        # Only a file says so, and the peer's own threads may need the loop.
        while ledger.count(path) <= before and ledger.now() < give_up_at:  # noqa: ASYNC110
            await asyncio.sleep(0.000_5)
        return None
    return ledger.now()


def _moved(jobs: int, began_at: float) -> dict[str, float]:
    return {"jobs": jobs, "began_at": began_at, "ended_at": ledger.now()}


WORKS: dict[str, Work] = {
    "single": single,
    "bulk": bulk("noop"),
    "fill_noop": fill("noop"),
    "fill_burn": fill("burn"),
    "fill_nap": fill("nap"),
    "schedule": schedule,
    "embed": embed,
    "hold": hold,
    "chord": chord,
    "latency": latency,
}

if __name__ == "__main__":
    asyncio.run(main())
