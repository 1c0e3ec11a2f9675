"""The jobs of the torture: short ones, long ones, those that hold the interpreter, and failing ones.

Each writes its attempts into the ledger, which lies outside Cicely.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import time
from collections.abc import Iterator
from typing import Final

from cicely import Cicely, Context, Retry, current
from cicely.testing.ledger import Ledger

LEDGER_VARIABLE: Final = "CICELY_LEDGER"
QUEUE_VARIABLE: Final = "CICELY_TORTURE_QUEUE"

REMEMBER: Final = "1h"

app = Cicely("torture", os.environ.get("CICELY_URL", "memory://"))
queue = os.environ.get(QUEUE_VARIABLE, "torture")


@contextlib.contextmanager
def noted() -> Iterator[Context]:
    """Write this attempt into the ledger."""
    context = current()
    with Ledger(os.environ[LEDGER_VARIABLE]).attempt(context.job_id, context.fence):
        yield context


@app.task(queue=queue, remember_ids=REMEMBER)
def naps(seconds: float) -> int:
    """Sleep."""
    with noted():
        time.sleep(seconds)
        return os.getpid()


@app.task(queue=queue, remember_ids=REMEMBER)
async def naps_async(seconds: float) -> int:
    """Sleep beside others."""
    with noted():
        await asyncio.sleep(seconds)
        return os.getpid()


@app.task(queue=queue, remember_ids=REMEMBER)
def computes(seconds: float) -> int:
    """Keep a processor busy."""
    with noted():
        until = time.monotonic() + seconds
        total = 0
        while time.monotonic() < until:
            total += sum(range(500))
        return total


@app.task(queue=queue, remember_ids=REMEMBER)
def holds_gil(seconds: float) -> int:
    """Let no other thread of the process run, as a long call in C does."""
    with noted():
        ctypes.PyDLL(None).usleep(int(seconds * 1e6))
        return os.getpid()


@app.task(queue=queue, remember_ids=REMEMBER, isolate=True)
def naps_alone(seconds: float) -> int:
    """Sleep in a process of its own."""
    with noted():
        time.sleep(seconds)
        return os.getpid()


@app.task(queue=queue, remember_ids=REMEMBER, retry=Retry(attempts=3, backoff=0.05))
def fails_once() -> int:
    """Fail the first time."""
    with noted() as context:
        if context.attempt == 1:
            raise ConnectionError("the first attempt fails")
        return context.attempt


@app.task(queue=queue, remember_ids=REMEMBER)
def walks(steps: int) -> int:
    """Go step by step, keeping each; an attempt goes on where the one before was cut short."""
    with noted() as context:
        first = int(context.restored or 0)  # type: ignore[call-overload]
        for step in range(first, steps):
            time.sleep(0.01)
            context.checkpoint(step + 1)
        return steps


@app.task(queue=queue, remember_ids=REMEMBER)
def leaves_a_daemon(seconds: float) -> int:
    """Leave a process behind that no signal but one ends."""
    with noted():
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(600)
            os._exit(0)
        time.sleep(seconds)
        return os.getpid()
