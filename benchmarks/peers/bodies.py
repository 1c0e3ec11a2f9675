"""What the jobs of every system do, as plain functions."""

from __future__ import annotations

import os
import time
from typing import Final

from benchmarks.peers import ledger
from benchmarks.peers.embedding import embed_documents
from benchmarks.peers.ledger import Entry

BURN_S: Final = 0.001
NAP_S: Final = 0.1


def noop() -> None:
    """Do nothing but say so."""
    ledger.mark()


def burn() -> None:
    """Keep the processor busy for a millisecond."""
    until = time.thread_time() + BURN_S
    while time.thread_time() < until:
        pass
    ledger.mark()


def stamp(number: int) -> int:
    """Say when it started, and return a result."""
    began_at = ledger.now()
    ledger.write(Entry(number, os.getpid(), began_at, began_at))
    return number


def hold(number: int) -> None:
    """Say where it started, take three seconds, and say that it ended."""
    began_at = ledger.now()
    ledger.write(Entry(number, os.getpid(), began_at, 0.0))
    time.sleep(3)
    ledger.write(Entry(number, os.getpid(), began_at, ledger.now()))


def nap() -> None:
    """Sleep for a tenth of a second."""
    time.sleep(NAP_S)
    ledger.mark()


def embed(number: int) -> None:
    """Embed a hundred documents."""
    began_at = ledger.now()
    embed_documents(number)
    ledger.write(Entry(number, os.getpid(), began_at, ledger.now()))


def finish(*_results: object) -> None:
    """End a chord."""
    at = ledger.now()
    ledger.write(Entry(0, os.getpid(), at, at))
