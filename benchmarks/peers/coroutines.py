"""The same jobs as coroutine functions, for systems that run those."""

from __future__ import annotations

import asyncio
import os

from benchmarks.peers import bodies, ledger
from benchmarks.peers.ledger import Entry


async def noop() -> None:
    """Do nothing but say so."""
    ledger.mark()


async def burn() -> None:
    """Keep the processor busy for a millisecond."""
    bodies.burn()


async def stamp(number: int) -> int:
    """Say when it started, and return a result."""
    return bodies.stamp(number)


async def hold(number: int) -> None:
    """Say where it started, take three seconds, and say that it ended."""
    began_at = ledger.now()
    ledger.write(Entry(number, os.getpid(), began_at, 0.0))
    await asyncio.sleep(3)
    ledger.write(Entry(number, os.getpid(), began_at, ledger.now()))


async def nap() -> None:
    """Sleep for a tenth of a second."""
    await asyncio.sleep(bodies.NAP_S)
    ledger.mark()


async def embed(number: int) -> None:
    """Embed a hundred documents."""
    bodies.embed(number)


async def finish(*_results: object) -> None:
    """End a chord."""
    bodies.finish()
